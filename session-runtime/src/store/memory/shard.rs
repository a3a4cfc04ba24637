//! A part of the records, behind one lock, and when they are due to be swept.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::collections::hash_map::{Entry as Place, HashMap};
use std::sync::Arc;

use super::{Books, Budget, NoRoom};
use crate::change::{Change, Committed, Kind, SlotOp};
use crate::clock::Timestamp;
use crate::key::{Key, UserId};
use crate::record::{Ended, Record, Slot, State, slot_size};
use crate::store::remembered::{Remembered, Token};

// What things take besides the bytes of names and values. Estimates, on the high side: an allocation each,
// the tables' spare room, the entry in the heap.
const ENTRY: usize = 320;
const SLOT: usize = 160;
const OWNED: usize = 192;
const COMMIT: usize = 40;

#[derive(Default)]
pub(super) struct Shard {
    entries: HashMap<Key, Entry>,
    deadlines: BinaryHeap<Reverse<Deadline>>,
    remembered: Remembered,
}

/// A record and what is kept with it.
pub(super) struct Entry {
    record: Arc<Record>,
    owner: Option<UserId>,
    /// What it takes of the budget.
    pub(super) cost: usize,
    /// When the heap has it due: never after it expires, maybe before.
    due: Timestamp,
}

/// When to look at a record for sweeping.
///
/// Extending a record leaves its deadline where it is; it is set anew when it comes up. So each record has
/// one that counts, and those left over from an earlier expiry are told by their time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    at: Timestamp,
    key: Key,
}

impl Entry {
    fn new(record: Record, owner: Option<UserId>) -> Self {
        let cost = ENTRY + record_cost(&record) + owner_cost(owner.as_ref());
        Self {
            due: record.expires,
            record: Arc::new(record),
            owner,
            cost,
        }
    }

    /// What the entry will take of the budget once `change` is applied to it.
    fn cost_after(&self, change: &Change) -> usize {
        let mut cost = self.cost;
        for slot in &change.slots {
            let held = || {
                self.record
                    .slot(slot.name.as_str())
                    .map_or(0, |slot| slot_cost(slot))
            };
            match &slot.to {
                SlotOp::Set(new) => cost = (cost + slot_cost(new)).saturating_sub(held()),
                SlotOp::Drop => cost = cost.saturating_sub(held()),
                SlotOp::Retime(_) => {}
            }
        }
        match &change.owner {
            Some(owner) => cost + owner_cost(Some(owner)) - owner_cost(self.owner.as_ref()),
            None => cost,
        }
    }
}

fn record_cost(record: &Record) -> usize {
    let reason = match &record.state {
        State::Ended(Ended::Deleted(reason)) => reason.len(),
        _ => 0,
    };
    reason
        + record
            .slots()
            .iter()
            .map(|slot| slot_cost(slot))
            .sum::<usize>()
}

fn slot_cost(slot: &Slot) -> usize {
    SLOT + slot_size(slot)
}

fn owner_cost(owner: Option<&UserId>) -> usize {
    owner.map_or(0, |owner| OWNED + 2 * owner.as_str().len())
}

impl Shard {
    pub(super) fn record(&self, key: &Key) -> Option<Arc<Record>> {
        self.entries.get(key).map(|entry| Arc::clone(&entry.record))
    }

    pub(super) fn holds_live(&self, key: &Key, now: Timestamp) -> bool {
        self.entries
            .get(key)
            .is_some_and(|entry| entry.record.is_live(now))
    }

    /// What the entry under `key` takes of the budget.
    pub(super) fn cost(&self, key: &Key) -> usize {
        self.entries.get(key).map_or(0, |entry| entry.cost)
    }

    /// Creates, updates or ends the record under `key`.
    pub(super) fn commit(
        &mut self,
        key: &Key,
        change: &Change,
        budget: &Budget<'_>,
    ) -> Result<Committed, NoRoom> {
        if self.recalls(key, change, budget.books) {
            return Ok(Committed::Applied);
        }
        let committed = match change.tombstone() {
            Some(tombstone) => self.end(key, change, tombstone, budget),
            None if change.kind == Kind::Create => self.create(key, change, budget)?,
            None => self.update(key, change, budget)?,
        };
        if committed == Committed::Applied {
            self.remember(key, change, budget.books);
        }
        Ok(committed)
    }

    /// Whether the change was applied before.
    fn recalls(&mut self, key: &Key, change: &Change, books: &Books) -> bool {
        if let Some(forgotten) = self.remembered.forget(change.now) {
            books.remove(forgotten * COMMIT);
        }
        self.remembered.has(Token::new(key, change.id))
    }

    pub(super) fn remember(&mut self, key: &Key, change: &Change, books: &Books) {
        self.remembered.insert(Token::new(key, change.id));
        books.add(COMMIT);
    }

    fn create(
        &mut self,
        key: &Key,
        change: &Change,
        budget: &Budget<'_>,
    ) -> Result<Committed, NoRoom> {
        let held = self.entries.get(key);
        if let Some(refusal) = change.decide(held.map(|entry| &entry.record)) {
            return Ok(refusal);
        }
        let mut record = Record::new(change.now, change.now);
        change.apply(&mut record);
        let entry = Entry::new(record, change.owner.clone());
        budget.exchange(held.map_or(0, |entry| entry.cost), entry.cost)?;
        self.put(key, entry, budget.books);
        Ok(Committed::Applied)
    }

    fn update(
        &mut self,
        key: &Key,
        change: &Change,
        budget: &Budget<'_>,
    ) -> Result<Committed, NoRoom> {
        let Some(entry) = self.entries.get_mut(key) else {
            return Ok(Committed::Gone);
        };
        if let Some(refusal) = change.decide(Some(&entry.record)) {
            return Ok(refusal);
        }
        let cost = entry.cost_after(change);
        budget.exchange(entry.cost, cost)?;
        entry.cost = cost;
        relist(key, &mut entry.owner, change.owner.as_ref(), budget.books);
        change.apply(Arc::make_mut(&mut entry.record));
        if entry.record.expires < entry.due {
            self.bring_forward(key);
        }
        Ok(Committed::Applied)
    }

    fn end(
        &mut self,
        key: &Key,
        change: &Change,
        tombstone: Record,
        budget: &Budget<'_>,
    ) -> Committed {
        let held = self.entries.get(key);
        if let Some(refusal) = change.decide(held.map(|entry| &entry.record)) {
            return refusal;
        }
        let entry = Entry::new(tombstone, None);
        budget.insist(held.map_or(0, |entry| entry.cost), entry.cost);
        self.put(key, entry, budget.books);
        Committed::Applied
    }

    /// What is to go to the new key of a move and what is to stay, unless there is an answer without it.
    pub(super) fn depart(
        &mut self,
        key: &Key,
        change: &Change,
        books: &Books,
    ) -> Result<(Entry, Entry), Committed> {
        if self.recalls(key, change, books) {
            return Err(Committed::Applied);
        }
        let held = self.entries.get(key);
        if let Some(refusal) = change.decide(held.map(|entry| &entry.record)) {
            return Err(refusal);
        }
        let (Some(entry), Some(tombstone)) = (held, change.tombstone()) else {
            return Err(Committed::Gone);
        };
        let mut record = Record::clone(&entry.record);
        change.apply(&mut record);
        let owner = change.owner.as_ref().or(entry.owner.as_ref());
        Ok((
            Entry::new(record, owner.cloned()),
            Entry::new(tombstone, None),
        ))
    }

    /// Puts `entry` under `key`, in place of whatever is there. Its cost is on the books already.
    pub(super) fn put(&mut self, key: &Key, entry: Entry, books: &Books) {
        if let Some(owner) = &entry.owner {
            books.owners.list(owner, key);
        }
        let expires = entry.record.expires;
        match self.entries.entry(key.clone()) {
            Place::Vacant(place) => {
                place.insert(entry);
                self.deadlines.push(Reverse(Deadline {
                    at: expires,
                    key: key.clone(),
                }));
            }
            Place::Occupied(mut place) => {
                let owner = entry.owner.clone();
                let due = place.get().due;
                let old = place.insert(Entry { due, ..entry });
                if old.owner != owner
                    && let Some(owner) = &old.owner
                {
                    books.owners.unlist(owner, key);
                }
                self.bring_forward(key);
            }
        }
    }

    /// The record that was moved away from `key` stops leading to its new one at `until`.
    pub(super) fn retire(&mut self, key: &Key, until: Timestamp) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if matches!(entry.record.state, State::Moved(_)) && until < entry.record.expires {
            Arc::make_mut(&mut entry.record).expires = until;
            self.bring_forward(key);
        }
    }

    /// Sees to it that the record is due no later than it expires.
    fn bring_forward(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.record.expires < entry.due {
            entry.due = entry.record.expires;
            self.deadlines.push(Reverse(Deadline {
                at: entry.due,
                key: key.clone(),
            }));
        }
    }

    /// Deletes at most `limit` records that have expired at `cutoff`, and says how many.
    pub(super) fn sweep(&mut self, cutoff: Timestamp, limit: usize, books: &Books) -> usize {
        if let Some(forgotten) = self.remembered.forget(cutoff) {
            books.remove(forgotten * COMMIT);
        }
        let mut swept = 0;
        while swept < limit
            && let Some(deadline) = self.next_due(cutoff)
        {
            swept += usize::from(self.expire(deadline, cutoff, books));
        }
        swept
    }

    fn next_due(&mut self, cutoff: Timestamp) -> Option<Deadline> {
        let first = self
            .deadlines
            .peek_mut()
            .filter(|first| first.0.at <= cutoff)?;
        Some(PeekMut::pop(first).0)
    }

    /// Deletes the record if it has expired; if it has not, sets its deadline anew.
    fn expire(&mut self, mut deadline: Deadline, cutoff: Timestamp, books: &Books) -> bool {
        let Place::Occupied(mut place) = self.entries.entry(deadline.key.clone()) else {
            return false;
        };
        let entry = place.get_mut();
        if entry.due != deadline.at {
            return false;
        }
        if entry.record.expires > cutoff {
            entry.due = entry.record.expires;
            deadline.at = entry.due;
            self.deadlines.push(Reverse(deadline));
            return false;
        }
        let entry = place.remove();
        books.remove(entry.cost);
        if let Some(owner) = &entry.owner {
            books.owners.unlist(owner, &deadline.key);
        }
        true
    }
}

/// Lists a record under its new owner, if it has one, and not under its old one any more.
fn relist(key: &Key, held: &mut Option<UserId>, new: Option<&UserId>, books: &Books) {
    let Some(new) = new.filter(|new| held.as_ref() != Some(*new)) else {
        return;
    };
    books.owners.list(new, key);
    if let Some(old) = held.replace(new.clone()) {
        books.owners.unlist(&old, key);
    }
}
