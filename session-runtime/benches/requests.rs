//! What a request costs: nanoseconds and allocations, beside plain axum and tower-sessions.
//!
//! ```sh
//! cargo bench -p session-runtime --bench requests
//! ```
//!
//! The contenders take turns, round by round, in one run, so that a machine whose speed drifts treats them
//! alike. As when it is served, the router has its state, so that layers are applied once. Times are medians over the rounds; `net` is what is left after plain axum's share.

#![allow(missing_docs, clippy::print_stdout)]

use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response};
use session_runtime::store::MemoryStore;
use session_runtime::{Session, SessionLayer};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// Rounds each contender gets, and requests in a round.
const ROUNDS: usize = 31;
const REQUESTS: u32 = 1000;

/// A session like those of real apps: a few counters, some text, and one field that may be large.
#[derive(Session)]
struct Wide {
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
    #[merge(sum)]
    count: u32,
    large: String,
}

mod ours {
    use super::{MemoryStore, Router, Session, SessionLayer, Wide, get};

    async fn untouched() -> &'static str {
        "ok"
    }

    async fn read(session: Session<Wide>) -> String {
        session.count.get().to_string()
    }

    async fn change(mut session: Session<Wide>) -> &'static str {
        *session.count.get_mut() += 1;
        "ok"
    }

    async fn fill(mut session: Session<Wide>, bytes: String) -> &'static str {
        let size = bytes.parse().unwrap_or(0);
        let text = || "some text".to_owned();
        session.assign(Wide {
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
            count: 7,
            large: "x".repeat(size),
        });
        "ok"
    }

    pub(super) fn app() -> Router {
        Router::new()
            .route("/untouched", get(untouched))
            .route("/read", get(read))
            .route("/change", get(change))
            .route("/create", get(change))
            .route("/fill", get(fill))
            .layer(SessionLayer::new(MemoryStore::new()))
            .with_state(())
    }
}

mod theirs {
    use super::{Router, get};
    use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

    async fn untouched() -> &'static str {
        "ok"
    }

    async fn read(session: Session) -> String {
        let count: Option<u32> = session.get("count").await.expect("the store answers");
        count.unwrap_or_default().to_string()
    }

    async fn change(session: Session) -> &'static str {
        let count: Option<u32> = session.get("count").await.expect("the store answers");
        session
            .insert("count", count.unwrap_or_default() + 1)
            .await
            .expect("the store answers");
        "ok"
    }

    async fn fill(session: Session, bytes: String) -> &'static str {
        let size = bytes.parse().unwrap_or(0);
        for name in "abcdefghijklmnopqrs".chars() {
            session
                .insert(&name.to_string(), "some text")
                .await
                .expect("the store answers");
        }
        session.insert("count", 7).await.expect("the store answers");
        session
            .insert("large", "x".repeat(size))
            .await
            .expect("the store answers");
        "ok"
    }

    pub(super) fn app() -> Router {
        Router::new()
            .route("/untouched", get(untouched))
            .route("/read", get(read))
            .route("/change", get(change))
            .route("/create", get(change))
            .route("/fill", get(fill))
            .layer(SessionManagerLayer::new(MemoryStore::default()))
            .with_state(())
    }
}

mod plain {
    use super::{Router, get};

    async fn ok() -> &'static str {
        "ok"
    }

    pub(super) fn app() -> Router {
        let paths = ["/untouched", "/read", "/change", "/create", "/fill"];
        paths
            .into_iter()
            .fold(Router::new(), |app, path| app.route(path, get(ok)))
            .with_state(())
    }
}

/// One request of a case.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    path: &'static str,
    /// Size of the session's large field.
    bytes: usize,
    cookie: bool,
}

const CASES: [Case; 8] = [
    Case {
        name: "untouched, no cookie",
        path: "/untouched",
        bytes: 0,
        cookie: false,
    },
    Case {
        name: "untouched",
        path: "/untouched",
        bytes: 0,
        cookie: true,
    },
    Case {
        name: "read one field",
        path: "/read",
        bytes: 0,
        cookie: true,
    },
    Case {
        name: "change one field",
        path: "/change",
        bytes: 0,
        cookie: true,
    },
    Case {
        name: "create",
        path: "/create",
        bytes: 0,
        cookie: false,
    },
    Case {
        name: "64 KiB: untouched",
        path: "/untouched",
        bytes: 65_536,
        cookie: true,
    },
    Case {
        name: "64 KiB: read one field",
        path: "/read",
        bytes: 65_536,
        cookie: true,
    },
    Case {
        name: "64 KiB: change one field",
        path: "/change",
        bytes: 65_536,
        cookie: true,
    },
];

/// A contender with a session of its own, ready for one case.
struct Contender {
    app: Router,
    cookie: Option<String>,
    path: &'static str,
    nanos: Vec<f64>,
}

impl Contender {
    fn new(runtime: &Runtime, app: Router, case: Case) -> Self {
        let fill = Request::get("/fill").body(Body::from(case.bytes.to_string()));
        let response = runtime.block_on(send(&app, fill.expect("a request")));
        let cookie = response
            .headers()
            .get(SET_COOKIE)
            .and_then(|cookie| cookie.to_str().ok());
        let pair = cookie
            .and_then(|cookie| cookie.split(';').next())
            .map(str::to_owned);
        Self {
            app,
            cookie: pair.filter(|_| case.cookie),
            path: case.path,
            nanos: Vec::new(),
        }
    }

    fn request(&self) -> Request<Body> {
        let mut request = Request::get(self.path);
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        request.body(Body::empty()).expect("a request")
    }

    fn round(&mut self, runtime: &Runtime) {
        let start = Instant::now();
        runtime.block_on(async {
            for _ in 0..REQUESTS {
                send(&self.app, self.request()).await;
            }
        });
        self.nanos
            .push(start.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS));
    }

    fn median(&mut self) -> f64 {
        self.nanos.sort_by(f64::total_cmp);
        self.nanos[self.nanos.len() / 2]
    }

    fn allocations(&self, runtime: &Runtime) -> u64 {
        let one = || runtime.block_on(send(&self.app, self.request()));
        allocation_counter::measure(|| drop(one())).count_total
    }
}

async fn send(app: &Router, request: Request<Body>) -> Response<Body> {
    let response = app
        .clone()
        .oneshot(request)
        .await
        .expect("a router does not fail");
    assert!(response.status().is_success(), "{}", response.status());
    response
}

fn main() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    println!(
        "{:26} {:>9} {:>18} {:>18} {:>11}",
        "", "plain", "ours", "tower-sessions", "net ratio"
    );
    for case in CASES {
        let apps = [plain::app(), ours::app(), theirs::app()];
        let mut contenders = apps.map(|app| Contender::new(&runtime, app, case));
        for _ in 0..ROUNDS {
            for contender in &mut contenders {
                contender.round(&runtime);
            }
        }
        let allocations = contenders
            .each_ref()
            .map(|contender| contender.allocations(&runtime));
        let [plain, ours, theirs] = contenders.each_mut().map(Contender::median);
        let net = |nanos: f64, count: u64| {
            format!(
                "+{:.0} ns, +{}",
                nanos - plain,
                count.saturating_sub(allocations[0])
            )
        };
        println!(
            "{:26} {:>6.0} ns {:>18} {:>18} {:>11.3}",
            case.name,
            plain,
            net(ours, allocations[1]),
            net(theirs, allocations[2]),
            (ours - plain) / (theirs - plain),
        );
    }
}
