//! A part of the records, behind one lock, and when they are due to be swept.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Books, Budget, NoRoom};
use crate::change::{Change, Committed, Kind, SlotOp};
use crate::clock::Timestamp;
use crate::key::{Key, UserId};
use crate::record::{Ended, Record, Slot, State, slot_size};
use crate::store::Swept;
use crate::store::remembered::Remembered;
use crate::store::token::Token;

// What things take besides the bytes of names and values: allocations, the tables with their spare room, the
// deadline. Estimates, on the high side.
const ENTRY: usize = 320;
const SLOT: usize = 176;
const OWNED: usize = 352;
const COMMIT: usize = 40;

#[derive(Default)]
pub(super) struct Shard {
    entries: HashMap<Key, Entry>,
    /// One for each entry.
    deadlines: BTreeSet<Deadline>,
    remembered: Remembered,
}

/// A record and what is kept with it.
pub(super) struct Entry {
    record: Arc<Record>,
    owner: Option<UserId>,
    /// What it takes of the budget.
    pub(super) cost: usize,
    /// The time of its deadline: never after the record expires, maybe before.
    due: Timestamp,
}

/// When to look at a record for sweeping.
///
/// Extending a record, which is done often, leaves its deadline where it is; when it comes up, it is set
/// anew. Only a record that is to expire sooner has its deadline moved at once.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    at: Timestamp,
    key: Key,
}

impl Entry {
    fn new(key: &Key, record: Record, owner: Option<UserId>) -> Self {
        let cost = ENTRY + key_cost(key) + record_cost(&record) + owner_cost(owner.as_ref());
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

/// What a key has on the heap, wherever a copy of it is kept.
fn key_cost(key: &Key) -> usize {
    match key {
        Key::Session(_) => 0,
        Key::User(name) => 3 * name.as_str().len(),
    }
}

fn record_cost(record: &Record) -> usize {
    let reason = match &record.state {
        State::Ended(Ended::Deleted(reason)) => reason.len(),
        State::Moved(to) => key_cost(to),
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
        let entry = Entry::new(key, record, change.owner.clone());
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
        let entry = Entry::new(key, tombstone, None);
        budget.insist(held.map_or(0, |entry| entry.cost), entry.cost);
        self.put(key, entry, budget.books);
        Committed::Applied
    }

    /// What is to go to the new key of a move and what is to stay, unless there is an answer without it.
    pub(super) fn depart(
        &mut self,
        key: &Key,
        to: &Key,
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
            Entry::new(to, record, owner.cloned()),
            Entry::new(key, tombstone, None),
        ))
    }

    /// Puts `entry` under `key`, in place of whatever is there. Its cost is on the books already.
    pub(super) fn put(&mut self, key: &Key, entry: Entry, books: &Books) {
        let (owner, at) = (entry.owner.clone(), entry.due);
        if let Some(owner) = &owner {
            books.owners.list(owner, key);
        }
        self.deadlines.insert(Deadline {
            at,
            key: key.clone(),
        });
        let Some(old) = self.entries.insert(key.clone(), entry) else {
            return;
        };
        if old.due != at {
            self.deadlines.remove(&Deadline {
                at: old.due,
                key: key.clone(),
            });
        }
        if let Some(old) = old.owner.filter(|old| owner.as_ref() != Some(old)) {
            books.owners.unlist(&old, key);
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
            let mut deadline = Deadline {
                at: entry.due,
                key: key.clone(),
            };
            self.deadlines.remove(&deadline);
            entry.due = entry.record.expires;
            deadline.at = entry.due;
            self.deadlines.insert(deadline);
        }
    }

    /// Deletes records that have expired at `cutoff`, until `limit` are, and adds them to `swept`.
    pub(super) fn sweep(
        &mut self,
        cutoff: Timestamp,
        limit: usize,
        books: &Books,
        swept: &mut Swept,
    ) {
        books.remove(self.remembered.forget_idle(cutoff) * COMMIT);
        while swept.deleted < limit
            && let Some(deadline) = self.next_due(cutoff)
        {
            self.expire(deadline, cutoff, books, swept);
        }
    }

    fn next_due(&mut self, cutoff: Timestamp) -> Option<Deadline> {
        let due = self
            .deadlines
            .first()
            .is_some_and(|first| first.at <= cutoff);
        due.then(|| self.deadlines.pop_first()).flatten()
    }

    /// Deletes the record if it has expired; if it has not, sets its deadline anew.
    fn expire(
        &mut self,
        mut deadline: Deadline,
        cutoff: Timestamp,
        books: &Books,
        swept: &mut Swept,
    ) {
        if let Some(entry) = self.entries.get_mut(&deadline.key)
            && cutoff < entry.record.expires
        {
            entry.due = entry.record.expires;
            deadline.at = entry.due;
            self.deadlines.insert(deadline);
            return;
        }
        let Some(entry) = self.entries.remove(&deadline.key) else {
            return;
        };
        books.remove(entry.cost);
        if let Some(owner) = &entry.owner {
            books.owners.unlist(owner, &deadline.key);
        }
        swept.deleted += 1;
        if entry.record.state.is_open() {
            swept.expired.push((deadline.key, entry.owner));
        }
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

#[cfg(all(test, feature = "testing"))]
impl Shard {
    pub(super) fn owner(&self, key: &Key) -> Option<&UserId> {
        self.entries.get(key).and_then(|entry| entry.owner.as_ref())
    }

    /// Checks each entry against its deadline and its cost, and says what all take together.
    pub(super) fn check(&self) -> usize {
        assert_eq!(self.deadlines.len(), self.entries.len());
        let costs = self.entries.iter().map(|(key, entry)| {
            assert!(self.deadlines.contains(&Deadline {
                at: entry.due,
                key: key.clone()
            }));
            assert!(entry.due <= entry.record.expires);
            let anew = Entry::new(key, Record::clone(&entry.record), entry.owner.clone());
            assert_eq!(entry.cost, anew.cost);
            entry.cost
        });
        costs.sum::<usize>() + self.remembered.len() * COMMIT
    }
}
