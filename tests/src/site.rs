//! A site: a store, a clock, and the layer over both. Its visitors bring the handler along.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::handler::Handler;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use session_runtime::store::{CachedStore, MemoryStore, Record, Slot, SqliteStore, Store, Swapped};
use session_runtime::testing::TestClock;
use session_runtime::{Clock, Key, Schema, Session, SessionId, SessionLayer, Timestamp, UserId};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    Browser, FaultStore, MysqlServer, PATIENCE, PostgresServer, RedisSentinels, RedisServer, Reply,
    wait_for,
};

/// A store whose calls are counted, a clock that stands still, and the layer over both.
#[derive(Debug)]
pub struct Site {
    /// The time, for the layer and the store.
    pub clock: TestClock,
    /// The store.
    pub store: Arc<FaultStore>,
    /// The layer.
    pub layer: SessionLayer,
    /// Where the store's file is, if it has one. Goes with the site.
    folder: Option<TempDir>,
}

/// A client of a site, whose every request goes to a handler that is given there and then.
///
/// Clones are tabs that share the cookies up to that point.
#[derive(Clone, Debug)]
pub struct Visitor {
    layer: SessionLayer,
    /// The cookies.
    pub browser: Browser,
}

impl Site {
    /// A site in memory.
    pub fn in_memory() -> Self {
        Self::new(|clock| MemoryStore::new().with_clock(clock))
    }

    /// A site in a file of its own.
    pub fn in_a_file() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let open = |clock| {
            SqliteStore::options()
                .clock(clock)
                .open(folder.path().join("db"))
        };
        let mut site = Self::new(|clock| open(clock).expect("a fresh file"));
        site.folder = Some(folder);
        site
    }

    /// A site on the Redis that the tests of this process share. `None` if this machine has none.
    pub async fn on_redis() -> Option<Self> {
        let store = RedisServer::shared()?.store().await;
        Some(Self::new(|_| store))
    }

    /// The same on the primary that sentinels name.
    pub async fn on_sentinel() -> Option<Self> {
        let store = RedisSentinels::shared()?.store().await;
        Some(Self::new(|_| store))
    }

    /// The same, read from memory. What is loaded is kept from the first request on.
    ///
    /// # Panics
    ///
    /// If nothing is ever kept.
    pub async fn in_a_cache() -> Option<Self> {
        let store = RedisServer::shared()?.store().await;
        let store = CachedStore::new(store).expect("its server tells of changes");
        let site = Self::new(|_| store.clone());
        let nobody = Key::User(UserId::new("nobody"));
        let record = Arc::new(Record::new(
            site.now(),
            site.now() + Duration::from_secs(60),
        ));
        let put = store.swap(&nobody, None, &record).await;
        assert_eq!(put.expect("an answer"), Swapped::Done);
        wait_for("something is kept", async || {
            store.load(&nobody).await.expect("an answer");
            !format!("{store:?}").contains("used_bytes: 0,")
        })
        .await;
        Some(site)
    }

    /// A site on the PostgreSQL that the tests of this process share. `None` if this machine has none.
    pub async fn on_postgres() -> Option<Self> {
        let (server, clock) = (PostgresServer::shared()?, TestClock::new());
        let store = server.store(clock.clone()).await;
        Some(Self::at(clock, store))
    }

    /// A site on the MariaDB that the tests of this process share. `None` if this machine has none.
    pub async fn on_mysql() -> Option<Self> {
        let (server, clock) = (MysqlServer::shared()?, TestClock::new());
        let store = server.store(clock.clone()).await;
        Some(Self::at(clock, store))
    }

    /// A site on the store that `open` makes.
    pub fn new<S: Store>(open: impl FnOnce(TestClock) -> S) -> Self {
        let clock = TestClock::new();
        let store = open(clock.clone());
        Self::at(clock, store)
    }

    fn at(clock: TestClock, store: impl Store) -> Self {
        let store = Arc::new(FaultStore::new(store));
        let layer = Self::layer(&store, &clock);
        Self {
            clock,
            store,
            layer,
            folder: None,
        }
    }

    /// The same site under other settings.
    #[must_use]
    pub fn with(mut self, settings: impl FnOnce(SessionLayer) -> SessionLayer) -> Self {
        self.layer = settings(self.layer);
        self
    }

    /// A layer over the same store, as a process has it that has just been started: it has seen no schema yet.
    pub fn other_process(&self) -> SessionLayer {
        Self::layer(&self.store, &self.clock)
    }

    /// Waits long, since tests share a machine. Does not sweep: where a test takes half a minute, a call comes that it has not
    /// made, and that its faults would hit.
    fn layer(store: &Arc<FaultStore>, clock: &TestClock) -> SessionLayer {
        SessionLayer::new(Arc::clone(store))
            .clock(clock.clone())
            .deadline(PATIENCE)
            .sweep_every(None)
    }

    /// Somebody who has never been here.
    pub fn visitor(&self) -> Visitor {
        Visitor::of(self.layer.clone())
    }

    /// Returns what the store holds under the visitor's id.
    pub async fn record(&self, visitor: &Visitor) -> Option<Arc<Record>> {
        let found = self.store.inner().load(&visitor.key()).await;
        found.expect("the store answers")
    }

    /// The bytes of one field, as they are stored.
    pub async fn payload(&self, visitor: &Visitor, name: &str) -> Option<String> {
        let record = self.record(visitor).await?;
        let payload = record.live_slot(name, self.clock.now())?.payload();
        Some(String::from_utf8_lossy(payload).into_owned())
    }

    /// Stores bytes under the name of a field, as another version of the app would.
    pub async fn plant(&self, visitor: &Visitor, name: &str, payload: impl AsRef<[u8]>) {
        let record = self.record(visitor).await.expect("there is a session");
        let slot = Arc::new(Slot::new(name, payload.as_ref().to_vec(), None));
        let after = Arc::new(record.next().with_slots([slot]));
        let planted = self
            .store
            .inner()
            .swap(&visitor.key(), Some(&record), &after)
            .await;
        assert_eq!(planted.expect("the store answers"), Swapped::Done);
    }

    /// The time by the site's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Visitor {
    /// Somebody who has no cookies yet.
    pub fn of(layer: SessionLayer) -> Self {
        Self {
            layer,
            browser: Browser::new(Router::new()),
        }
    }

    /// The same, under another layer.
    #[must_use]
    pub fn moved_to(&self, layer: &SessionLayer) -> Self {
        Self {
            layer: layer.clone(),
            browser: self.browser.clone(),
        }
    }

    /// The same, with this id and nothing else.
    #[must_use]
    pub fn presenting(&self, id: &str) -> Self {
        let cookie = format!("__Host-id={id}");
        Self {
            layer: self.layer.clone(),
            browser: Browser::presenting(Router::new(), cookie),
        }
    }

    /// Sends a request to `handler`, under the layer.
    pub async fn visit<T: 'static>(&mut self, handler: impl Handler<T, ()>) -> Reply {
        self.send(Request::default(), handler).await
    }

    /// Sends this request to `handler`, under the layer.
    pub async fn send<T: 'static>(
        &mut self,
        request: Request<Body>,
        handler: impl Handler<T, ()>,
    ) -> Reply {
        let app = Router::new().fallback(handler).layer(self.layer.clone());
        self.browser.turn_to(app).send(request).await
    }

    /// Sends a request of that method, which is answered so. Returns its handle, which has outlived the response.
    ///
    /// # Panics
    ///
    /// If it is answered otherwise.
    pub async fn outlive<S: Schema>(&mut self, method: Method, status: StatusCode) -> Session<S> {
        let (sender, mut outlived) = mpsc::unbounded_channel();
        let handler = async move |session: Session<S>| {
            let _ = sender.send(session);
            status
        };
        let mut request = Request::<Body>::default();
        *request.method_mut() = method;
        assert_eq!(self.send(request, handler).await.status, status);
        outlived.recv().await.expect("it was sent")
    }

    /// The id as the cookie carries it; empty if there is none.
    pub fn id(&self) -> String {
        self.browser.id().unwrap_or_default().to_owned()
    }

    /// Returns the key under which the store keeps the session.
    pub fn key(&self) -> Key {
        let id = SessionId::parse(self.id().as_bytes()).expect("the visitor has an id");
        Key::from(&id)
    }
}

/// Opens the handles of one request, one after the other, as middleware and handler do.
#[derive(Debug)]
pub struct Handles(Parts);

impl Handles {
    /// Another handle.
    pub async fn open<T: Schema>(&mut self) -> Session<T> {
        let opened = Session::from_request_parts(&mut self.0, &()).await;
        opened.expect("the session can be loaded")
    }
}

impl<A: Send + Sync> FromRequestParts<A> for Handles {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &A) -> Result<Self, Infallible> {
        Ok(Self(parts.clone()))
    }
}

/// Runs each `async fn test(site: Site)` on a site of each store: in memory, in a file, on Redis, on a
/// primary that Redis sentinels name, on PostgreSQL and on MariaDB. On a machine that has no such server, the test says so and is over.
#[macro_export]
macro_rules! on_each_store {
    ($($test:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($crate::Site::in_memory()).await;
            })*
        }

        mod in_a_file {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($crate::Site::in_a_file()).await;
            })*
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(site) = $crate::Site::on_redis().await {
                    super::$test(site).await;
                }
            })*
        }

        mod on_sentinel {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(site) = $crate::Site::on_sentinel().await {
                    super::$test(site).await;
                }
            })*
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(site) = $crate::Site::on_postgres().await {
                    super::$test(site).await;
                }
            })*
        }

        mod on_mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(site) = $crate::Site::on_mysql().await {
                    super::$test(site).await;
                }
            })*
        }
    };
}

/// Runs each `async fn test(site: Site)` on a site over Redis that reads from memory: what a cache might
/// get wrong, and the rest of what [`on_each_store`] runs need not be run once more.
#[macro_export]
macro_rules! on_a_cache {
    ($($test:ident),* $(,)?) => {
        mod in_a_cache {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(site) = $crate::Site::in_a_cache().await {
                    super::$test(site).await;
                }
            })*
        }
    };
}

/// Returns the loads, the swaps and the `Set-Cookie` headers of a request that goes well.
pub async fn cost<T: 'static>(
    site: &Site,
    visitor: &mut Visitor,
    handler: impl Handler<T, ()>,
) -> [usize; 3] {
    site.store.round_trips();
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    let (loads, swaps) = site.store.round_trips();
    [loads, swaps, reply.set_cookies().len()]
}
