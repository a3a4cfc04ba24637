//! The layer's settings, as every part below it reads them.

use std::any::{TypeId, type_name};
use std::fmt;
use std::future::Future;
use std::iter::once;
use std::net::IpAddr;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum_core::response::Response;
use http::request;
use http::response;

use crate::clock::{Clock, SystemClock, Timestamp, Watch};
use crate::error::{Cause, Error, own_name};
use crate::event::{EventKind, EventSink};
use crate::health::Health;
use crate::key::{Key, UserId};
use crate::observe::Hints;
use crate::plan::confirm::WhenFull;
use crate::plan::edit::Caps;
use crate::plan::lifetime::Lifetimes;
use crate::queue::Queues;
use crate::row::{Lifetime, RowOf};
use crate::secret::SecretHash;
use crate::store::AnyStore;
use crate::task::Underway;
use crate::traffic::Traffic;
#[cfg(feature = "cookie")]
use crate::transport::CookieTransport;
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
/// How many sessions a user may have.
const MAX_SESSIONS: (usize, WhenFull) = (100, WhenFull::EndOldest);

type AddressOf = dyn Fn(&request::Parts) -> Option<IpAddr> + Send + Sync;
/// Asks the app what a user is logged in by, hashed.
pub(crate) type FingerprintOf = dyn Fn(UserId) -> Pin<Box<dyn Future<Output = Result<Option<SecretHash>, Cause>> + Send>>
    + Send
    + Sync;
type WhenLoggedOut = dyn Fn(&request::Parts) -> Response + Send + Sync;
#[cfg(feature = "cookie")]
type CookieBy = dyn Fn(&request::Parts, CookieTransport) -> CookieTransport + Send + Sync;
type CommitIf = dyn Fn(&response::Parts) -> bool + Send + Sync;

/// The address and user agent that a session is bound to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BoundTo {
    pub(crate) address: bool,
    pub(crate) user_agent: bool,
}

/// A struct that a layer answers for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StructName {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl StructName {
    pub(crate) fn of<S: 'static>() -> Self {
        Self {
            id: TypeId::of::<S>(),
            name: type_name::<S>(),
        }
    }
}

#[derive(Clone)]
#[allow(clippy::struct_excessive_bools)] // settings that are on or off, each by itself
pub(crate) struct Config {
    pub(crate) store: Arc<dyn AnyStore>,
    pub(crate) transport: Transport,
    /// Whether plain http is allowed.
    insecure: bool,
    /// The structs that the layer answers for; all, if there is no such list.
    pub(crate) only_for: Option<Arc<[StructName]>>,
    /// Says by request what the cookie is, where the app does.
    #[cfg(feature = "cookie")]
    pub(crate) cookie_by: Option<Arc<CookieBy>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) ttl: Duration,
    pub(crate) absolute: Duration,
    pub(crate) deadline: Duration,
    pub(crate) caps: Caps,
    pub(crate) sweep_every: Option<Duration>,
    /// Whether what follows the user is credited at a login.
    pub(crate) migrate: bool,
    pub(crate) max_sessions: (usize, WhenFull),
    /// Whether each request looks into the record of the user who is logged in.
    pub(crate) always_check_user: bool,
    /// Whether values are looked at that handlers have written or read.
    pub(crate) check_values: bool,
    pub(crate) events: EventSink,
    pub(crate) address_of: Option<Arc<AddressOf>>,
    pub(crate) when_logged_out: Option<Arc<WhenLoggedOut>>,
    pub(crate) fingerprint_of: Option<Arc<FingerprintOf>>,
    pub(crate) bound_to: BoundTo,
    pub(crate) commit_if: Option<Arc<CommitIf>>,
    /// Says whether there is a sweeping task.
    pub(crate) sweeping: Arc<AtomicBool>,
    pub(crate) queues: Arc<Queues>,
    pub(crate) underway: Underway,
    pub(crate) traffic: Arc<Traffic>,
    /// Whether the store answers.
    pub(crate) health: Arc<Health>,
    /// What is said once.
    pub(crate) hints: Arc<Hints>,
    /// The rows of all schemas that were extracted so far.
    rows: Arc<RwLock<Known>>,
}

impl Config {
    pub(crate) fn new(store: Arc<dyn AnyStore>, transport: Transport) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        Self {
            health: Arc::new(Health::new(store.name())),
            store,
            transport,
            insecure: false,
            only_for: None,
            #[cfg(feature = "cookie")]
            cookie_by: None,
            hints: Arc::default(),
            events: EventSink::new(Arc::clone(&clock)),
            watch: Arc::new(Watch::new(Arc::clone(&clock))),
            clock,
            ttl: TTL,
            absolute: ABSOLUTE,
            deadline: DEADLINE,
            caps: Caps {
                field: MAX_FIELD,
                record: MAX_RECORD,
            },
            sweep_every: Some(SWEEP_EVERY),
            migrate: true,
            max_sessions: MAX_SESSIONS,
            always_check_user: false,
            check_values: cfg!(debug_assertions),
            address_of: None,
            when_logged_out: None,
            fingerprint_of: None,
            bound_to: BoundTo::default(),
            commit_if: None,
            sweeping: Arc::default(),
            queues: Arc::default(),
            underway: Underway::default(),
            traffic: Arc::default(),
            rows: Arc::default(),
        }
    }

    pub(crate) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.watch = Arc::new(Watch::new(Arc::clone(&clock)));
        self.events.clock = Arc::clone(&clock);
        self.clock = clock;
    }

    /// Sets where the id travels. What was said of plain http holds.
    pub(crate) fn set_transport(&mut self, transport: Transport) {
        self.transport = transport;
        if self.insecure {
            self.allow_insecure();
        }
    }

    pub(crate) fn allow_insecure(&mut self) {
        self.insecure = true;
        #[cfg(feature = "cookie")]
        if let Some(cookie) = self.transport.cookie_mut() {
            cookie.allow_insecure();
        }
    }

    /// Returns what is wrong with the settings, in a sentence that says what to change.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, time, then) in [
            (
                "ttl",
                Some(self.ttl),
                "no session lives: set it to how long one is to",
            ),
            (
                "absolute",
                Some(self.absolute),
                "no session lives: set it to how long one is to",
            ),
            (
                "deadline",
                Some(self.deadline),
                "no store answers in time: set it to how long one may take",
            ),
            (
                "sweep_every",
                self.sweep_every,
                "the store is swept without a pause: set it to how often it is to be, or to `None`",
            ),
        ] {
            if time.is_some_and(|time| time.as_millis() == 0) {
                return Err(format!("with `{name}` below a millisecond {then}"));
            }
        }
        #[cfg(feature = "cookie")]
        if self.cookie_by.is_some() && self.transport.cookie().is_none() {
            return Err(
                "`cookie_by` is of cookies, and the id travels in a header: leave one of the two"
                    .to_owned(),
            );
        }
        self.transport.check(self.absolute)
    }

    /// Returns the transport of this one request, if the app says by request what its cookie is.
    ///
    /// # Errors
    ///
    /// If browsers would refuse that cookie.
    #[cfg(feature = "cookie")]
    pub(crate) fn transport_of(
        &self,
        parts: &request::Parts,
    ) -> Result<Option<Arc<Transport>>, Error> {
        let (Some(cookie_by), Some(cookie)) = (&self.cookie_by, self.transport.cookie()) else {
            return Ok(None);
        };
        let mut cookie = cookie_by(parts, cookie.clone());
        if self.insecure {
            cookie.allow_insecure();
        }
        let transport = Transport::from(cookie);
        transport.check(self.absolute).map_err(Error::cookie)?;
        Ok(Some(Arc::new(transport)))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns `true` if a layer with these settings, within one with `outer`'s, would serve the same sessions: it leaves them
    /// to that one.
    pub(crate) fn is_within(&self, outer: &Self) -> bool {
        self.chooses_as(outer) && self.transport.carries_as(&outer.transport)
    }

    /// Returns `true` if both have the same store.
    pub(crate) fn shares_store(&self, other: &Self) -> bool {
        ptr::addr_eq(Arc::as_ptr(&self.store), Arc::as_ptr(&other.store))
    }

    /// Returns `true` if neither has its cookie by request, or both have by the same function.
    #[cfg_attr(not(feature = "cookie"), expect(clippy::unused_self, unused_variables))]
    fn chooses_as(&self, other: &Self) -> bool {
        #[cfg(feature = "cookie")]
        match (&self.cookie_by, &other.cookie_by) {
            (None, None) => {}
            (Some(own), Some(other)) => return Arc::ptr_eq(own, other),
            _ => return false,
        }
        true
    }

    /// Tells the app what has happened to a session.
    pub(crate) fn emit(&self, kind: EventKind, key: &Key, user: Option<&UserId>) {
        self.events.emit(kind, key, user);
    }

    /// Returns the lifetimes of a session whose schemas ask for `wish`.
    pub(crate) fn lifetimes(&self, wish: Lifetime) -> Lifetimes {
        Lifetimes {
            ttl: wish.ttl.unwrap_or(self.ttl),
            absolute: wish.absolute.unwrap_or(self.absolute),
        }
    }

    /// Takes note of a schema's rows: a login sets apart and credits the fields of all that are known.
    ///
    /// # Errors
    ///
    /// If it stores something under the name of a field that another schema keeps otherwise.
    pub(crate) fn know(
        &self,
        id: TypeId,
        name: &'static str,
        rows: &'static [RowOf],
    ) -> Result<(), Error> {
        let has_it = |known: &Known| known.schemas.iter().any(|schema| schema.id == id);
        if has_it(&self.rows.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let mut known = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        if has_it(&known) {
            return Ok(());
        }
        known.check(name, rows)?;
        known.schemas.push(KnownSchema { id, name, rows });
        known.rows = [&*known.rows, rows].concat().into();
        Ok(())
    }

    /// Returns the rows of all schemas that were extracted so far.
    pub(crate) fn known_rows(&self) -> Arc<[RowOf]> {
        let known = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.rows)
    }
}

/// The schemas that were extracted so far, and their rows together.
#[derive(Default)]
struct Known {
    schemas: Vec<KnownSchema>,
    rows: Arc<[RowOf]>,
}

struct KnownSchema {
    id: TypeId,
    name: &'static str,
    rows: &'static [RowOf],
}

impl Known {
    /// Refuses rows that share a name with one that is known, be it an older one, and are kept otherwise or under another name by now: each
    /// would destroy what the other stores.
    fn check(&self, name: &'static str, rows: &[RowOf]) -> Result<(), Error> {
        for RowOf(row) in rows {
            for schema in &self.schemas {
                for RowOf(other) in schema.rows {
                    let mut names = once(row.name()).chain(row.aliases().iter().copied());
                    let Some(shared) = names.find(|name| other.knows(name)) else {
                        continue;
                    };
                    let (ours, theirs) = (row.kept(), other.kept());
                    if ours != theirs || row.name() != other.name() {
                        let sides = [(schema.name, theirs, other), (name, ours, row)];
                        let sides = sides.map(|(schema, kept, row)| {
                            let told = if row.name() == shared {
                                kept.to_string()
                            } else {
                                format!("{kept}, now called `{}`", own_name(row.name()))
                            };
                            (schema, told)
                        });
                        return Err(Error::claimed_twice(shared, sides));
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("transport", &self.transport)
            .field("ttl", &self.ttl)
            .field("absolute", &self.absolute)
            .field("deadline", &self.deadline)
            .field("caps", &self.caps)
            .field("sweep_every", &self.sweep_every)
            .field("migrate", &self.migrate)
            .field("max_sessions", &self.max_sessions)
            .field("on_event", &self.events.is_listened_to())
            .field("bound_to", &self.bound_to)
            .finish_non_exhaustive()
    }
}
