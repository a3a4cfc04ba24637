//! Our stores, for code that expects one of the tower-sessions family.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::Causes;
use crate::key::{Key, Selector};
use crate::record::{Ended, Record, Slot};
use crate::secret::{Opens, SecretHash, Secrets};
use crate::store::tower_sessions::{Data, date, timestamp};
use crate::store::{Store, StoreError, Swapped, swept};

/// How long a store may take, if nothing else is said: as long as for the layer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Between two tries of a swap that failed in passing.
const PAUSE: Duration = Duration::from_millis(20);

/// How many records a sweep deletes at a time.
const SWEEP: usize = 1_000;

/// Offers a store of this crate to code that expects one of the tower-sessions family, such as `axum-login`.
///
/// It implements `SessionStore` and `ExpiredDeletion` of both versions of `tower-sessions-core`, 0.14 and 0.15. What
/// that code gains: a stolen database holds no usable cookie, since it holds hashes of ids; a session that was deleted
/// is not brought back by a request that ends within a day; a save whose answer was lost is repeated without harm; and
/// a deadline. What it does not gain: a save there is of all the session's data at once, so of two requests that
/// overlap the later one wins.
///
/// A [`SessionLayer`](crate::SessionLayer) may use the same store. Neither opens the other's sessions.
///
/// What has expired is deleted by `ExpiredDeletion::delete_expired`, ten minutes later at the earliest; call it now and
/// then.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::ForTowerSessions;
/// use session_runtime::store::SqliteStore;
/// use std::time::Duration;
/// use tower_sessions::{ExpiredDeletion, SessionManagerLayer};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.db");
/// let store = ForTowerSessions::new(SqliteStore::open(path)?);
/// let deleting = store.clone();
/// tokio::spawn(async move {
///     let mut every = tokio::time::interval(Duration::from_secs(60));
///     loop {
///         every.tick().await;
///         let _ = ExpiredDeletion::delete_expired(&deleting).await;
///     }
/// });
/// let layer = SessionManagerLayer::new(store);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// Beneath `axum-login`, which is on version 0.14:
///
/// ```
/// use axum_login::AuthManagerLayerBuilder;
/// use axum_login::tower_sessions::SessionManagerLayer;
/// use session_runtime::ForTowerSessions;
/// use session_runtime::store::MemoryStore;
///
/// fn layer<U>(users: U) -> impl Clone
/// where
///     U: axum_login::AuthnBackend + 'static,
/// {
///     let store = ForTowerSessions::new(MemoryStore::new());
///     AuthManagerLayerBuilder::new(users, SessionManagerLayer::new(store)).build()
/// }
/// # #[derive(Clone, Debug)]
/// # struct User;
/// # impl axum_login::AuthUser for User {
/// #     type Id = u64;
/// #     fn id(&self) -> u64 { 1 }
/// #     fn session_auth_hash(&self) -> &[u8] { b"" }
/// # }
/// # #[derive(Clone)]
/// # struct Users;
/// # impl axum_login::AuthnBackend for Users {
/// #     type User = User;
/// #     type Credentials = ();
/// #     type Error = std::convert::Infallible;
/// #     async fn authenticate(&self, _: ()) -> Result<Option<User>, Self::Error> { Ok(None) }
/// #     async fn get_user(&self, _: &u64) -> Result<Option<User>, Self::Error> { Ok(None) }
/// # }
/// # let _ = layer(Users);
/// ```
pub struct ForTowerSessions<S> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

impl<S: Store> ForTowerSessions<S> {
    /// Offers `store`.
    ///
    /// ```
    /// use session_runtime::ForTowerSessions;
    /// use session_runtime::store::MemoryStore;
    /// let store = ForTowerSessions::new(MemoryStore::new());
    /// # let _ = store;
    /// ```
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            clock: Arc::new(SystemClock::default()),
            deadline: DEADLINE,
        }
    }

    /// Answers each call that takes longer by an error. The default is 2 seconds. `delete_expired` may take longer: two minutes for each
    /// thousand records.
    ///
    /// Too short, and a busy store costs users their requests; too long, and a dead one holds them up.
    ///
    /// ```
    /// use session_runtime::ForTowerSessions;
    /// use session_runtime::store::MemoryStore;
    /// use std::time::Duration;
    /// let store = ForTowerSessions::new(MemoryStore::new()).deadline(Duration::from_millis(500));
    /// # let _ = store;
    /// ```
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Goes by `clock` instead of the system's. For tests.
    ///
    /// ```
    /// use session_runtime::store::MemoryStore;
    /// use session_runtime::{ForTowerSessions, SystemClock};
    /// let store = ForTowerSessions::new(MemoryStore::new()).clock(SystemClock::default());
    /// # let _ = store;
    /// ```
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    // What their trait asks for, whatever its version.

    /// Makes the session, and returns `true` if its id was free.
    async fn make(&self, id: i128, contents: &Contents) -> Result<bool, Refusal> {
        let id = Id::of(id);
        let made = Arc::new(contents.put_in(None, &id, self.clock.now()));
        let swapped = self.in_time(async { Ok(self.swap(&id.key, None, &made).await?) });
        Ok(swapped.await? == Swapped::Done)
    }

    /// Makes the session so, whatever it was; unless it has been deleted.
    async fn replace(&self, id: i128, contents: &Contents) -> Result<(), Refusal> {
        let id = Id::of(id);
        let plan = |there: Option<&Record>| {
            let now = self.clock.now();
            match there {
                Some(other) if !id.opens(other, now) => Err(Refusal::taken()),
                Some(deleted) if deleted.ended().is_some() && deleted.is_live(now) => Ok(None),
                there => Ok(Some(contents.put_in(there, &id, now))),
            }
        };
        self.in_time(self.amend(&id.key, plan)).await
    }

    async fn find(&self, id: i128) -> Result<Option<(Data, OffsetDateTime)>, Refusal> {
        let id = Id::of(id);
        let found = self.in_time(async {
            let found = self.store.load(&id.key).await?;
            match found {
                // A near cache may not know yet that it lives on.
                Some(record) if !self.is_there(&record, &id) => {
                    Ok(self.store.load_latest(&id.key).await?)
                }
                found => Ok(found),
            }
        });
        let found = found.await?.filter(|record| self.is_there(record, &id));
        found
            .map(|record| Ok((data(&record)?, date(record.expires()))))
            .transpose()
    }

    async fn end(&self, id: i128) -> Result<(), Refusal> {
        let id = Id::of(id);
        let plan = |there: Option<&Record>| {
            let reason = Ended::Deleted("deleted through tower-sessions".to_owned());
            let there = there.filter(|record| self.is_there(record, &id));
            Ok(there.map(|record| record.tombstone(reason, self.clock.now())))
        };
        self.in_time(self.amend(&id.key, plan)).await
    }

    async fn sweep(&self) -> Result<(), Refusal> {
        loop {
            if swept(self.store.sweep(SWEEP)).await?.deleted < SWEEP {
                return Ok(());
            }
            // A store that answers at once would leave nobody else a turn.
            yield_now().await;
        }
    }

    // How it is done.

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let done = timeout(self.deadline, work).await;
        done.unwrap_or_else(|_| Err(StoreError::timeout().into()))
    }

    fn is_there(&self, record: &Record, id: &Id) -> bool {
        let now = self.clock.now();
        id.opens(record, now) && record.ended().is_none() && record.is_live(now)
    }

    /// Swaps what is there for what `plan` makes of it, until that is done or there is nothing to do.
    async fn amend(
        &self,
        key: &Key,
        plan: impl Fn(Option<&Record>) -> Result<Option<Record>, Refusal>,
    ) -> Result<(), Refusal> {
        let mut there = self.store.load_latest(key).await?;
        while let Some(after) = plan(there.as_deref())? {
            match self.swap(key, there.as_ref(), &Arc::new(after)).await? {
                Swapped::Done => break,
                Swapped::Stale(now) => there = now,
            }
        }
        Ok(())
    }

    /// Swaps, again and again while it is not known what came of it.
    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        loop {
            match self.store.swap(key, before, after).await {
                Err(error) if error.is_transient() => sleep(PAUSE).await,
                // An earlier try, whose answer was lost, was the one that did it.
                Ok(Swapped::Stale(Some(there))) if there.is_or_was(after.version()) => {
                    return Ok(Swapped::Done);
                }
                Ok(Swapped::Stale(None)) if before.is_none() => {
                    return Err(StoreError::broken("it says that nothing is not nothing"));
                }
                answer => return answer,
            }
        }
    }
}

/// An id of theirs, as a store sees it: parts of its hash.
struct Id {
    key: Key,
    secret: SecretHash,
}

impl Id {
    fn of(id: i128) -> Self {
        let digest: [u8; 32] = Sha256::digest(id.to_le_bytes()).into();
        let selector = digest.first_chunk().copied().unwrap_or_default();
        let secret = digest[8..].first_chunk().copied().unwrap_or_default();
        Self {
            key: Key::Session(Selector::from_bytes(selector)),
            secret: SecretHash::from_bytes(secret),
        }
    }

    /// Returns `true` if the record is of this id, and not of another with the same key.
    fn opens(&self, record: &Record, now: Timestamp) -> bool {
        record.head.secrets.look_up(self.secret, now) == Opens::Current
    }
}

/// A session of theirs, as it is to be stored.
struct Contents {
    /// Sorted by name.
    slots: Vec<Arc<Slot>>,
    expires: Timestamp,
}

impl Contents {
    fn new(data: &Data, expires: OffsetDateTime) -> Result<Self, Refusal> {
        let slot = |(name, value): (&String, &Value)| {
            let payload = serde_json::to_vec(value).map_err(|_| Refusal::no_json(name))?;
            Ok(Arc::new(Slot::new(name.as_str(), payload, None)))
        };
        let slots: Result<Vec<_>, Refusal> = data.iter().map(slot).collect();
        let mut slots = slots?;
        slots.sort_by(|a, b| a.name().cmp(b.name()));
        let expires = timestamp(expires);
        Ok(Self { slots, expires })
    }

    /// Returns the record that comes after the one that is there.
    fn put_in(&self, there: Option<&Record>, id: &Id, now: Timestamp) -> Record {
        let mut record = there.map_or_else(|| Record::new(now, self.expires), Record::next);
        record.ended = None;
        record.expires = self.expires;
        record.note_write(now);
        record.head_mut().secrets = Secrets::first(id.secret, now);
        record.put_sorted(self.slots.clone());
        record
    }
}

fn data(record: &Record) -> Result<Data, Refusal> {
    let entry = |slot: &Arc<Slot>| {
        let name = slot.name().as_str();
        let value = serde_json::from_slice(slot.payload()).map_err(|_| Refusal::not_json(name))?;
        Ok((name.to_owned(), value))
    };
    record.slots().iter().map(entry).collect()
}

/// Why a call was not answered, in the terms of their errors. It never quotes a value.
enum Refusal {
    Store(String),
    Encode(String),
    Decode(String),
}

impl Refusal {
    fn taken() -> Self {
        Self::Store("another session has the same key".to_owned())
    }

    fn no_json(name: &str) -> Self {
        Self::Encode(format!("the value of `{name}` has no JSON form"))
    }

    fn not_json(name: &str) -> Self {
        Self::Decode(format!("what is stored as `{name}` is no JSON"))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(Causes(&error).to_string())
    }
}

macro_rules! version {
    ($core:ident) => {
        const _: () = {
            use $core::session::{Id, Record};
            use $core::session_store::{Error, ExpiredDeletion, Result, SessionStore};

            #[async_trait]
            impl<S: Store> SessionStore for ForTowerSessions<S> {
                async fn create(&self, record: &mut Record) -> Result<()> {
                    let contents = Contents::new(&record.data, record.expiry_date)?;
                    while !self.make(record.id.0, &contents).await? {
                        record.id = Id::default();
                    }
                    Ok(())
                }

                async fn save(&self, record: &Record) -> Result<()> {
                    let contents = Contents::new(&record.data, record.expiry_date)?;
                    Ok(self.replace(record.id.0, &contents).await?)
                }

                async fn load(&self, id: &Id) -> Result<Option<Record>> {
                    let found = self.find(id.0).await?;
                    Ok(found.map(|(data, expiry_date)| Record {
                        id: *id,
                        data,
                        expiry_date,
                    }))
                }

                async fn delete(&self, id: &Id) -> Result<()> {
                    Ok(self.end(id.0).await?)
                }
            }

            #[async_trait]
            impl<S: Store> ExpiredDeletion for ForTowerSessions<S> {
                async fn delete_expired(&self) -> Result<()> {
                    Ok(self.sweep().await?)
                }
            }

            impl From<Refusal> for Error {
                fn from(refusal: Refusal) -> Self {
                    match refusal {
                        Refusal::Store(text) => Self::Backend(text),
                        Refusal::Encode(text) => Self::Encode(text),
                        Refusal::Decode(text) => Self::Decode(text),
                    }
                }
            }
        };
    };
}

version!(tower_sessions_core_0_14);
version!(tower_sessions_core_0_15);

impl<S> Clone for ForTowerSessions<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            deadline: self.deadline,
        }
    }
}

impl<S> fmt::Debug for ForTowerSessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForTowerSessions")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
