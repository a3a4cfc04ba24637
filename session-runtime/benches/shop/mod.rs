//! A shop's session of 22 fields behind a router, beside 200 others, and a client of it.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{COOKIE, SET_COOKIE, USER_AGENT};
use http::{Request, Response};
use session_runtime::store::MemoryStore;
use session_runtime::{Session, SessionLayer};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// How many other sessions are alive.
const OTHERS: usize = 200;

#[derive(Session)]
struct Shop {
    a: u32,
    b: u32,
    c: u32,
    d: u32,
    e: String,
    f: String,
    g: String,
    h: String,
    i: Vec<u32>,
    j: Vec<u32>,
    k: Option<u32>,
    l: Option<u32>,
    m: Option<String>,
    n: Option<String>,
    o: u64,
    p: u64,
    q: bool,
    r: bool,
    s: String,
    #[merge(append)]
    cart: Vec<String>,
    #[flash]
    notice: Option<String>,
    count: u32,
}

fn shop() -> Shop {
    let text = || "some text".to_owned();
    Shop {
        a: 1,
        b: 2,
        c: 3,
        d: 4,
        e: text(),
        f: text(),
        g: text(),
        h: text(),
        i: vec![1, 2, 3],
        j: vec![4, 5, 6],
        k: Some(1),
        l: None,
        m: Some(text()),
        n: None,
        o: 5,
        p: 6,
        q: true,
        r: false,
        s: text(),
        cart: vec![text()],
        notice: None,
        count: 7,
    }
}

pub(crate) fn sessions() -> Router {
    let app = Router::new()
        .route("/untouched", get(async || "ok"))
        .route(
            "/read",
            get(async |session: Session<Shop>| session.count.get().to_string()),
        )
        .route(
            "/change",
            get(async |mut session: Session<Shop>| {
                *session.count.get_mut() += 1;
                "ok"
            }),
        )
        .route(
            "/fill",
            get(async |mut session: Session<Shop>| session.assign(shop())),
        )
        .route(
            "/notify",
            get(async |mut session: Session<Shop>| {
                session.notice.set("Saved.".to_owned());
                "ok"
            }),
        )
        .route(
            "/notice",
            get(async |session: Session<Shop>| session.notice.get().clone().unwrap_or_default()),
        )
        .route(
            "/login",
            get(async |mut session: Session<Shop>| session.login("somebody").await.map(|()| "ok")),
        )
        .route(
            "/logout",
            get(async |mut session: Session<Shop>| session.logout().await.map(|()| "ok")),
        )
        .layer(SessionLayer::new(MemoryStore::new()).sweep_every(None))
        .with_state(());
    let client = Client::new(app);
    (0..OTHERS).for_each(|_| drop(client.get("/fill")));
    client.app
}

pub(crate) fn plain() -> Router {
    let paths = [
        "/untouched",
        "/read",
        "/change",
        "/fill",
        "/notify",
        "/notice",
        "/login",
        "/logout",
    ];
    paths
        .into_iter()
        .fold(Router::new(), |app, path| {
            app.route(path, get(async || "ok"))
        })
        .with_state(())
}

/// A browser.
pub(crate) struct Client {
    runtime: Runtime,
    app: Router,
    cookie: Option<String>,
}

impl Client {
    pub(crate) fn new(app: Router) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        Self {
            runtime: runtime.expect("a runtime"),
            app,
            cookie: None,
        }
    }

    /// Begins a session. Its cookie comes after `others`.
    pub(crate) fn begin(&mut self, others: &str) {
        let cookie =
            cookie(&self.get("/fill")).unwrap_or_else(|| format!("__Host-id={}", "a".repeat(48)));
        self.cookie = Some(format!("{others}{cookie}"));
        self.get("/untouched");
    }

    /// Sends a request; keeps the cookie of the answer, if `keeps`.
    #[inline(never)] // a profiler's place to begin
    pub(crate) fn send(&mut self, path: &str, keeps: bool) -> Response<Body> {
        let response = self.get(path);
        if let Some(cookie) = cookie(&response).filter(|_| keeps) {
            self.cookie = Some(cookie);
        }
        response
    }

    pub(crate) fn forget(&mut self) {
        self.cookie = None;
    }

    fn get(&self, path: &str) -> Response<Body> {
        let mut request =
            Request::get(path).header(USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0");
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = self.runtime.block_on(self.app.clone().oneshot(request));
        let response = response.expect("a router does not fail");
        assert!(response.status().is_success(), "{}", response.status());
        response
    }
}

fn cookie(response: &Response<Body>) -> Option<String> {
    let cookie = response.headers().get(SET_COOKIE)?.to_str().ok()?;
    cookie.split(';').next().map(str::to_owned)
}
