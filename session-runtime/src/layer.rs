//! The layer: an app's settings.

use std::error::Error as StdError;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum_core::response::IntoResponse;
use http::{request, response};
use tower_layer::Layer;

use crate::clock::Clock;
use crate::config::{Config, StructName};
use crate::event::Event;
use crate::key::UserId;
use crate::plan::confirm::WhenFull;
use crate::request::count_panics;
use crate::schema::Schema;
use crate::secret::SecretHash;
use crate::service::SessionService;
use crate::sessions::Sessions;
use crate::store::{Store, UserStore, WithUsers};
#[cfg(feature = "cookie")]
use crate::transport::CookieTransport;
use crate::transport::Transport;

/// A year: no clock can tell a time that is as far off as a [`Duration`] can be.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Sessions for every route below it.
///
/// So that nothing is written where a handler panics and something inside the layer answers for it, the layer sets a panic
/// hook, which counts and then calls the one that was set before.
///
/// A nested router may bring the layer along, also where it stands within another: there it leaves the session to the outer one,
/// if both have a cookie of the same name; of its own settings [`only_for`](Self::only_for) alone counts then. Of layers with different cookies, a handler
/// has the innermost one's session, and a middleware between the two the outer one's; with `only_for` it has both.
///
/// ```
/// use axum::{Router, routing::get};
/// use session_runtime::{SessionLayer, store::MemoryStore};
/// use std::time::Duration;
///
/// let sessions = SessionLayer::new(MemoryStore::new()).ttl(Duration::from_secs(30 * 60));
/// let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(sessions);
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is added to a router with `.layer(…)`"]
pub struct SessionLayer {
    config: Arc<Config>,
}

impl SessionLayer {
    /// Keeps sessions in `store`, and their ids in a cookie. See [`CookieTransport`](crate::transport::CookieTransport).
    #[cfg(feature = "cookie")]
    pub fn new(store: impl Store) -> Self {
        Self::with_transport(store, CookieTransport::new())
    }

    /// Keeps sessions in `store`, and has their ids travel otherwise than by default.
    pub fn with_transport(store: impl Store, transport: impl Into<Transport>) -> Self {
        Self {
            config: Arc::new(Config::new(Arc::new(store), transport.into())),
        }
    }

    fn config_mut(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }

    /// Sets where the id travels: in a cookie by default.
    pub fn transport(mut self, transport: impl Into<Transport>) -> Self {
        self.config_mut().set_transport(transport.into());
        self
    }

    /// Allows plain http, for development: the cookie loses `Secure` and its `__Host-` prefix. In production,
    /// whoever listens on the network has the session. It holds for a [`transport`](Self::transport) that is set later, too.
    ///
    /// Over plain http browsers share cookies across the ports of a host. So the port is a part of the name (`id-3000`), and
    /// two apps on one machine have one each.
    #[cfg(feature = "cookie")]
    pub fn insecure(mut self) -> Self {
        self.config_mut().allow_insecure();
        self
    }

    /// Says by request what the cookie is: `Secure` or not in an app that serves both https and plain http, the domain or
    /// the name where each host has its own. `cookie_by` is given the request, as the first extractor of a session sees it, and the
    /// settings of the [`transport`](Self::transport), which it changes or not. A request keeps to what it is told: the
    /// same cookie is read, set, and removed at a logout.
    ///
    /// A cookie that browsers would refuse is an error where the session is extracted, with a 500 and a log line that says
    /// what to change. What a client can make up, such as `Host`, chooses among what the app lists; a
    /// domain that is copied from it is the client's. Two layers have the same cookie if one is a clone of the other.
    ///
    /// ```
    /// use session_runtime::{SessionLayer, store::MemoryStore};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new()).cookie_by(|request, cookie| {
    ///     // Written by the proxy in front, which serves both.
    ///     let scheme = request.headers.get("x-forwarded-proto");
    ///     match scheme.is_some_and(|scheme| scheme == "http") {
    ///         true => cookie.insecure(),
    ///         false => cookie,
    ///     }
    /// });
    /// # let _ = layer;
    /// ```
    #[cfg(feature = "cookie")]
    pub fn cookie_by(
        mut self,
        cookie_by: impl Fn(&request::Parts, CookieTransport) -> CookieTransport + Send + Sync + 'static,
    ) -> Self {
        self.config_mut().cookie_by = Some(Arc::new(cookie_by));
        self
    }

    /// Sets how long a session may be idle: two hours by default. `#[session(ttl = "…")]` is a struct's own; of several structs in
    /// one request the longest counts.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.config_mut().ttl = ttl;
        self
    }

    /// Sets how long a session may live at all, from its creation or last login on, however much it is used: 30 days by
    /// default. `#[session(absolute = "…")]` is a struct's own; of several structs in one request the longest counts.
    pub fn absolute(mut self, absolute: Duration) -> Self {
        self.config_mut().absolute = absolute;
        self
    }

    /// Sets how long the store may take over each thing that is awaited: loading, `save`, `login`, the end of a request.
    /// Two seconds by default, a year at most. After that the client gets a 503.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.config_mut().deadline = deadline.min(LONGEST);
        self
    }

    /// Answers for the struct `S` alone, and for those of further calls: where several layers stand around a handler, each
    /// with a cookie of its own, it has each struct's session by the layer that names it, and all others' by the innermost layer that names
    /// none. By default a layer answers for whatever it is asked.
    ///
    /// Sessions of different layers have nothing in common: each has its own logins and logouts. Users are the store's: where one number
    /// is a customer in one layer and an administrator in the other, give the layers different stores, or log in `format!("admin {id}")`. [`Sessions`] is
    /// extracted of a layer that names no struct; for one that does, hand what [`sessions`](Self::sessions) returns to the handlers.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use session_runtime::transport::CookieTransport;
    /// use session_runtime::{Session, SessionLayer, store::MemoryStore};
    ///
    /// #[derive(Session)]
    /// struct Shop {
    ///     cart: Vec<String>,
    /// }
    ///
    /// #[derive(Session)]
    /// struct Admin {
    ///     may_refund: bool,
    /// }
    ///
    /// async fn refund(shop: Session<Shop>, admin: Session<Admin>) -> String {
    ///     format!("{} items, {}", shop.cart.get().len(), admin.may_refund.get())
    /// }
    ///
    /// let shop = SessionLayer::new(MemoryStore::new());
    /// let cookie = CookieTransport::new().name("__Host-admin");
    /// let admin = shop.clone().transport(cookie).only_for::<Admin>(); // users are those of the shop
    /// let app: Router = Router::new().route("/refund", get(refund)).layer(shop).layer(admin);
    /// # let _ = app;
    /// ```
    pub fn only_for<S: Schema>(mut self) -> Self {
        let named = self.config.only_for.as_deref().unwrap_or_default();
        let named = [named, &[StructName::of::<S>()]].concat();
        self.config_mut().only_for = Some(named.into());
        self
    }

    /// Limits the value of one field, in bytes of JSON: 256 KiB by default. Over that nothing is written,
    /// and the client gets a 413.
    pub fn max_field(mut self, bytes: usize) -> Self {
        self.config_mut().caps.field = bytes;
        self
    }

    /// Limits a session, in bytes of names and JSON: 1 MiB by default. Over that nothing is written, and
    /// the client gets a 413.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.config_mut().caps.record = bytes;
        self
    }

    /// Binds each session to the address that it was created or last logged in from, as `address_of` tells it. A session
    /// that is presented from elsewhere is ended; [`Session::ended`](crate::Session::ended) says so.
    ///
    /// Off by default: phones change their address all the time. Behind a proxy the address is in a header
    /// that only the proxy can be trusted to write. An IPv4 address that a listener for both families tells, `::ffff:192.0.2.1`, counts as
    /// `192.0.2.1`.
    ///
    /// ```
    /// use axum::extract::ConnectInfo;
    /// use session_runtime::{SessionLayer, store::MemoryStore};
    /// use std::net::SocketAddr;
    ///
    /// let layer = SessionLayer::new(MemoryStore::new()).bind_address(|request| {
    ///     let peer = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(peer.0.ip())
    /// });
    /// # let _ = layer;
    /// ```
    pub fn bind_address(
        mut self,
        address_of: impl Fn(&request::Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.config_mut().bound_to.address = true;
        self.client_address(address_of)
    }

    /// Tells a client's address, for [`Device::address`](crate::Device::address). The session is not
    /// bound to it: see [`bind_address`](Self::bind_address).
    pub fn client_address(
        mut self,
        address_of: impl Fn(&request::Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.config_mut().address_of = Some(Arc::new(address_of));
        self
    }

    /// Binds each session to the user agent that created it or last logged in. A session that another presents is ended.
    ///
    /// Off by default: browsers change theirs with every update.
    pub fn bind_user_agent(mut self) -> Self {
        self.config_mut().bound_to.user_agent = true;
        self
    }

    /// Decides which responses a handler's changes are written with: by default all but 408 and 504, which come from
    /// a timeout amid the handler and never are.
    ///
    /// ```
    /// use session_runtime::{SessionLayer, store::MemoryStore};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new())
    ///     .commit_if(|response| !response.status.is_server_error());
    /// # let _ = layer;
    /// ```
    pub fn commit_if(
        mut self,
        wanted: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.config_mut().commit_if = Some(Arc::new(wanted));
        self
    }

    /// Sets how often expired records are swept from the store, in batches: once a minute by default, once a year at least. `None` leaves
    /// that to somebody else; see [`Store::sweep`].
    pub fn sweep_every(mut self, period: Option<Duration>) -> Self {
        self.config_mut().sweep_every = period.map(|period| period.min(LONGEST));
        self
    }

    /// Has a login merge what the guest has gathered into the user's fields, or not: it does, by default. If not,
    /// that stays set apart in the session. [`Field::brought`](crate::Field::brought) shows it,
    /// [`Session::migrate`](crate::Session::migrate) merges it, [`Session::discard`](crate::Session::discard) drops it,
    /// and so does a logout. Fields without a rule stay with the browser either way.
    pub fn migrate(mut self, wanted: bool) -> Self {
        self.config_mut().migrate = wanted;
        self
    }

    /// Keeps what follows the users in the app's own table of them, instead of in the session store.
    pub fn users(mut self, users: impl UserStore) -> Self {
        let config = self.config_mut();
        let sessions = Arc::clone(&config.store);
        config.store = Arc::new(WithUsers { users, sessions });
        self
    }

    /// Has each request of somebody who is logged in look into the user's record, or not: it does not, by default, where
    /// its schema has no fields that follow the user. Such a request learns of a revocation when its session is ended, a
    /// moment later. It costs one call of the store.
    pub fn always_check_user(mut self, wanted: bool) -> Self {
        self.config_mut().always_check_user = wanted;
        self
    }

    /// Says what a user is logged in by now, for sessions that were logged in by
    /// [`login_with_fingerprint`](crate::Session::login_with_fingerprint): mostly the stored hash of the password. A session that was
    /// logged in by another one ends as if it had been revoked, when it is next presented; `None`, for a user who is not there any more, is
    /// another one, too. Sessions that were logged in without a fingerprint are not looked at.
    ///
    /// It is asked once in each request that extracts such a session, and is to answer within the [deadline](Self::deadline); if it
    /// fails, the client gets a 503.
    ///
    /// ```
    /// use session_runtime::{SessionLayer, UserId, store::MemoryStore};
    /// use std::{collections::HashMap, io, sync::Arc};
    ///
    /// let table = Arc::new(HashMap::from([("ada".to_owned(), "$argon2id$…".to_owned())]));
    /// let layer = SessionLayer::new(MemoryStore::new()).fingerprint_of(move |user: UserId| {
    ///     let table = Arc::clone(&table);
    ///     async move { Ok::<_, io::Error>(table.get(user.as_str()).cloned()) }
    /// });
    /// # let _ = layer;
    /// ```
    pub fn fingerprint_of<F, P, E>(
        mut self,
        look_up: impl Fn(UserId) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Option<P>, E>> + Send + 'static,
        P: AsRef<[u8]>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let hashed = move |user| {
            let looked_up = look_up(user);
            let hashed: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
                let found = looked_up.await.map_err(Into::into)?;
                Ok(found.map(|found| SecretHash::of(found.as_ref())))
            });
            hashed
        };
        self.config_mut().fingerprint_of = Some(Arc::new(hashed));
        self
    }

    /// Has each value that a handler writes read back at once, or not: in debug builds it is, by default, in release builds
    /// not. If the field's type cannot read it, or reads another value, or if a handler has changed a value that it had only
    /// read, through an atomic say, nothing is written, and the client gets a 500; the log names the field.
    ///
    /// Such faults (`skip_serializing_if` without `default`, a rename for one direction, `Some(None)`) are otherwise found when
    /// the value is read, and what was there is gone. It costs writing each value that was used three times more, and
    /// reading it once or twice. In sets and lists the order is not looked at; nor is what is read
    /// of a field that is absent, if the app has written its default.
    pub fn check_values(mut self, wanted: bool) -> Self {
        self.config_mut().check_values = wanted;
        self
    }

    /// Says what a route that takes [`LoggedIn`](crate::LoggedIn) answers to somebody who is not: a 401 by default.
    ///
    /// ```
    /// use axum::extract::OriginalUri;
    /// use axum::response::Redirect;
    /// use session_runtime::{SessionLayer, store::MemoryStore};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new()).when_logged_out(|request| {
    ///     // In a nested router, `request.uri` lacks what that is nested under.
    ///     let uri = request.extensions.get::<OriginalUri>().map_or(&request.uri, |uri| &uri.0);
    ///     // One value of the query, whatever a client writes. The login goes there only if it is a path of this app's.
    ///     let next = uri.path().replace('%', "%25").replace('&', "%26").replace('+', "%2B");
    ///     Redirect::to(&format!("/login?next={next}"))
    /// });
    /// # use axum::{Router, body::Body, http::Request, routing::get};
    /// # use session_runtime::{LoggedIn, Session};
    /// # use tower::ServiceExt;
    /// # #[derive(Session)]
    /// # struct Shop { cart: Vec<String> }
    /// # let users = Router::new().route("/users/{name}", get(async |_: LoggedIn<Shop>| ""));
    /// # let app: Router = Router::new().nest("/admin", users).layer(layer);
    /// # let request = Request::get("/admin/users/ada&next=b").body(Body::empty()).unwrap();
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # let answer = runtime.block_on(app.oneshot(request)).unwrap();
    /// # assert_eq!(answer.headers()["location"], "/login?next=/admin/users/ada%26next=b");
    /// ```
    pub fn when_logged_out<R: IntoResponse>(
        mut self,
        answer: impl Fn(&request::Parts) -> R + Send + Sync + 'static,
    ) -> Self {
        let answer = move |parts: &request::Parts| answer(parts).into_response();
        self.config_mut().when_logged_out = Some(Arc::new(answer));
        self
    }

    /// Limits the sessions that one user may have, and says what a login does that would be one too many. By default a
    /// user has a hundred, and the next login ends the oldest.
    ///
    /// The number holds however many logins race, and costs no call until it is reached; a login that ends others ends them all
    /// at once. One that is refused has looked at each of the user's sessions, all at once, whether it is still in use. All
    /// sessions are listed in the user's record, at some 80 bytes each, and the name of each field that a guest has brought.
    pub fn max_sessions(mut self, limit: usize, when_full: WhenFull) -> Self {
        self.config_mut().max_sessions = (limit.max(1), when_full);
        self
    }

    /// Calls `listener` with what happens to sessions, for audit logs or to clean up after them. One, the last
    /// that is given. A clone of the layer may have another: each is told what its own requests do, and all are told
    /// what has expired.
    ///
    /// Each event is told at most once, by the process that the store has told first, also where many share the
    /// store; should that process die at this very moment, or the store's answer not come before the deadline, it is
    /// not told at all. The request waits for
    /// `listener`: what takes time belongs into a channel.
    pub fn on_event(mut self, listener: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.config_mut().events.listen(Arc::new(listener));
        self
    }

    /// Returns what lists and ends the sessions of any user, for tasks outside of requests. Handlers extract [`Sessions`]. Settings that are
    /// made later do not reach it.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(Arc::clone(&self.config))
    }

    /// Waits until nothing that a request has begun to write is under way: also for clients that have gone away, which
    /// a server that shuts down gracefully does not wait for. Call it after that, on any clone of the layer. It takes
    /// as long as the slowest of them, which the [deadline](Self::deadline) limits.
    ///
    /// ```no_run
    /// # async fn serve() -> std::io::Result<()> {
    /// use axum::{Router, routing::get};
    /// use session_runtime::{SessionLayer, store::MemoryStore};
    ///
    /// let sessions = SessionLayer::new(MemoryStore::new());
    /// let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(sessions.clone());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// let stop = async { drop(tokio::signal::ctrl_c().await) };
    /// axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    /// sessions.idle().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn idle(&self) {
        self.config.underway.idle().await;
    }

    /// Goes by another clock than the system's, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.config_mut().set_clock(Arc::new(clock));
        self
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    /// # Panics
    ///
    /// If browsers would refuse the cookie that the settings make, or if sessions would have no lifetime, the store no time to answer, or sweeping no
    /// pause. The message says what to change.
    fn layer(&self, inner: S) -> Self::Service {
        if let Err(refusal) = self.config.check() {
            panic!("the session layer cannot work like this: {refusal}");
        }
        count_panics();
        SessionService::new(inner, Arc::clone(&self.config))
    }
}
