//! Records in this process's memory.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::key::{Key, Selector, UserId};
use crate::record::Record;
use crate::store::{AtOnce, Scanned, Store, StoreError, Swapped, SweepGuard, Swept};

mod shard;

use shard::Shard;

/// Enough that swaps of different records seldom wait for each other.
const SHARDS: usize = 16;

/// 256 MiB.
const CAPACITY: usize = 256 << 20;

/// How many expired records a swap that finds no room sweeps before it tries again.
const ROOM: usize = 1_000;

/// How many newcomers of each shard it throws out before it tries once more: some at a time, so that whoever is in the way
/// waits no longer than for a sweep.
const THROWN_OUT: usize = 32;

/// How many sessions that went as expired to make room are remembered at most, until the next sweep tells of them: half a megabyte.
const UNTOLD: usize = 10_000;

/// The part of the capacity that is kept for sessions that have come back, one in so many.
const KEPT: usize = 10;

/// Keeps records in this process's memory: the default, and for tests. They are gone when the process is.
///
/// It never holds more than its capacity, 256 MiB if nothing else is said. When that is full it deletes
/// what has expired, then the sessions of guests that nobody has asked for since they were created, the oldest first: that is
/// what a flood of requests without cookies leaves behind. A session that has come back, or is somebody's, is never thrown
/// out for a new one, and a tenth of the capacity is kept for these. If there is still no room, a swap that would need some
/// answers an error of which [`StoreError::is_full`] is true; the client gets a 503. Ending sessions and taking things out
/// of them always works.
///
/// Clones share the records. Loading one copies none of its values.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::store::{MemoryStore, Record, Store, Swapped};
/// use session_runtime::{Clock, Key, SessionId, SystemClock};
/// use std::{sync::Arc, time::Duration};
///
/// let store = MemoryStore::new();
/// let key = Key::from(&SessionId::generate()?);
/// let now = SystemClock::default().now();
/// let record = Arc::new(Record::new(now, now + Duration::from_secs(7_200)));
/// assert_eq!(store.swap(&key, None, &record).await?, Swapped::Done);
/// assert!(store.load(&key).await?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
    guard: Arc<SweepGuard>,
    capacity: usize,
}

#[derive(Default)]
struct Inner {
    shards: [Mutex<Shard>; SHARDS],
    used: AtomicUsize,
    /// Counts the bytes of that which newcomers take.
    of_newcomers: AtomicUsize,
    /// Newcomers have been thrown out since somebody last swept: said once a flood.
    flooded: AtomicBool,
    /// The sessions that have been deleted as expired since then, to make room.
    untold: Mutex<Vec<(Key, Option<UserId>)>>,
}

impl MemoryStore {
    /// Makes an empty store of 256 MiB that goes by the system's clock.
    ///
    /// ```
    /// use session_runtime::store::MemoryStore;
    /// let store = MemoryStore::new();
    /// # let _ = store;
    /// ```
    pub fn new() -> Self {
        Self {
            inner: Arc::default(),
            guard: Arc::new(SweepGuard::new(SystemClock::default())),
            capacity: CAPACITY,
        }
    }

    /// Holds at most about `bytes`: names, values and what it takes to keep them. The default is 256 MiB.
    ///
    /// New sessions take up at most nine tenths. Too little, and they are refused while old ones live on; too much, and the operating system
    /// ends the process. Say it before cloning: a clone made earlier keeps to what it was told.
    ///
    /// ```
    /// use session_runtime::store::MemoryStore;
    /// let store = MemoryStore::new().with_capacity_bytes(64 << 20);
    /// # let _ = store;
    /// ```
    #[must_use]
    pub fn with_capacity_bytes(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// Sweeps by `clock` instead of the system's. For tests; say it before cloning.
    ///
    /// ```
    /// use session_runtime::SystemClock;
    /// use session_runtime::store::MemoryStore;
    /// let store = MemoryStore::new().with_clock(SystemClock::default());
    /// # let _ = store;
    /// ```
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.guard = Arc::new(SweepGuard::new(clock));
        self
    }

    fn lock(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let shard = usize::from(key.spread().to_le_bytes()[0]) % SHARDS;
        lock(&self.inner.shards[shard])
    }

    fn budget(&self) -> Budget<'_> {
        Budget {
            used: &self.inner.used,
            of_newcomers: &self.inner.of_newcomers,
            capacity: self.capacity,
        }
    }

    /// Deletes some of what has expired, or else some newcomers, if there would be room without them all; and returns `true` if any went.
    /// The one that wants the room stays.
    fn make_room(&self, full: &NoRoom, key: &Key) -> bool {
        let cutoff = self.guard.cutoff();
        cutoff.is_some_and(|cutoff| self.sweep_for_room(cutoff))
            || full.is_owed_to(self.inner.of_newcomers.load(Ordering::Relaxed))
                && self.throw_out(key) > 0
    }

    fn sweep_for_room(&self, cutoff: Timestamp) -> bool {
        let swept = self.delete_expired(cutoff, ROOM);
        let mut untold = lock(&self.inner.untold);
        let room = UNTOLD.saturating_sub(untold.len());
        untold.extend(swept.expired.into_iter().take(room));
        swept.deleted > 0
    }

    fn throw_out(&self, spared: &Key) -> usize {
        let shards = self.inner.shards.iter();
        let gone = shards.map(|shard| lock(shard).throw_out(THROWN_OUT, spared, &self.budget()));
        let gone = gone.sum();
        if gone > 0 && !self.inner.flooded.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                capacity_bytes = self.capacity,
                "the memory store is full: sessions of guests that have not come back are thrown out for new ones; see `MemoryStore::with_capacity_bytes`"
            );
        }
        gone
    }

    /// Goes through the shards, and through each in the order of its keys.
    fn scan_from(&self, (first, mut after): (usize, Option<Selector>), limit: usize) -> Scanned {
        let mut scanned = Scanned::default();
        for (number, shard) in self.inner.shards.iter().enumerate().skip(first) {
            let room = limit - scanned.keys.len();
            let found = lock(shard).scan(after.take(), room);
            scanned.keys.extend(found.into_iter().map(Key::from));
            if let Some(last) = scanned.keys.last().filter(|_| scanned.keys.len() >= limit) {
                scanned.next = Some(format!("{number}/{last}"));
                break;
            }
        }
        scanned
    }

    fn delete_expired(&self, cutoff: Timestamp, limit: usize) -> Swept {
        let mut swept = Swept::default();
        for shard in &self.inner.shards {
            lock(shard).sweep(cutoff, limit, &self.budget(), &mut swept);
        }
        swept
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("capacity_bytes", &self.capacity)
            .field("used_bytes", &self.inner.used.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl AtOnce for MemoryStore {
    fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        Ok(self.lock(key).load(key, &self.budget()))
    }

    fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.guard.observe_swap(before.map(AsRef::as_ref), after);
        loop {
            let swapped = self.lock(key).swap(key, before, after, &self.budget());
            match swapped {
                Ok(swapped) => return Ok(swapped),
                Err(full) if !self.make_room(&full, key) => return Err(StoreError::full(full)),
                Err(_) => {}
            }
        }
    }
}

impl Store for MemoryStore {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        AtOnce::load(self, key)
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        AtOnce::swap(self, key, before, after)
    }

    fn at_once(&self) -> Option<&dyn AtOnce> {
        Some(self)
    }

    /// Looks at a record for somebody who is not its client: a newcomer stays one.
    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        Ok(self.lock(key).look(key))
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        Ok(self.scan_from(cursor(after)?, limit.max(1)))
    }

    /// Tells, too, of what has been deleted as expired since the last time, to make room.
    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.inner.flooded.store(false, Ordering::Relaxed);
        let cutoff = self.guard.cutoff();
        let mut swept =
            cutoff.map_or_else(Swept::default, |cutoff| self.delete_expired(cutoff, limit));
        swept.expired.append(&mut lock(&self.inner.untold));
        Ok(swept)
    }
}

/// Reads where a scan is to go on.
fn cursor(after: Option<&str>) -> Result<(usize, Option<Selector>), StoreError> {
    let Some(text) = after else {
        return Ok((0, None));
    };
    let parts = text.split_once('/');
    let parsed = parts.and_then(|(shard, key)| Some((shard.parse().ok()?, Key::parse(key)?)));
    match parsed {
        Some((shard, Key::Session(selector))) if shard < SHARDS => Ok((shard, Some(selector))),
        _ => Err(StoreError::no_place()),
    }
}

/// A panic amid a swap leaves at worst one record half counted, never half written: go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The room that is taken, and that there is.
struct Budget<'a> {
    used: &'a AtomicUsize,
    of_newcomers: &'a AtomicUsize,
    capacity: usize,
}

/// The part of the capacity that something may take up.
#[derive(Clone, Copy)]
enum Room {
    /// All but the part that is kept for those who have come back.
    Newcomers,
    All,
    /// More than there is, if need be.
    Any,
}

impl Budget<'_> {
    /// Holds `new` bytes instead of `old`. What shrinks always fits.
    fn exchange(&self, old: usize, new: usize, room: Room) -> Result<(), NoRoom> {
        if new <= old {
            self.release(old - new);
            return Ok(());
        }
        let capacity = match room {
            Room::Newcomers => self.capacity - self.capacity / KEPT,
            Room::All => self.capacity,
            Room::Any => usize::MAX,
        };
        let more = |used: usize| used.checked_add(new - old).filter(|sum| *sum <= capacity);
        match self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        {
            Ok(_) => Ok(()),
            Err(used) => Err(NoRoom {
                used,
                needed: new - old,
                room: capacity,
                capacity: self.capacity,
            }),
        }
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A swap would take more than there is.
#[derive(Debug)]
struct NoRoom {
    used: usize,
    needed: usize,
    /// Says how much there is for it and all others.
    room: usize,
    capacity: usize,
}

impl NoRoom {
    /// Returns `true` if there would be room but for what newcomers take.
    fn is_owed_to(&self, newcomers: usize) -> bool {
        let others = self.used.saturating_sub(newcomers);
        others.saturating_add(self.needed) <= self.room
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            used,
            needed,
            capacity,
            ..
        } = self;
        write!(
            f,
            "{used} of {capacity} bytes are taken and {needed} more are needed: see `MemoryStore::with_capacity_bytes`"
        )
    }
}

impl std::error::Error for NoRoom {}

#[cfg(all(test, feature = "testing"))]
mod tests;
