//! Stores: where records are kept.
//!
//! An app picks one and hands it to [`SessionLayer::new`](crate::SessionLayer::new). Whoever writes another
//! implements [`Store`] and runs the conformance suite (`session_runtime::testing::conformance`, feature
//! `testing`) over it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

#[cfg(feature = "tower-sessions")]
mod adapter;
#[cfg(feature = "redis")]
mod cached;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "memory", feature = "sqlite", feature = "tower-sessions"))]
mod remembered;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(
    feature = "memory",
    feature = "sqlite",
    feature = "postgres",
    feature = "tower-sessions"
))]
mod token;
mod users;

#[cfg(feature = "tower-sessions")]
pub use adapter::{ForTowerSessions, TowerSessionsStore};
#[cfg(feature = "redis")]
pub use cached::CachedStore;
#[cfg(feature = "memory")]
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresError, PostgresOptions, PostgresStore};
#[cfg(feature = "redis")]
pub use redis::{RedisConnectError, RedisOptions, RedisStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, OpenError, SqliteOptions, SqliteStore};

pub use users::UserStore;
pub(crate) use users::WithUsers;

pub use crate::error::StoreError;

use crate::change::{Change, Committed};
use crate::key::{Key, UserId};
use crate::record::Record;

/// Where records are kept: four calls, each one round trip.
///
/// Implementations need not write the logic of a commit: [`Change::decide`] and [`Change::apply`] are it,
/// for any store that can hold a record still meanwhile.
pub trait Store: Send + Sync + 'static {
    /// The record under `key`: live, lapsed but not swept yet, or the tombstone that is left of it.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or read.
    fn load(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send;

    /// Applies a change whole, or not at all, and says what came of it.
    ///
    /// For a minute ([`REMEMBERED`](crate::REMEMBERED)) a repeat under the same commit id is answered
    /// [`Applied`](Committed::Applied) if it was applied before, and is not applied again.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or written, or is full. After a
    /// [transient](StoreError::is_transient) error it is not known whether the change was applied.
    fn commit(
        &self,
        key: &Key,
        change: &Change,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// The keys of all live records of that owner. One may be listed whose record is gone; none is
    /// unlisted.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or read.
    fn owned_by(&self, owner: &UserId)
    -> impl Future<Output = Result<Vec<Key>, StoreError>> + Send;

    /// Deletes at most `limit` records that have expired by the store's own clock, and says which.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or written.
    fn sweep(&self, limit: usize) -> impl Future<Output = Result<Swept, StoreError>> + Send;
}

/// What a sweep has deleted. A store whose engine drops what has expired by itself tells nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many records went, tombstones included.
    pub deleted: usize,
    /// Of these, the sessions that nobody had ended before, and whom they were listed under.
    pub expired: Vec<(Key, Option<UserId>)>,
}

impl<S: Store> Store for Arc<S> {
    fn load(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send {
        (**self).load(key)
    }

    fn commit(
        &self,
        key: &Key,
        change: &Change,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send {
        (**self).commit(key, change)
    }

    fn owned_by(
        &self,
        owner: &UserId,
    ) -> impl Future<Output = Result<Vec<Key>, StoreError>> + Send {
        (**self).owned_by(owner)
    }

    fn sweep(&self, limit: usize) -> impl Future<Output = Result<Swept, StoreError>> + Send {
        (**self).sweep(limit)
    }
}

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// [`Store`] behind one box, so that the extractor is not generic over it.
pub(crate) trait AnyStore: Send + Sync + 'static {
    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>>;
    fn commit<'a>(&'a self, key: &'a Key, change: &'a Change) -> Answer<'a, Committed>;
    fn owned_by<'a>(&'a self, owner: &'a UserId) -> Answer<'a, Vec<Key>>;
    fn sweep(&self, limit: usize) -> Answer<'_, Swept>;
}

impl<S: Store> AnyStore for S {
    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>> {
        Box::pin(Store::load(self, key))
    }

    fn commit<'a>(&'a self, key: &'a Key, change: &'a Change) -> Answer<'a, Committed> {
        Box::pin(Store::commit(self, key, change))
    }

    fn owned_by<'a>(&'a self, owner: &'a UserId) -> Answer<'a, Vec<Key>> {
        Box::pin(Store::owned_by(self, owner))
    }

    fn sweep(&self, limit: usize) -> Answer<'_, Swept> {
        Box::pin(Store::sweep(self, limit))
    }
}
