//! A part of the records, behind one lock, and when they are due to be swept.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Budget, NoRoom};
use crate::clock::Timestamp;
use crate::key::Key;
use crate::record::{Ended, Record, Slot};
use crate::secret::Secret;
use crate::store::{Swapped, Swept};

// What things take besides the bytes of names and values: allocations, the tables with their spare room, the
// deadline. Estimates, on the high side.
const ENTRY: usize = 480;
const SLOT: usize = 128;
const VERSION: usize = 8;

#[derive(Default)]
pub(super) struct Shard {
    entries: HashMap<Key, Entry>,
    /// One for each entry.
    deadlines: BTreeSet<Deadline>,
}

/// A record and what is kept with it.
struct Entry {
    record: Arc<Record>,
    /// What it takes of the budget.
    cost: usize,
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

/// Returns about how many bytes a record takes, with its key and its deadline.
fn cost(key: &Key, record: &Record) -> usize {
    let name = match key {
        Key::Session(_) => 0,
        Key::User(name) => 3 * name.as_str().len(),
    };
    let reason = match record.ended() {
        Some(Ended::Deleted(reason)) => reason.len(),
        _ => 0,
    };
    let head = &record.head;
    let texts = [&head.address, &head.user_agent, &head.label];
    let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
    let user = head.user.as_ref().map_or(0, |user| user.as_str().len());
    let secrets = head.secrets.0.capacity() * size_of::<Secret>();
    let versions = record.earlier().len() * VERSION;
    let slots: usize = record.slots().iter().map(|slot| slot_cost(slot)).sum();
    ENTRY + name + reason + texts + user + secrets + versions + slots
}

fn slot_cost(slot: &Slot) -> usize {
    SLOT + slot.size()
}

impl Shard {
    pub(super) fn record(&self, key: &Key) -> Option<Arc<Record>> {
        self.entries.get(key).map(|entry| Arc::clone(&entry.record))
    }

    /// Puts `after` in place of `before`, if that is what is there. What ends always finds room.
    pub(super) fn swap(
        &mut self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
        budget: &Budget<'_>,
    ) -> Result<Swapped, NoRoom> {
        let held = self.entries.get(key);
        let there = held.map(|entry| &entry.record);
        if there.map(|record| record.version()) != before.map(|before| before.version()) {
            return Ok(Swapped::Stale(there.cloned()));
        }
        let (old, due) = held.map_or((0, None), |entry| (entry.cost, Some(entry.due)));
        let cost = cost(key, after);
        budget.exchange(old, cost, after.ended().is_some())?;
        let due = self.move_deadline(key, due, after.expires());
        let entry = Entry {
            record: Arc::clone(after),
            cost,
            due,
        };
        self.entries.insert(key.clone(), entry);
        Ok(Swapped::Done)
    }

    /// Sees to it that the record is due no later than it expires, and returns when it is.
    fn move_deadline(
        &mut self,
        key: &Key,
        due: Option<Timestamp>,
        expires: Timestamp,
    ) -> Timestamp {
        if let Some(due) = due {
            if due <= expires {
                return due;
            }
            let key = key.clone();
            self.deadlines.remove(&Deadline { at: due, key });
        }
        self.deadlines.insert(Deadline {
            at: expires,
            key: key.clone(),
        });
        expires
    }

    /// Deletes records that had expired at `cutoff`, until `limit` are, and adds them to `swept`.
    pub(super) fn sweep(
        &mut self,
        cutoff: Timestamp,
        limit: usize,
        budget: &Budget<'_>,
        swept: &mut Swept,
    ) {
        while swept.deleted < limit
            && let Some(deadline) = self.next_due(cutoff)
        {
            self.expire(deadline, cutoff, budget, swept);
        }
    }

    fn next_due(&mut self, cutoff: Timestamp) -> Option<Deadline> {
        let first = self.deadlines.first()?;
        let due = first.at <= cutoff;
        due.then(|| self.deadlines.pop_first()).flatten()
    }

    /// Deletes the record if it has expired; if it has not, sets its deadline anew.
    fn expire(
        &mut self,
        mut deadline: Deadline,
        cutoff: Timestamp,
        budget: &Budget<'_>,
        swept: &mut Swept,
    ) {
        if let Some(entry) = self.entries.get_mut(&deadline.key)
            && cutoff < entry.record.expires()
        {
            entry.due = entry.record.expires();
            deadline.at = entry.due;
            self.deadlines.insert(deadline);
            return;
        }
        if let Some(entry) = self.entries.remove(&deadline.key) {
            // What shrinks always fits.
            let _ = budget.exchange(entry.cost, 0, false);
            swept.add(deadline.key, &entry.record);
        }
    }
}

#[cfg(all(test, feature = "testing"))]
impl Shard {
    /// Finds that each entry has one deadline, no later than it expires, and returns what all cost.
    pub(super) fn check(&self) -> usize {
        assert_eq!(self.deadlines.len(), self.entries.len());
        for (key, entry) in &self.entries {
            let (at, key) = (entry.due, key.clone());
            assert!(at <= entry.record.expires());
            assert_eq!(entry.cost, cost(&key, &entry.record));
            assert!(self.deadlines.contains(&Deadline { at, key }));
        }
        self.entries.values().map(|entry| entry.cost).sum()
    }

    pub(super) fn deadlines(&self) -> Vec<Timestamp> {
        self.deadlines.iter().map(|deadline| deadline.at).collect()
    }
}
