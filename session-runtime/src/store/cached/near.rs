//! Records near at hand, and whether they may still be taken for what the server has.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::key::Key;
use crate::record::Record;

// What things take besides the bytes of names and values. Estimates, on the high side.
const ENTRY: usize = 1024;
const SLOT: usize = 128;

/// How many beats may be under way.
const OUTSTANDING: usize = 16;

/// Records of which every change has been told, as far as the last beat proves it.
///
/// A *beat* is sent through the store, to each server that has records, and comes back on the connections on which these tell
/// of changes. Then all that was changed before it was sent has been told, and is gone from here. So what is served is
/// never older than the last beat.
pub(super) struct Near {
    state: Mutex<State>,
    staleness: Duration,
    capacity: usize,
}

#[derive(Default)]
struct State {
    /// What has come or been asked for of late, and what has not: that goes first.
    recent: Generation,
    older: Generation,
    /// The loads under way, and how often the record has changed meanwhile.
    loading: HashMap<Key, Loading>,
    /// Which connections tell of changes; none has told of those before them.
    watch: u64,
    /// The last beats.
    beats: VecDeque<Beat>,
    beat: u64,
    /// Returns when the last beat that came back was sent.
    proven: Option<Instant>,
}

/// Half of the records, by the bytes that they take.
#[derive(Default)]
struct Generation {
    records: HashMap<Key, Arc<Record>>,
    used: usize,
}

impl Generation {
    fn insert(&mut self, key: &Key, record: Arc<Record>) {
        self.used += cost(&record);
        self.records.insert(key.clone(), record);
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Record>> {
        let record = self.records.remove(key)?;
        self.used -= cost(&record);
        Some(record)
    }
}

struct Beat {
    number: u64,
    sent: Instant,
    /// The parts of the store from which it has yet to come back.
    awaited: Vec<usize>,
}

#[derive(Default)]
struct Loading {
    loads: usize,
    changes: u64,
}

impl Near {
    pub(super) fn new(staleness: Duration, capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            staleness,
            capacity,
        }
    }

    pub(super) fn staleness(&self) -> Duration {
        self.staleness
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn used(&self) -> usize {
        let state = self.state();
        state.recent.used + state.older.used
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record, if it is here and proven.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Record>> {
        let mut state = self.state();
        state.proven_watch(self.staleness)?;
        if let Some(record) = state.older.remove(key) {
            state.insert(key, record, self.capacity);
        }
        state.recent.records.get(key).cloned()
    }

    /// Notes that a record is being loaded; for keeping it, if it does not change meanwhile and it is proven all
    /// along that loads go where changes are told.
    pub(super) fn load<'a>(&'a self, key: &'a Key) -> Load<'a> {
        let mut state = self.state();
        let loading = state.loading.entry(key.clone()).or_default();
        loading.loads += 1;
        let changes = loading.changes;
        Load {
            near: self,
            key,
            changes,
            watch: state.proven_watch(self.staleness),
        }
    }

    /// The record has changed, or may have.
    pub(super) fn forget(&self, key: &Key) {
        let mut state = self.state();
        state.remove(key);
        if let Some(loading) = state.loading.get_mut(key) {
            loading.changes += 1;
        }
    }

    /// Everything may have changed.
    pub(super) fn forget_all(&self) {
        self.state().clear();
    }

    /// Nobody tells of changes any more.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.clear();
        state.proven = None;
        state.beats.clear();
    }

    /// Returns the number of a beat that is sent now, and whose parts have these numbers.
    pub(super) fn beat(&self, parts: impl IntoIterator<Item = usize>) -> u64 {
        let mut state = self.state();
        state.beat += 1;
        let number = state.beat;
        state.beats.push_back(Beat {
            number,
            sent: Instant::now(),
            awaited: parts.into_iter().collect(),
        });
        if state.beats.len() > OUTSTANDING {
            state.beats.pop_front();
        }
        number
    }

    /// Returns when the last beat that came back was sent.
    pub(super) fn proven(&self) -> Option<Instant> {
        self.state().proven
    }

    /// Takes note that a part of a beat has come back; with the last one, it is proven.
    pub(super) fn prove(&self, number: u64, part: usize) {
        let mut state = self.state();
        let mut beats = state.beats.iter_mut();
        let Some(beat) = beats.find(|beat| beat.number == number) else {
            return;
        };
        beat.awaited.retain(|awaited| *awaited != part);
        if beat.awaited.is_empty() {
            let sent = beat.sent;
            state.proven = state.proven.max(Some(sent));
        }
    }
}

impl State {
    /// The connection that tells of changes, if a beat proves it.
    fn proven_watch(&self, staleness: Duration) -> Option<u64> {
        let proven = self.proven?;
        (proven.elapsed() < staleness).then_some(self.watch)
    }

    fn clear(&mut self) {
        self.watch += 1;
        (self.recent, self.older) = (Generation::default(), Generation::default());
        for loading in self.loading.values_mut() {
            loading.changes += 1;
        }
    }

    fn remove(&mut self, key: &Key) {
        self.recent.remove(key);
        self.older.remove(key);
    }

    fn insert(&mut self, key: &Key, record: Arc<Record>, capacity: usize) {
        self.remove(key);
        let (cost, half) = (cost(&record), capacity / 2);
        if cost > half {
            return;
        }
        if self.recent.used + cost > half {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, record);
    }
}

fn cost(record: &Record) -> usize {
    let slots = record.slots().iter();
    ENTRY + slots.map(|slot| SLOT + slot.size()).sum::<usize>()
}

/// A load under way.
pub(super) struct Load<'a> {
    near: &'a Near,
    key: &'a Key,
    /// How often the record had changed when it began.
    changes: u64,
    watch: Option<u64>,
}

impl Load<'_> {
    /// Keeps what has been loaded, unless it has changed since the load began, or nobody would have told; or it was
    /// not proven, when the load began, that it goes to the server that tells. After a failover that may be
    /// another: what the former primary has must not be here when the new one proves itself.
    pub(super) fn keep(self, record: &Arc<Record>) {
        let mut state = self.near.state();
        let watch = state.proven_watch(self.near.staleness);
        let told = watch.is_some() && self.watch == watch;
        let changed = state
            .loading
            .get(self.key)
            .is_none_or(|loading| loading.changes != self.changes);
        if told && !changed {
            state.insert(self.key, Arc::clone(record), self.near.capacity);
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let mut state = self.near.state();
        if let Some(loading) = state.loading.get_mut(self.key) {
            loading.loads -= 1;
            if loading.loads == 0 {
                state.loading.remove(self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::key::UserId;
    use crate::record::Slot;

    fn key(n: u64) -> Key {
        Key::User(UserId::from(n))
    }

    fn record(bytes: usize) -> Arc<Record> {
        let at = Timestamp::from_millis(0);
        let slot = Slot::new("a", vec![0; bytes], None);
        Arc::new(Record::new(at, at).with_slots([Arc::new(slot)]))
    }

    /// One that is told of changes, and has just been proven.
    fn proven(capacity: usize) -> Near {
        let near = Near::new(Duration::from_secs(60 * 60), capacity);
        near.prove(near.beat([0]), 0);
        near
    }

    fn keep(near: &Near, n: u64, record: &Arc<Record>) {
        near.load(&key(n)).keep(record);
    }

    #[test]
    fn what_was_loaded_is_here() {
        let near = proven(10_000);
        let record = record(10);
        keep(&near, 1, &record);
        assert_eq!(near.get(&key(1)), Some(record));
        assert_eq!(near.get(&key(2)), None);
        near.forget(&key(1));
        assert_eq!((near.get(&key(1)), near.used()), (None, 0));
    }

    #[test]
    fn what_changed_while_it_was_loaded_is_not_kept() {
        let near = proven(10_000);
        let (one, other) = (key(1), key(1));
        let (load, second) = (near.load(&one), near.load(&other));
        near.forget(&key(1));
        load.keep(&record(10));
        second.keep(&record(10));
        assert_eq!(near.get(&key(1)), None);
        keep(&near, 1, &record(10));
        assert!(near.get(&key(1)).is_some(), "the next one is");
    }

    #[test]
    fn a_load_that_began_after_a_change_is_kept_though_earlier_ones_are_under_way() {
        let near = proven(10_000);
        let key = key(1);
        let early = near.load(&key);
        near.forget(&key);
        let late = near.load(&key);
        early.keep(&record(10));
        assert_eq!(near.get(&key), None);
        let early = near.load(&key);
        late.keep(&record(10));
        assert!(near.get(&key).is_some());
        drop(early);
    }

    #[test]
    fn what_was_loaded_before_another_watch_is_not_kept() {
        let near = proven(10_000);
        let key = key(1);
        for lose in [Near::forget_all, Near::end] {
            let load = near.load(&key);
            lose(&near);
            near.prove(near.beat([0]), 0);
            load.keep(&record(10));
            assert_eq!(near.get(&key), None);
        }
    }

    #[test]
    fn a_beat_is_proven_when_all_of_it_is_back() {
        let near = Near::new(Duration::from_secs(60 * 60), 10_000);
        let (first, second) = (near.beat([0, 1]), near.beat([0, 1]));
        for (number, part) in [(first, 0), (first, 0), (second, 1), (first, 2)] {
            near.prove(number, part);
            assert_eq!(near.proven(), None);
        }
        near.prove(first, 1);
        assert!(near.proven().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_proven_is_not_served() {
        let near = Near::new(Duration::from_secs(1), 10_000);
        let early = near.beat([0]);
        tokio::time::advance(Duration::from_millis(600)).await;
        near.prove(early, 0);
        keep(&near, 1, &record(10));
        assert!(near.get(&key(1)).is_some());
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(near.get(&key(1)), None, "a second since it was sent");
        near.prove(early + 1, 0);
        assert_eq!(near.get(&key(1)), None, "that beat was never sent");
        near.prove(near.beat([0]), 0);
        assert!(near.get(&key(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_loaded_while_nothing_was_proven_is_not_kept() {
        let near = Near::new(Duration::from_secs(1), 10_000);
        keep(&near, 1, &record(10));
        let key = key(1);
        let load = near.load(&key);
        near.prove(near.beat([0]), 0);
        load.keep(&record(10));
        assert_eq!(near.get(&key), None, "no beat had come back");

        let load = near.load(&key);
        tokio::time::advance(Duration::from_secs(1)).await;
        load.keep(&record(10));
        near.prove(near.beat([0]), 0);
        assert_eq!(near.get(&key), None, "the last beat was too old");
        keep(&near, 1, &record(10));
        assert!(near.get(&key).is_some());
    }

    #[test]
    fn the_budget_is_kept_and_what_is_used_stays() {
        let near = proven(100_000);
        keep(&near, 0, &record(1_000));
        for n in 1..1_000 {
            keep(&near, n, &record(1_000));
            assert!(near.used() <= 100_000);
            assert!(near.get(&key(0)).is_some(), "gone after {n}");
        }
        assert!(near.used() > 40_000);
        keep(&near, 1_000, &record(200_000));
        assert_eq!(near.get(&key(1_000)), None);
    }
}
