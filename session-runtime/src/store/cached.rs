//! A near cache: records that have been loaded once are read from memory until the server says that they have
//! changed.

use std::fmt;
use std::sync::{Arc, Once};
use std::time::Duration;

use crate::key::Key;
use crate::record::Record;
use crate::store::redis::RedisStore;
use crate::store::{Scanned, SetupError, Store, StoreError, Swapped, Swept};

mod near;
mod watch;

use near::Near;
use watch::Watch;

/// How old what is read may be if the server's messages are lost: by default, at least and at most.
const STALENESS: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// 64 MiB.
const CAPACITY: usize = 64 << 20;

/// Reads what has not changed from memory, without a round trip.
///
/// The server tells each instance of every change to a session (`CLIENT TRACKING` with `BCAST`), usually within a
/// millisecond. Four times a second it is proven that these messages arrive; when they do not, loads go to the
/// server. On a Cluster this goes for each primary, and where that is not proven of one, nothing is read from memory. So
/// whatever fails, a session that was revoked or changed by another instance is not read as it was for
/// longer than a second: [`with_staleness`](Self::with_staleness). What this instance writes it sees at once.
///
/// Swaps are decided by the server as ever: what was read too early is stale, and is merged.
///
/// It pays where sessions are read much more often than written, and costs each instance a message for every write
/// of any other.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::SessionLayer;
/// use session_runtime::store::{CachedStore, RedisStore};
///
/// let store = CachedStore::new(RedisStore::connect("redis://127.0.0.1").await?)?;
/// let sessions = SessionLayer::new(store);
/// # let _ = sessions;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CachedStore<S> {
    store: S,
    near: Arc<Near>,
    watching: Arc<Once>,
}

impl CachedStore<RedisStore> {
    /// Keeps up to 64 MiB of what is loaded from this store.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::{CachedStore, RedisStore};
    /// let store = CachedStore::new(RedisStore::connect("redis://127.0.0.1").await?)?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the store is over a connection of the app's own: nobody tells of changes there.
    pub fn new(store: RedisStore) -> Result<Self, SetupError> {
        if !store.has_shards() {
            return Err(SetupError::new(
                "a connection of the app's own does not tell of changes: use the store without a cache, or let it connect by itself",
            ));
        }
        Ok(Self {
            store,
            near: Arc::new(Near::new(STALENESS, CAPACITY)),
            watching: Arc::new(Once::new()),
        })
    }

    /// Limits how old what is read may be if the server's messages are lost: 1 s by default, at least 20 ms, at most a day.
    ///
    /// Shorter, and a passing delay sends loads to the server. Longer, and a revoked session may be read for as long.
    /// Say it before cloning.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::{CachedStore, RedisStore};
    /// use std::time::Duration;
    ///
    /// let redis = RedisStore::connect("redis://127.0.0.1").await?;
    /// let store = CachedStore::new(redis)?.with_staleness(Duration::from_millis(200));
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_staleness(mut self, staleness: Duration) -> Self {
        let staleness = staleness.clamp(SHORTEST, LONGEST);
        self.near = Arc::new(Near::new(staleness, self.near.capacity()));
        self
    }

    /// Holds at most about `bytes`, 64 MiB by default. What has not been used for long goes first. Say it before
    /// cloning.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::{CachedStore, RedisStore};
    ///
    /// let redis = RedisStore::connect("redis://127.0.0.1").await?;
    /// let store = CachedStore::new(redis)?.with_capacity_bytes(256 << 20);
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_capacity_bytes(mut self, bytes: usize) -> Self {
        self.near = Arc::new(Near::new(self.near.staleness(), bytes));
        self
    }

    /// Starts watching with the first call, when a runtime is sure to be there.
    fn watch(&self) {
        self.watching.call_once(|| {
            let watch = Watch::new(&self.store, &self.near);
            tokio::spawn(watch.run());
        });
    }
}

impl<S: fmt::Debug> fmt::Debug for CachedStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStore")
            .field("store", &self.store)
            .field("staleness", &self.near.staleness())
            .field("capacity_bytes", &self.near.capacity())
            .field("used_bytes", &self.near.used())
            .finish_non_exhaustive()
    }
}

impl CachedStore<RedisStore> {
    /// Loads from the server, and keeps what it finds.
    async fn fetch(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.watch();
        let load = self.near.load(key);
        let found = self.store.load(key).await?;
        match &found {
            Some(record) => load.keep(record),
            None => self.near.forget(key),
        }
        Ok(found)
    }
}

impl Store for CachedStore<RedisStore> {
    fn name(&self) -> String {
        self.store.name()
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        match self.near.get(key) {
            Some(record) => Ok(Some(record)),
            None => self.fetch(key).await,
        }
    }

    fn is_cached(&self) -> bool {
        true
    }

    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.fetch(key).await
    }

    /// Keeps nothing of what came of it: the server tells of this change, too, and what was kept would go at once.
    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        let _outdated = Outdated {
            near: &self.near,
            key,
        };
        self.store.swap(key, before, after).await
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        self.store.scan(after, limit).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.store.sweep(limit).await
    }
}

/// A record that a swap may change: forgotten when that is over, however it ends.
struct Outdated<'a> {
    near: &'a Near,
    key: &'a Key,
}

impl Drop for Outdated<'_> {
    fn drop(&mut self) {
        self.near.forget(self.key);
    }
}
