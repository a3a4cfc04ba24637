//! Stores: where records are kept, and what it takes to write another one.
//!
//! An app picks one and hands it to [`SessionLayer::new`](crate::SessionLayer::new). Whoever writes another
//! implements [`Store`] over anything that has a conditional write, some sixty lines, and runs the conformance suite
//! (`session_runtime::testing::conformance`, feature `testing`) over it.

use std::any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

#[cfg(feature = "redis")]
mod cached;
mod error;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod names;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod rows;
#[cfg(any(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
mod setup_error;
#[cfg(feature = "sqlite")]
mod sqlite;
mod sweep_guard;
#[cfg(feature = "tower-sessions")]
pub(crate) mod tower_sessions;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod tries;
mod users;

#[cfg(feature = "redis")]
pub use cached::CachedStore;
pub use error::StoreError;
#[cfg(feature = "memory")]
pub use memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use mysql::{MysqlOptions, MysqlStore};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "redis")]
pub use redis::{RedisOptions, RedisStore};
#[cfg(any(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
pub use setup_error::SetupError;
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, SqliteOptions, SqliteStore};
pub use sweep_guard::SweepGuard;
#[cfg(feature = "tower-sessions")]
pub use tower_sessions::TowerSessionsStore;
pub use users::UserStore;
pub(crate) use users::WithUsers;

pub use crate::frame::FrameError;
pub use crate::record::{FieldName, Record, Slot, Version};
pub use crate::signature::Signature;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
use crate::frame;
use crate::key::{self, Key, UserId};

/// How long a store keeps a record past its expiry, for handlers that are slow and clocks that differ.
pub(crate) const KEPT_AFTER_EXPIRY: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// How long a sweep may take, whatever else the store tidies up in it: this is for one that has fallen silent.
const LONGEST_SWEEP: std::time::Duration = std::time::Duration::from_secs(120);

/// Waits for a sweep, and gives up on one that is not answered.
pub(crate) async fn swept(
    sweep: impl Future<Output = Result<Swept, StoreError>>,
) -> Result<Swept, StoreError> {
    let swept = tokio::time::timeout(LONGEST_SWEEP, sweep).await;
    swept.unwrap_or_else(|_| Err(StoreError::timeout()))
}

/// Keeps records. A store compares one version, and knows nothing else: what expires, ends, conflicts or
/// merges is decided elsewhere.
pub trait Store: Send + Sync + 'static {
    /// Returns what logs and metrics call the store: for a server where it is, and nothing secret. By default the name of
    /// the type.
    fn name(&self) -> String {
        let path = any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).to_owned()
    }

    /// Loads the record under a key: live, expired but not swept yet, or the tombstone that is left of it. Sees every
    /// swap that has returned, or a near cache's age of it.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or read.
    fn load(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send;

    /// Loads as [`load`](Self::load) does, never from a near cache.
    ///
    /// # Errors
    ///
    /// As `load`.
    fn load_latest(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send {
        self.load(key)
    }

    /// Returns `true` if [`load`](Self::load) may answer from a near cache: then every *no* is asked again by
    /// [`load_latest`](Self::load_latest).
    fn is_cached(&self) -> bool {
        false
    }

    /// Returns the same store as one that answers without being waited for, if it does: one in the process. Then only that is
    /// asked, and requests need no task and no deadline.
    fn at_once(&self) -> Option<&dyn AtOnce> {
        None
    }

    /// Puts `after` in place of `before`, or of nothing, if that is still what is there: if the
    /// [version](Record::version) under the key is `before`'s. Whole, or not at all.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or written, or is full. After an error that is
    /// [unknown](StoreError::is_unknown) the swap may have happened or not.
    fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> impl Future<Output = Result<Swapped, StoreError>> + Send;

    /// Returns the keys of some sessions, about `limit` of them, and where to go on: for counting, listing and ending all of
    /// them. It begins with `after: None`, and goes on with what the last answer called [`next`](Scanned::next).
    ///
    /// Whoever goes on until there is no `next` has been told of each session that was there all the while, once or
    /// more often; of one that came or went in between, maybe. Expired ones and tombstones may be among them; users are not. A Redis that
    /// fails over amid that, and a Cluster whose slots move, may miss some.
    ///
    /// By default a store says that it cannot.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or read, if `after` is not from this store ([`StoreError::no_place`]), or if it cannot list
    /// what it keeps.
    fn scan(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Scanned, StoreError>> + Send {
        let _ = (after, limit);
        let cannot = format!(
            "{} cannot list the sessions that it keeps: it has no `Store::scan`",
            self.name()
        );
        async { Err(StoreError::broken(cannot)) }
    }

    /// Deletes at most `limit` records that have expired ten minutes ago or earlier by the store's own clock, and says
    /// which; fewer only if nothing else is left, or is being swept or extended. A store whose engine does that by
    /// itself says none.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or written.
    fn sweep(&self, limit: usize) -> impl Future<Output = Result<Swept, StoreError>> + Send;
}

/// Answers at once: a [`Store`] that holds its records in the process and waits for nothing but a lock.
pub trait AtOnce: Sync {
    /// Loads, as [`Store::load`] does.
    ///
    /// # Errors
    ///
    /// As there.
    fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError>;

    /// Swaps, as [`Store::swap`] does. What fails is not asked again within the request.
    ///
    /// # Errors
    ///
    /// As there.
    fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError>;
}

/// Says what came of a [swap](Store::swap).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The new record is there.
    Done,
    /// Something else was there, and nothing was written. Brings what is there now: never the version that was
    /// compared. It may be the new record, or a later one that remembers it: a client that sends a request again by itself, where it has
    /// no answer, brings the answer to the second, and the layer knows by the version that the first was done.
    Stale(Option<Arc<Record>>),
}

/// Says what a [scan](Store::scan) has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Keys of sessions.
    pub keys: Vec<Key>,
    /// The place to go on at; `None` at the end.
    pub next: Option<String>,
}

impl Scanned {
    /// Returns the text that the keys of a scan come after, in a store that finds them by their order: `after`, or for `None`
    /// what stands before all sessions' keys.
    ///
    /// # Errors
    ///
    /// If `after` does not stand among sessions' keys.
    pub fn begins_after(after: Option<&str>) -> Result<&str, StoreError> {
        let (first, end) = key::sessions();
        match after {
            None => Ok(first),
            Some(text) if first < text && text < end => Ok(text),
            Some(_) => Err(StoreError::no_place()),
        }
    }

    /// Makes the answer of a store that finds keys by their order, of as many texts as it has found, `limit` at most: it goes on
    /// after the last one, if there are `limit`. What is no key, since somebody else has put it there, is passed over.
    pub fn ordered<K: AsRef<str>>(found: impl IntoIterator<Item = K>, limit: usize) -> Self {
        let (mut keys, mut count, mut last) = (Vec::new(), 0, None);
        let (_, end) = key::sessions();
        for text in found {
            count += 1;
            keys.extend(Key::parse(text.as_ref()));
            last = Some(text);
        }
        Self {
            keys,
            next: last
                .filter(|text| count >= limit && text.as_ref() < end)
                .map(|text| text.as_ref().to_owned()),
        }
    }
}

/// Says what a sweep has deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// The number of records that went, tombstones included.
    pub deleted: usize,
    /// Of these, the sessions that nobody had ended before, and whose they were.
    pub expired: Vec<(Key, Option<UserId>)>,
}

impl Swept {
    /// Adds a record that was deleted.
    pub fn add(&mut self, key: Key, record: &Record) {
        self.deleted += 1;
        if record.ended().is_none() && !key.is_user() {
            self.expired.push((key, record.user().cloned()));
        }
    }

    /// Adds a record that was deleted, by its key and head as they were stored. What cannot be read has gone all the same.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    fn add_stored(&mut self, key: &[u8], head: &bytes::Bytes) {
        let key = std::str::from_utf8(key).ok().and_then(Key::parse);
        match (key, frame::unpack_head(head)) {
            (Some(key), Ok(record)) => self.add(key, &record),
            _ => self.deleted += 1,
        }
    }
}

impl<S: Store> Store for Arc<S> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn load(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send {
        (**self).load(key)
    }

    fn load_latest(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send {
        (**self).load_latest(key)
    }

    fn is_cached(&self) -> bool {
        (**self).is_cached()
    }

    fn at_once(&self) -> Option<&dyn AtOnce> {
        (**self).at_once()
    }

    fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> impl Future<Output = Result<Swapped, StoreError>> + Send {
        (**self).swap(key, before, after)
    }

    fn scan(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Scanned, StoreError>> + Send {
        (**self).scan(after, limit)
    }

    fn sweep(&self, limit: usize) -> impl Future<Output = Result<Swept, StoreError>> + Send {
        (**self).sweep(limit)
    }
}

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// [`Store`] behind one box, so that the extractor is not generic over it.
pub(crate) trait AnyStore: Send + Sync + 'static {
    fn name(&self) -> String;
    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>>;
    fn load_latest<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>>;
    fn is_cached(&self) -> bool;
    fn at_once(&self) -> Option<&dyn AtOnce>;
    fn swap<'a>(
        &'a self,
        key: &'a Key,
        before: Option<&'a Arc<Record>>,
        after: &'a Arc<Record>,
    ) -> Answer<'a, Swapped>;
    fn scan<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Scanned>;
    fn sweep(&self, limit: usize) -> Answer<'_, Swept>;
}

impl<S: Store> AnyStore for S {
    fn name(&self) -> String {
        Store::name(self)
    }

    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>> {
        Box::pin(Store::load(self, key))
    }

    fn load_latest<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>> {
        Box::pin(Store::load_latest(self, key))
    }

    fn is_cached(&self) -> bool {
        Store::is_cached(self)
    }

    fn at_once(&self) -> Option<&dyn AtOnce> {
        Store::at_once(self)
    }

    fn swap<'a>(
        &'a self,
        key: &'a Key,
        before: Option<&'a Arc<Record>>,
        after: &'a Arc<Record>,
    ) -> Answer<'a, Swapped> {
        Box::pin(Store::swap(self, key, before, after))
    }

    fn scan<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Scanned> {
        Box::pin(Store::scan(self, after, limit))
    }

    fn sweep(&self, limit: usize) -> Answer<'_, Swept> {
        Box::pin(Store::sweep(self, limit))
    }
}
