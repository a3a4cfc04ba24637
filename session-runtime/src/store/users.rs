//! Users' records, kept within the app's own table of users.

use std::future::Future;
use std::sync::Arc;

use crate::key::{Key, UserId};
use crate::record::{Record, Version};
use crate::store::{AnyStore, Scanned, Store, StoreError, Swapped, Swept};

/// Keeps users' records in the app's own table of users, instead of in the session store.
///
/// A record takes two columns: one of bytes, which holds all of it, and one for its version, 8 bytes that each write
/// renews. Both are NULL until the user first logs in. In SQLite's words (PostgreSQL has `bytea`, and `IS NOT DISTINCT FROM`
/// instead of `IS`; `MySQL` has `MEDIUMBLOB`, since a record may have 1 MiB, `BINARY(8)`, and `<=>`):
///
/// ```sql
/// ALTER TABLE users ADD COLUMN session BLOB;
/// ALTER TABLE users ADD COLUMN session_version BLOB;
/// SELECT session FROM users WHERE id = ?;                                            -- load
/// UPDATE users SET session = ?record, session_version = ?after
///     WHERE id = ? AND session_version IS ?before;                                   -- replace
/// ```
///
/// A user whose row is not there cannot log in. Before a row is deleted, end that user's sessions with
/// [`Sessions::delete`](crate::Sessions::delete): the list of them goes with the row. The sessions themselves stay in
/// the session store.
///
/// ```
/// use session_runtime::store::{MemoryStore, StoreError, UserStore, Version};
/// use session_runtime::{SessionLayer, UserId};
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// /// A user's row: what is there of the two columns.
/// type Row = (Option<Version>, Option<Vec<u8>>);
///
/// /// Users by name.
/// struct Users(Mutex<HashMap<String, Row>>);
///
/// impl UserStore for Users {
///     async fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
///         let users = self.0.lock().map_err(|_| StoreError::broken("poisoned"))?;
///         Ok(users.get(user.as_str()).and_then(|(_, record)| record.clone()))
///     }
///
///     async fn replace(
///         &self,
///         user: &UserId,
///         before: Option<Version>,
///         after: Version,
///         record: Vec<u8>,
///     ) -> Result<bool, StoreError> {
///         let mut users = self.0.lock().map_err(|_| StoreError::broken("poisoned"))?;
///         match users.get_mut(user.as_str()) {
///             Some(row) if row.0 == before => {
///                 *row = (Some(after), Some(record));
///                 Ok(true)
///             }
///             _ => Ok(false),
///         }
///     }
/// }
///
/// let users = Users(Mutex::new(HashMap::from([("ada".to_owned(), (None, None))])));
/// let layer = SessionLayer::new(MemoryStore::new()).users(users);
/// # let _ = layer;
/// ```
pub trait UserStore: Send + Sync + 'static {
    /// Returns the bytes of a user's record; `None` if the column is NULL, or if there is no such user. Sees every
    /// [`replace`](Self::replace) that has returned: it does not ask a replica that lags.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    fn load(
        &self,
        user: &UserId,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// Puts `record` and its version, `after`, into a user's row, if the version there is still `before` (`None`:
    /// NULL). Both in one step: one statement, or one transaction that locks the row. Returns `false` if another
    /// version is there, or no such user, and nothing was written.
    ///
    /// # Errors
    ///
    /// If the table cannot be written. [`StoreError::unavailable`] says that it may have been, too; the same is then
    /// asked again.
    fn replace(
        &self,
        user: &UserId,
        before: Option<Version>,
        after: Version,
        record: Vec<u8>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Keeps users in the app's table, and all else in the session store.
pub(crate) struct WithUsers<U> {
    pub(crate) users: U,
    pub(crate) sessions: Arc<dyn AnyStore>,
}

impl<U: UserStore> Store for WithUsers<U> {
    fn name(&self) -> String {
        self.sessions.name()
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        match key {
            Key::User(user) => self.load_user(user).await,
            Key::Session(_) => self.sessions.load(key).await,
        }
    }

    fn is_cached(&self) -> bool {
        self.sessions.is_cached()
    }

    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        match key {
            Key::User(user) => self.load_user(user).await,
            Key::Session(_) => self.sessions.load_latest(key).await,
        }
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        match key {
            Key::User(user) => self.swap_user(user, before, after).await,
            Key::Session(_) => self.sessions.swap(key, before, after).await,
        }
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        self.sessions.scan(after, limit).await
    }

    /// Sweeps sessions. A user's record stays as long as the row.
    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.sessions.sweep(limit).await
    }
}

impl<U: UserStore> WithUsers<U> {
    async fn load_user(&self, user: &UserId) -> Result<Option<Arc<Record>>, StoreError> {
        let column = self.users.load(user).await?;
        let record = column.map(|bytes| Record::from_bytes(&bytes.into()));
        Ok(record.transpose()?.map(Arc::new))
    }

    async fn swap_user(
        &self,
        user: &UserId,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        let version = before.map(|before| before.version());
        let replaced = self
            .users
            .replace(user, version, after.version(), after.to_bytes());
        if replaced.await? {
            return Ok(Swapped::Done);
        }
        let there = self.load_user(user).await?;
        // Each write has a version of its own, so what is there still would have been replaced.
        if version == there.as_deref().map(Record::version) {
            tracing::warn!(
                "the app's `UserStore` has not replaced what its `load` shows: the user has no row, or `replace` does not take NULL for `None`, or does not write `after` beside the record"
            );
        }
        // Without a row there is nothing to delete.
        if there.is_none() && version.is_none() && after.ended().is_some() {
            return Ok(Swapped::Done);
        }
        Ok(Swapped::Stale(there))
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests;
