//! Our stores, for code that expects one of theirs.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use crate::change::{Change, Committed, Expiry, Kind, SlotChange};
use crate::clock::{Clock, SystemClock};
use crate::error::{Causes, StoreError};
use crate::key::Key;
use crate::record::{Ended, Record, Slot, State};
use crate::store::Store;

use super::family::{Data, date, timestamp};

/// How long a store may take, if nothing else is said: as long as for the layer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Between two tries of a commit whose answer was lost.
const PAUSE: Duration = Duration::from_millis(20);

/// How many records a sweep deletes at a time.
const SWEEP: usize = 1_000;

/// A store of this crate for code that expects one of the tower-sessions family, such as `axum-login`.
///
/// It implements `SessionStore` and `ExpiredDeletion` of both versions of `tower-sessions-core`, 0.14 and 0.15.
/// What that code gains: a stolen database holds no usable cookie, since records stand there under a hash of
/// the id; a session that was deleted is not brought back by a request that ends later; a save whose answer
/// was lost is repeated without harm; and a deadline. What it does not gain: a save there is of all the
/// session's data at once, so of two requests that overlap the later one wins.
///
/// A [`SessionLayer`](crate::SessionLayer) may use the same store. Neither sees the other's sessions.
///
/// What has expired is deleted by `ExpiredDeletion::delete_expired`; call it now and then.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::store::{ForTowerSessions, SqliteStore};
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
/// use session_runtime::store::{ForTowerSessions, MemoryStore};
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
    /// use session_runtime::store::{ForTowerSessions, MemoryStore};
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

    /// How long each call may take before it is answered by an error. The default is 2 seconds.
    ///
    /// Too short, and a busy store costs users their requests; too long, and a dead one holds them up.
    ///
    /// ```
    /// use session_runtime::store::{ForTowerSessions, MemoryStore};
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
    /// use session_runtime::SystemClock;
    /// use session_runtime::store::{ForTowerSessions, MemoryStore};
    /// let store = ForTowerSessions::new(MemoryStore::new()).clock(SystemClock::default());
    /// # let _ = store;
    /// ```
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    // What their trait asks for, whatever its version.

    /// Whether the id was free, so that the session is there now.
    pub(super) async fn offer(
        &self,
        id: i128,
        data: &Data,
        expires: OffsetDateTime,
    ) -> Result<bool, Refusal> {
        let change = self.change(Kind::Create, slots(data)?, expires);
        let committed = self
            .in_time(self.commit(&Key::foreign(id), &change))
            .await?;
        Ok(committed == Committed::Applied)
    }

    /// Makes the session so, whatever it was; unless it has been deleted.
    pub(super) async fn replace(
        &self,
        id: i128,
        data: &Data,
        expires: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let slots = slots(data)?;
        self.in_time(self.replace_with(&Key::foreign(id), slots, expires))
            .await
    }

    pub(super) async fn find(&self, id: i128) -> Result<Option<(Data, OffsetDateTime)>, Refusal> {
        let key = Key::foreign(id);
        let found = self.in_time(async { Ok(self.store.load(&key).await?) });
        let found = found.await?.filter(|record| self.is_there(record));
        found
            .map(|record| Ok((data(&record)?, date(record.expires))))
            .transpose()
    }

    pub(super) async fn end(&self, id: i128) -> Result<(), Refusal> {
        let reason = Ended::Deleted("deleted through tower-sessions".to_owned());
        let change = Change::new(Kind::End(reason), self.clock.now());
        self.in_time(self.commit(&Key::foreign(id), &change))
            .await?;
        Ok(())
    }

    pub(super) async fn sweep(&self) -> Result<(), Refusal> {
        while self.store.sweep(SWEEP).await?.deleted == SWEEP {}
        Ok(())
    }

    // How it is done.

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let done = timeout(self.deadline, work).await;
        done.unwrap_or_else(|_| Err(StoreError::timeout().into()))
    }

    fn is_there(&self, record: &Record) -> bool {
        record.state == State::Live && record.is_live(self.clock.now())
    }

    fn change(&self, kind: Kind, slots: Vec<Arc<Slot>>, expires: OffsetDateTime) -> Change {
        Change {
            slots: slots
                .into_iter()
                .map(|slot| SlotChange::set(None, slot))
                .collect(),
            expiry: Expiry::Set(timestamp(expires)),
            ..Change::new(kind, self.clock.now())
        }
    }

    async fn replace_with(
        &self,
        key: &Key,
        slots: Vec<Arc<Slot>>,
        expires: OffsetDateTime,
    ) -> Result<(), Refusal> {
        loop {
            let held = self.store.load(key).await?;
            let held = held.filter(|record| record.is_live(self.clock.now()));
            let change = match held {
                None => self.change(Kind::Create, slots.clone(), expires),
                Some(held) if held.state == State::Live => Change {
                    slots: differences(&held, &slots),
                    ..self.change(Kind::Update, Vec::new(), expires)
                },
                Some(_) => return Ok(()),
            };
            if self.commit(key, &change).await? == Committed::Applied {
                return Ok(());
            }
        }
    }

    /// Commits, again and again under one id while it is not known what came of it.
    async fn commit(&self, key: &Key, change: &Change) -> Result<Committed, Refusal> {
        loop {
            match self.store.commit(key, change).await {
                Err(error) if error.is_repeatable() => sleep(PAUSE).await,
                answer => return Ok(answer?),
            }
        }
    }
}

/// Each entry as a slot.
fn slots(data: &Data) -> Result<Vec<Arc<Slot>>, Refusal> {
    let slot = |(name, value): (&String, &Value)| {
        let payload = serde_json::to_vec(value).map_err(|_| Refusal::no_json(name))?;
        Ok(Arc::new(Slot::new(name.as_str(), payload, None)))
    };
    data.iter().map(slot).collect()
}

fn data(record: &Record) -> Result<Data, Refusal> {
    let entry = |slot: &Arc<Slot>| {
        let name = slot.name().as_str();
        let value = serde_json::from_slice(slot.payload()).map_err(|_| Refusal::not_json(name))?;
        Ok((name.to_owned(), value))
    };
    record.slots().iter().map(entry).collect()
}

/// What makes these slots of what is held.
fn differences(held: &Record, slots: &[Arc<Slot>]) -> Vec<SlotChange> {
    let names: BTreeSet<&str> = slots.iter().map(|slot| slot.name().as_str()).collect();
    let surplus = held.slots().iter();
    let surplus = surplus.filter(|slot| !names.contains(slot.name().as_str()));
    let changed = slots.iter().filter_map(|slot| {
        let base = held.slot(slot.name().as_str());
        let differs = base.is_none_or(|base| base.signature() != slot.signature());
        differs.then(|| SlotChange::set(base.cloned(), Arc::clone(slot)))
    });
    changed
        .chain(surplus.map(|slot| SlotChange::drop(Arc::clone(slot))))
        .collect()
}

/// Why a call was not answered, in the terms of their errors. It never quotes a value.
pub(super) enum Refusal {
    Store(String),
    Encode(String),
    Decode(String),
}

impl Refusal {
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
