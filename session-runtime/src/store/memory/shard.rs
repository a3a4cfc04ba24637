//! A part of the records, behind one lock, and when they are due to be swept.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Budget, NoRoom, Room};
use crate::clock::Timestamp;
use crate::key::{Key, Selector, UserId};
use crate::record::{Ended, Head, Record};
use crate::secret::Secret;
use crate::store::{Swapped, Swept};

// What things take besides the bytes of names and values: allocations, the tables with their spare room, the
// deadline. Estimates, on the high side.
const ENTRY: usize = 480;
const SLOT: usize = 128;
const VERSION: usize = 8;

/// How many of those who have come back or gone a list of newcomers holds at least before it is tidied up.
const SPARE: usize = 64;

#[derive(Default)]
pub(super) struct Shard {
    entries: Entries,
    /// One for each entry.
    deadlines: BTreeSet<Deadline>,
    /// Those that were newcomers when they were put here, the oldest first. Who has come back or gone since is still
    /// among them.
    newcomers: VecDeque<Selector>,
    /// How many of these are newcomers still.
    waiting: usize,
}

/// The entries, by the two kinds of key.
#[derive(Default)]
struct Entries {
    sessions: HashMap<Selector, Entry, BuildHasherDefault<Random>>,
    users: HashMap<UserId, Entry>,
}

/// Takes selectors as they are. They are random, and nobody but this process chooses one that is put in: no client can
/// have many of them fall into one place.
#[derive(Default)]
struct Random(u64);

impl Hasher for Random {
    fn finish(&self) -> u64 {
        // The low bits have picked the shard.
        self.0.rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}

impl Entries {
    fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        match key {
            Key::Session(selector) => self.sessions.get_mut(selector),
            Key::User(user) => self.users.get_mut(user),
        }
    }

    fn insert(&mut self, key: &Key, entry: Entry) {
        match key {
            Key::Session(selector) => drop(self.sessions.insert(*selector, entry)),
            Key::User(user) => drop(self.users.insert(user.clone(), entry)),
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        match key {
            Key::Session(selector) => self.sessions.remove(selector),
            Key::User(user) => self.users.remove(user),
        }
    }

    fn is_newcomer(&self, selector: Selector) -> bool {
        let entry = self.sessions.get(&selector);
        entry.is_some_and(|entry| entry.newcomer)
    }
}

/// A record and what is kept with it.
struct Entry {
    record: Arc<Record>,
    /// What it takes of the budget.
    cost: usize,
    /// The time of its deadline: never after the record expires, maybe before.
    due: Timestamp,
    /// Nobody's session, and nobody has asked for it since it was created: what a flood of requests without cookies
    /// leaves behind.
    newcomer: bool,
}

impl Entry {
    /// It is a newcomer no more, for what it takes. Returns `true` if it was one.
    fn comes_back(&mut self, budget: &Budget<'_>) -> bool {
        let was_newcomer = mem::take(&mut self.newcomer);
        if was_newcomer {
            budget.of_newcomers.fetch_sub(self.cost, Ordering::Relaxed);
        }
        was_newcomer
    }
}

/// The moment at which to look at a record for sweeping.
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
    let versions = record.earlier().len() * VERSION;
    let slots = record.slots().len() * SLOT + record.size();
    ENTRY + name + reason + cost_of(&record.head) + versions + slots
}

/// Returns what a head takes besides its own place.
fn cost_of(head: &Head) -> usize {
    let texts = [&head.address, &head.user_agent, &head.label];
    let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
    let user = head.user.as_ref().map_or(0, |user| user.as_str().len());
    let until = head.until.as_deref().map_or(0, size_of_val);
    let secrets = head.secrets.0.capacity() * size_of::<Secret>();
    let undo = head.undo.as_deref();
    let undo = undo.map_or(0, |undo| size_of::<Head>() + cost_of(undo));
    texts + user + until + secrets + undo
}

impl Shard {
    pub(super) fn load(&mut self, key: &Key, budget: &Budget<'_>) -> Option<Arc<Record>> {
        let entry = self.entries.get_mut(key)?;
        self.waiting -= usize::from(entry.comes_back(budget));
        Some(Arc::clone(&entry.record))
    }

    /// Returns a record, and leaves a newcomer one.
    pub(super) fn look(&mut self, key: &Key) -> Option<Arc<Record>> {
        let entry = self.entries.get_mut(key)?;
        Some(Arc::clone(&entry.record))
    }

    /// Returns the first `limit` sessions after that one, in their order.
    pub(super) fn scan(&self, after: Option<Selector>, limit: usize) -> Vec<Selector> {
        let is_next = |selector: &Selector| after.is_none_or(|after| *selector > after);
        let sessions = self.entries.sessions.keys().copied();
        let mut found: Vec<_> = sessions.filter(is_next).collect();
        if found.len() > limit {
            found.select_nth_unstable(limit);
            found.truncate(limit);
        }
        found.sort_unstable();
        found
    }

    /// Puts `after` in place of `before`, if that is what is there. What ends always finds room.
    pub(super) fn swap(
        &mut self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
        budget: &Budget<'_>,
    ) -> Result<Swapped, NoRoom> {
        let held = self.entries.get_mut(key);
        let there = held.as_ref().map(|entry| &entry.record);
        if there.map(|record| record.version()) != before.map(|before| before.version()) {
            return Ok(Swapped::Stale(there.cloned()));
        }
        let cost = cost(key, after);
        let over = after.ended().is_some();
        // Whoever comes back loads it first: until then it is written by the request that has begun it.
        let is_new = held.as_ref().is_none_or(|entry| entry.newcomer);
        let newcomer = is_new && after.user().is_none() && !key.is_user();
        let room = match (over, newcomer) {
            (true, _) => Room::Any,
            (false, true) => Room::Newcomers,
            (false, false) => Room::All,
        };
        let Some(entry) = held else {
            budget.exchange(0, cost, room)?;
            if newcomer {
                budget.of_newcomers.fetch_add(cost, Ordering::Relaxed);
            }
            self.begin(key, after, cost, newcomer);
            return Ok(Swapped::Done);
        };
        if !newcomer {
            self.waiting -= usize::from(entry.comes_back(budget));
        }
        budget.exchange(entry.cost, cost, room)?;
        if newcomer {
            budget.of_newcomers.fetch_add(cost, Ordering::Relaxed);
            budget.of_newcomers.fetch_sub(entry.cost, Ordering::Relaxed);
        }
        entry.cost = cost;
        entry.record = Arc::clone(after);
        if after.expires() < entry.due {
            let (at, key) = (entry.due, key.clone());
            let mut deadline = Deadline { at, key };
            self.deadlines.remove(&deadline);
            deadline.at = after.expires();
            entry.due = deadline.at;
            self.deadlines.insert(deadline);
        }
        Ok(Swapped::Done)
    }

    /// Puts a record where none is.
    fn begin(&mut self, key: &Key, record: &Arc<Record>, cost: usize, newcomer: bool) {
        let due = record.expires();
        let record = Arc::clone(record);
        let entry = Entry {
            record,
            cost,
            due,
            newcomer,
        };
        self.entries.insert(key, entry);
        let (at, key_of) = (due, key.clone());
        self.deadlines.insert(Deadline { at, key: key_of });
        if newcomer {
            self.wait(key);
        }
    }

    /// Takes note of a newcomer.
    fn wait(&mut self, key: &Key) {
        let Key::Session(selector) = key else {
            return;
        };
        self.newcomers.push_back(*selector);
        self.waiting += 1;
        // Most of the others have come back or gone: without this the list would grow with every session there ever was.
        if self.newcomers.len() > 2 * self.waiting + SPARE {
            let entries = &self.entries;
            self.newcomers
                .retain(|selector| entries.is_newcomer(*selector));
        }
    }

    /// Throws out as many newcomers, the oldest first but not the one that wants the room, and returns how many there were.
    pub(super) fn throw_out(&mut self, limit: usize, spared: &Key, budget: &Budget<'_>) -> usize {
        let (mut gone, mut stays) = (0, None);
        while gone < limit
            && let Some(selector) = self.newcomers.pop_front()
        {
            let key = Key::Session(selector);
            if key == *spared {
                stays = Some(selector);
            } else if self.entries.is_newcomer(selector)
                && let Some(entry) = self.remove(&key, budget)
            {
                self.deadlines.remove(&Deadline { at: entry.due, key });
                gone += 1;
            }
        }
        self.newcomers.extend(stays);
        gone
    }

    /// Removes an entry and gives back what it takes. Its deadline is the caller's to remove.
    fn remove(&mut self, key: &Key, budget: &Budget<'_>) -> Option<Entry> {
        let mut entry = self.entries.remove(key)?;
        self.waiting -= usize::from(entry.comes_back(budget));
        budget.release(entry.cost);
        Some(entry)
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
        if let Some(entry) = self.remove(&deadline.key, budget) {
            swept.add(deadline.key, &entry.record);
        }
    }
}

#[cfg(all(test, feature = "testing"))]
impl Shard {
    /// Finds that each entry has one deadline, no later than it expires, and returns what all cost, and newcomers of them.
    pub(super) fn check(&self) -> (usize, usize) {
        let sessions = self.entries.sessions.iter();
        let sessions = sessions.map(|(selector, entry)| (Key::Session(*selector), entry));
        let users = self.entries.users.iter();
        let users = users.map(|(user, entry)| (Key::User(user.clone()), entry));
        let all: Vec<_> = sessions.chain(users).collect();
        assert_eq!(self.deadlines.len(), all.len());
        let newcomers = all.iter().filter(|(_, entry)| entry.newcomer);
        assert_eq!(newcomers.count(), self.waiting);
        assert!(self.newcomers.len() <= 2 * self.waiting + SPARE + 1);
        let (mut costs, mut of_newcomers) = (0, 0);
        for (key, entry) in all {
            let at = entry.due;
            assert!(at <= entry.record.expires());
            assert_eq!(entry.cost, cost(&key, &entry.record));
            assert!(self.deadlines.contains(&Deadline { at, key }));
            costs += entry.cost;
            of_newcomers += usize::from(entry.newcomer) * entry.cost;
        }
        (costs, of_newcomers)
    }

    pub(super) fn deadlines(&self) -> Vec<Timestamp> {
        self.deadlines.iter().map(|deadline| deadline.at).collect()
    }
}
