//! Records in this process's memory.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::change::{Change, Committed, Kind};
use crate::clock::{Clock, SweepGuard, SystemClock, Timestamp};
use crate::error::StoreError;
use crate::key::{Key, UserId};
use crate::record::Record;
use crate::store::{Store, Swept};

mod owners;
mod shard;
#[cfg(all(test, feature = "testing"))]
mod tests;

use owners::Owners;
use shard::Shard;

/// Enough that commits to different records seldom wait for each other.
const SHARDS: usize = 16;

/// 256 MiB.
const CAPACITY: usize = 256 << 20;

/// How many lapsed records a commit that finds no room sweeps before it tries again.
const ROOM: usize = 1_000;

/// Records in this process's memory: the default, and for tests. They are gone when the process is.
///
/// It never holds more than its capacity, 256 MiB if nothing else is said. When that is full it deletes
/// what has expired; if there is still no room, a commit that would need some answers an error of which
/// [`StoreError::is_full`] is true. A live session is never thrown out for a new one, and ending sessions
/// and taking things out of them always works.
///
/// Clones share the records. Loading one copies none of its values.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::store::{MemoryStore, Store};
/// use session_runtime::{Change, Clock, Committed, Expiry, Key, Kind, SessionId, SystemClock};
/// use std::time::Duration;
///
/// let store = MemoryStore::new();
/// let key = Key::from(&SessionId::generate()?);
/// let now = SystemClock::default().now();
/// let create = Change {
///     expiry: Expiry::Set(now + Duration::from_secs(7_200)),
///     ..Change::new(Kind::Create, now)
/// };
/// assert_eq!(store.commit(&key, &create).await?, Committed::Applied);
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
    books: Books,
}

impl MemoryStore {
    /// An empty store of 256 MiB that goes by the system's clock.
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
    /// Too little, and new sessions are refused while old ones live on; too much, and the operating system
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

    /// Applies the change if there is room for it now.
    fn attempt(&self, key: &Key, change: &Change) -> Result<Committed, NoRoom> {
        let budget = self.budget();
        let committed = match &change.kind {
            Kind::Move(to, _) => self.lock_both(key, to).relocate(key, to, change, &budget)?,
            _ => self.lock(key).commit(key, change, &budget)?,
        };
        if let (Committed::Applied, Some((old, until))) = (&committed, &change.retire) {
            self.lock(old).retire(old, *until);
        }
        Ok(committed)
    }

    fn budget(&self) -> Budget<'_> {
        Budget {
            books: &self.inner.books,
            capacity: self.capacity,
        }
    }

    fn lock(&self, key: &Key) -> MutexGuard<'_, Shard> {
        lock(&self.inner.shards[shard_of(key)])
    }

    /// Locks the shards of both keys, the lower one first, so that two moves never wait for each other.
    fn lock_both(&self, from: &Key, to: &Key) -> Pair<'_> {
        let (source, target) = (shard_of(from), shard_of(to));
        let shards = &self.inner.shards;
        if source == target {
            return Pair {
                source: lock(&shards[source]),
                target: None,
            };
        }
        let lower = lock(&shards[source.min(target)]);
        let upper = lock(&shards[source.max(target)]);
        let (source, target) = if source < target {
            (lower, upper)
        } else {
            (upper, lower)
        };
        Pair {
            source,
            target: Some(target),
        }
    }

    /// Deletes some of what has expired, and says whether there is more room now.
    fn make_room(&self) -> bool {
        let used = || self.inner.books.used.load(Ordering::Relaxed);
        let before = used();
        if let Some(cutoff) = self.guard.cutoff() {
            self.delete_expired(cutoff, ROOM);
        }
        used() < before
    }

    fn delete_expired(&self, cutoff: Timestamp, limit: usize) -> Swept {
        let mut swept = Swept::default();
        for shard in &self.inner.shards {
            lock(shard).sweep(cutoff, limit, &self.inner.books, &mut swept);
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
            .field("used_bytes", &self.inner.books.used.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        Ok(self.lock(key).record(key))
    }

    async fn commit(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        self.guard.observe(change.now);
        loop {
            match self.attempt(key, change) {
                Ok(committed) => return Ok(committed),
                Err(full) if !self.make_room() => return Err(StoreError::full(full)),
                Err(_) => {}
            }
        }
    }

    async fn owned_by(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        Ok(self.inner.books.owners.keys(owner))
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        let cutoff = self.guard.cutoff();
        Ok(cutoff.map_or_else(Swept::default, |cutoff| self.delete_expired(cutoff, limit)))
    }
}

fn shard_of(key: &Key) -> usize {
    usize::from(key.spread().to_le_bytes()[0]) % SHARDS
}

/// A panic amid a change leaves at worst one record half counted, never half written: go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shards of the two keys of a move, which may be one.
struct Pair<'a> {
    source: MutexGuard<'a, Shard>,
    target: Option<MutexGuard<'a, Shard>>,
}

impl Pair<'_> {
    fn target(&mut self) -> &mut Shard {
        self.target.as_deref_mut().unwrap_or(&mut self.source)
    }

    fn relocate(
        &mut self,
        from: &Key,
        to: &Key,
        change: &Change,
        budget: &Budget<'_>,
    ) -> Result<Committed, NoRoom> {
        let (moving, tombstone) = match self.source.depart(from, to, change, budget.books) {
            Ok(departure) => departure,
            Err(answer) => return Ok(answer),
        };
        if self.target().holds_live(to, change.now) {
            return Ok(Committed::Exists);
        }
        let held = self.source.cost(from) + self.target().cost(to);
        budget.exchange(held, tombstone.cost + moving.cost)?;
        self.target().put(to, moving, budget.books);
        self.source.put(from, tombstone, budget.books);
        self.source.remember(from, change, budget.books);
        Ok(Committed::Applied)
    }
}

/// What all shards share: how much is held, and who owns what.
#[derive(Default)]
struct Books {
    used: AtomicUsize,
    owners: Owners,
}

impl Books {
    fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The books, and how much may be held.
struct Budget<'a> {
    books: &'a Books,
    capacity: usize,
}

impl Budget<'_> {
    /// Holds `new` bytes instead of `old`. What shrinks always fits.
    fn exchange(&self, old: usize, new: usize) -> Result<(), NoRoom> {
        if new <= old {
            self.books.remove(old - new);
            return Ok(());
        }
        let more = |used: usize| {
            used.checked_add(new - old)
                .filter(|sum| *sum <= self.capacity)
        };
        match self
            .books
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        {
            Ok(_) => Ok(()),
            Err(used) => Err(NoRoom {
                used,
                needed: new - old,
                capacity: self.capacity,
            }),
        }
    }

    /// Holds `new` bytes instead of `old`, be there room or not.
    fn insist(&self, old: usize, new: usize) {
        self.books.add(new);
        self.books.remove(old);
    }
}

/// A commit would take more than there is.
#[derive(Debug)]
struct NoRoom {
    used: usize,
    needed: usize,
    capacity: usize,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            used,
            needed,
            capacity,
        } = self;
        write!(
            f,
            "{used} of {capacity} bytes are taken and {needed} more are needed: see `MemoryStore::with_capacity_bytes`"
        )
    }
}

impl std::error::Error for NoRoom {}
