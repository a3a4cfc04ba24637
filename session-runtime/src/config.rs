//! The layer's settings, as every part below it reads them.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use http::request;
use http::response;
use tokio::sync::{Mutex, MutexGuard};

use crate::clock::{Clock, SystemClock, Timestamp, Watch};
use crate::event::{EventKind, Herald};
use crate::key::{Key, UserId};
use crate::schema::Lifetime;
use crate::store::AnyStore;
use crate::transport::Transport;

/// Idle lifetime: Catalyst's default, two hours.
const TTL: Duration = Duration::from_secs(2 * 60 * 60);
/// Absolute lifetime.
const ABSOLUTE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a request waits for the store.
const DEADLINE: Duration = Duration::from_secs(2);
/// The largest payload of one field.
const MAX_FIELD: usize = 256 * 1024;
/// The largest record.
const MAX_RECORD: usize = 1024 * 1024;
/// How often expired records are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Keys that had a conflict share this many queues.
const QUEUES: u8 = 64;

type AddressOf = dyn Fn(&request::Parts) -> Option<IpAddr> + Send + Sync;
type CommitIf = dyn Fn(&response::Parts) -> bool + Send + Sync;

/// What a login does that finds the user's number of sessions at its limit.
///
/// ```
/// use session_runtime::{SessionLayer, WhenFull, store::MemoryStore};
/// let layer = SessionLayer::new(MemoryStore::new()).max_sessions(3, WhenFull::EndOldest);
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It fails: [`Error::is_too_many_sessions`](crate::Error::is_too_many_sessions).
    Refuse,
    /// It ends the user's oldest session.
    EndOldest,
}

#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) store: Arc<dyn AnyStore>,
    pub(crate) transport: Transport,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) ttl: Duration,
    pub(crate) absolute: Duration,
    pub(crate) deadline: Duration,
    pub(crate) max_field: usize,
    pub(crate) max_record: usize,
    pub(crate) sweep_every: Option<Duration>,
    /// Whether what follows the user is credited at a login.
    pub(crate) migrate: bool,
    pub(crate) max_sessions: Option<(usize, WhenFull)>,
    pub(crate) herald: Herald,
    pub(crate) address_of: Option<Arc<AddressOf>>,
    pub(crate) bind_address: bool,
    pub(crate) bind_user_agent: bool,
    pub(crate) commit_if: Option<Arc<CommitIf>>,
    /// Whether the sweeping task has been started.
    pub(crate) sweeping: Arc<Once>,
    queues: Arc<[Mutex<()>; QUEUES as usize]>,
}

impl Config {
    pub(crate) fn new(store: Arc<dyn AnyStore>, transport: Transport) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        Self {
            store,
            transport,
            herald: Herald::new(Arc::clone(&clock)),
            watch: Arc::new(Watch::new(Arc::clone(&clock))),
            clock,
            ttl: TTL,
            absolute: ABSOLUTE,
            deadline: DEADLINE,
            max_field: MAX_FIELD,
            max_record: MAX_RECORD,
            sweep_every: Some(SWEEP_EVERY),
            migrate: true,
            max_sessions: None,
            address_of: None,
            bind_address: false,
            bind_user_agent: false,
            commit_if: None,
            sweeping: Arc::new(Once::new()),
            queues: Arc::new(std::array::from_fn(|_| Mutex::new(()))),
        }
    }

    pub(crate) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.watch = Arc::new(Watch::new(Arc::clone(&clock)));
        self.herald.clock = Arc::clone(&clock);
        self.clock = clock;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Tells the app what has happened to a session.
    pub(crate) fn tell(&self, kind: EventKind, key: &Key, user: Option<&UserId>) {
        self.herald.tell(kind, key, user);
    }

    /// The lifetimes of a session whose schemas ask for `wish`.
    pub(crate) fn lifetimes(&self, wish: Lifetime) -> (Duration, Duration) {
        (
            wish.ttl.unwrap_or(self.ttl),
            wish.absolute.unwrap_or(self.absolute),
        )
    }

    /// A place in the queue of commits to `key`, so that those who keep losing a conflict get their turn.
    pub(crate) async fn queue(&self, key: &Key) -> MutexGuard<'_, ()> {
        let queue = key.spread() % u64::from(QUEUES);
        self.queues[usize::try_from(queue).unwrap_or(0)]
            .lock()
            .await
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("transport", &self.transport)
            .field("ttl", &self.ttl)
            .field("absolute", &self.absolute)
            .field("deadline", &self.deadline)
            .field("max_field", &self.max_field)
            .field("max_record", &self.max_record)
            .field("sweep_every", &self.sweep_every)
            .field("migrate", &self.migrate)
            .field("max_sessions", &self.max_sessions)
            .field("on_event", &self.herald.is_listened_to())
            .field("bind_address", &self.bind_address)
            .field("bind_user_agent", &self.bind_user_agent)
            .finish_non_exhaustive()
    }
}
