//! What follows a user, kept within the app's own table of users.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::change::{Change, CommitId, Committed, Kind};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::frame;
use crate::key::{Key, UserId};
use crate::record::Record;
use crate::store::{AnyStore, Store, Swept};

/// How many commits a column remembers at most. A repeat comes within seconds, if it comes.
const COMMITS: usize = u8::MAX as usize;

/// How long it remembers them: for a minute, and for as long as the clocks of two instances may be apart, since each
/// commit has the time of its own.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// What one commit takes in the column: its id and its time.
const COMMIT: usize = 16 + 8;

/// The first byte of a column. Newer forms are refused, not guessed at.
const VERSION: u8 = 1;

/// Where an app keeps what follows its users, if not in the session store: a column of its own, which takes
/// bytes or nothing.
///
/// Deleting the user's row deletes what follows the user with it. In SQL:
///
/// ```sql
/// ALTER TABLE users ADD COLUMN session BLOB;                              -- bytea in PostgreSQL
/// SELECT session FROM users WHERE id = ?;                                 -- load
/// UPDATE users SET session = ?new WHERE id = ? AND session IS ?old;       -- replace: IS NOT DISTINCT FROM in PostgreSQL
/// ```
///
/// The sessions themselves stay in the session store, which lists them by user. A commit costs one call of
/// each method; where two devices write at once, one of them asks again.
///
/// ```
/// use session_runtime::store::{MemoryStore, StoreError, UserStore};
/// use session_runtime::{SessionLayer, UserId};
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// /// Users by name, and what follows them.
/// struct Users(Mutex<HashMap<String, Option<Vec<u8>>>>);
///
/// impl UserStore for Users {
///     async fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
///         let users = self.0.lock().map_err(|_| StoreError::unavailable("poisoned"))?;
///         Ok(users.get(user.as_str()).cloned().flatten())
///     }
///
///     async fn replace(
///         &self,
///         user: &UserId,
///         old: Option<&[u8]>,
///         new: Option<&[u8]>,
///     ) -> Result<bool, StoreError> {
///         let mut users = self.0.lock().map_err(|_| StoreError::unavailable("poisoned"))?;
///         let Some(column) = users.get_mut(user.as_str()) else {
///             return Ok(false); // no such user
///         };
///         let fits = column.as_deref() == old;
///         if fits {
///             *column = new.map(<[u8]>::to_vec);
///         }
///         Ok(fits)
///     }
/// }
///
/// let users = Users(Mutex::new(HashMap::from([("ada".to_owned(), None)])));
/// let layer = SessionLayer::new(MemoryStore::new()).users(users);
/// # let _ = layer;
/// ```
pub trait UserStore: Send + Sync + 'static {
    /// What the column holds; `None` if nothing, or if there is no such user.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    fn load(
        &self,
        user: &UserId,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// Puts `new` into the column, if that holds `old` at this moment, and says whether it did. Both in one
    /// step: one statement, or one transaction that locks the row. `false` if there is no such user.
    ///
    /// # Errors
    ///
    /// If the table cannot be written, or it is not known whether it was: then
    /// [`StoreError::unavailable`], and it is asked again.
    fn replace(
        &self,
        user: &UserId,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Users in the app's table, all else in the session store.
pub(crate) struct WithUsers<U> {
    pub(crate) users: U,
    pub(crate) sessions: Arc<dyn AnyStore>,
}

impl<U: UserStore> Store for WithUsers<U> {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        match key {
            Key::User(user) => {
                let column = self.users.load(user).await?;
                Ok(Column::read(column)?.record)
            }
            Key::Session(_) => self.sessions.load(key).await,
        }
    }

    async fn commit(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        match key {
            Key::User(user) => commit(&self.users, user, change).await,
            Key::Session(_) => self.sessions.commit(key, change).await,
        }
    }

    async fn owned_by(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        self.sessions.owned_by(owner).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.sessions.sweep(limit).await
    }
}

/// Commits to a user's column. Whoever finds it changed in between begins anew: that one got through.
async fn commit(
    users: &impl UserStore,
    user: &UserId,
    change: &Change,
) -> Result<Committed, StoreError> {
    let mut found_nothing = false;
    loop {
        let old = users.load(user).await?;
        let mut column = Column::read(old.clone())?;
        if column.remembers(change.id) {
            return Ok(Committed::Applied);
        }
        if let Some(refusal) = change.decide(column.record.as_ref()) {
            return Ok(refusal);
        }
        if found_nothing && old.is_none() {
            tracing::warn!("a user who logs in is not in the app's `UserStore`");
            return Ok(Committed::Gone);
        }
        found_nothing = old.is_none();
        column.apply(change);
        let new = column.write();
        if users.replace(user, old.as_deref(), new.as_deref()).await? {
            return Ok(Committed::Applied);
        }
    }
}

/// What a column holds.
#[derive(Default)]
struct Column {
    record: Option<Arc<Record>>,
    /// The commits of the last minutes, in the order in which they came.
    commits: Vec<(CommitId, Timestamp)>,
}

impl Column {
    fn read(column: Option<Vec<u8>>) -> Result<Self, StoreError> {
        let Some(column) = column else {
            return Ok(Self::default());
        };
        let column = Bytes::from(column);
        let broken = || StoreError::broken("a user's column holds what this library did not write");
        let (head, count) = match column[..] {
            [VERSION, count, ..] => (2, usize::from(count)),
            [] | [VERSION] => return Err(broken()),
            [version, ..] => {
                return Err(StoreError::broken(format!(
                    "a user's column has format {version}, and this version of the library reads {VERSION}"
                )));
            }
        };
        let end = head + count * COMMIT;
        let commits = column.get(head..end).ok_or_else(broken)?;
        Ok(Self {
            commits: commits.as_chunks().0.iter().map(read_commit).collect(),
            record: Some(Arc::new(frame::decode(&column.slice(end..))?)),
        })
    }

    fn remembers(&self, id: CommitId) -> bool {
        self.commits.iter().any(|(commit, _)| *commit == id)
    }

    fn apply(&mut self, change: &Change) {
        let now = change.now;
        self.commits
            .retain(|(_, at)| now.since(*at) < KEPT && at.since(now) < KEPT);
        let surplus = (self.commits.len() + 1).saturating_sub(COMMITS);
        self.commits.drain(..surplus);
        self.commits.push((change.id, now));
        match &change.kind {
            // Nothing is left of it, no tombstone either: the user is the app's to remember.
            Kind::End(_) | Kind::Move(..) => self.record = None,
            Kind::Create => {
                let mut record = Record::new(now, now);
                change.apply(&mut record);
                self.record = Some(Arc::new(record));
            }
            Kind::Update | Kind::Claim(_) | Kind::Release(_) => {
                if let Some(record) = &mut self.record {
                    change.apply(Arc::make_mut(record));
                }
            }
        }
    }

    fn write(&self) -> Option<Vec<u8>> {
        let record = self.record.as_deref()?;
        let mut column = vec![VERSION, u8::try_from(self.commits.len()).unwrap_or(u8::MAX)];
        for (id, at) in &self.commits {
            column.extend(id.to_bytes());
            column.extend(at.as_millis().to_le_bytes());
        }
        column.extend(frame::encode(record));
        Some(column)
    }
}

fn read_commit(bytes: &[u8; COMMIT]) -> (CommitId, Timestamp) {
    let (mut id, mut at) = ([0; 16], [0; 8]);
    id.copy_from_slice(&bytes[..16]);
    at.copy_from_slice(&bytes[16..]);
    let at = Timestamp::from_millis(i64::from_le_bytes(at));
    (CommitId::from_bytes(id), at)
}

#[cfg(all(test, feature = "testing", feature = "memory"))]
mod tests;
