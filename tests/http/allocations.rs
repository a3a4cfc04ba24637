//! What a request allocates: exact, and not by the size of the session.

use std::convert::identity;

use allocation_counter::AllocationInfo;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::Request;
use http::header::{COOKIE, SET_COOKIE};
use session_runtime::store::MemoryStore;
use session_runtime::{Session, SessionLayer};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use tower::layer::layer_fn;

#[derive(Session)]
struct Shop {
    count: u32,
    large: String,
}

async fn read(session: Session<Shop>) -> &'static str {
    if *session.count.get() == 0 {
        "none"
    } else {
        "some"
    }
}

/// One and two, in turn: the same number of bytes each time.
async fn change(mut session: Session<Shop>) {
    *session.count.get_mut() ^= 3;
}

async fn fill(mut session: Session<Shop>, size: String) {
    session.assign(Shop {
        count: 1,
        large: "x".repeat(size.parse().unwrap()),
    });
}

fn routes() -> Router {
    Router::new()
        .route("/untouched", get(async || ()))
        .route("/read", get(read))
        .route("/change", get(change))
        .route("/fill", get(fill))
}

fn with_sessions() -> Router {
    routes()
        .layer(SessionLayer::new(MemoryStore::new()).sweep_every(None))
        .with_state(())
}

struct Client {
    runtime: Runtime,
    app: Router,
    cookie: Option<String>,
}

impl Client {
    fn new(app: Router) -> Self {
        Self {
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            app,
            cookie: None,
        }
    }

    /// A client whose session has one large field of `bytes`.
    fn with_session(bytes: usize) -> Self {
        let mut client = Self::new(with_sessions());
        let fill = Request::get("/fill")
            .body(Body::from(bytes.to_string()))
            .unwrap();
        let filled = client
            .runtime
            .block_on(client.app.clone().oneshot(fill))
            .unwrap();
        let cookie = filled.headers()[SET_COOKIE].to_str().unwrap();
        client.cookie = cookie.split(';').next().map(str::to_owned);
        client
    }

    fn request(&self, path: &str) {
        let mut request = Request::get(path);
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self
            .runtime
            .block_on(self.app.clone().oneshot(request))
            .unwrap();
        assert!(response.status().is_success());
    }

    /// Sends requests until all that is made once has been made, and a record remembers as many versions as it ever will.
    fn settle(&self, path: &str) {
        (0..20).for_each(|_| self.request(path));
    }

    /// Counts the allocations that a request takes at least, and the bytes. Of many, since tables in the store, the runtime
    /// or the standard library may grow at any one of them.
    fn allocates(&self, path: &str) -> (u64, u64) {
        self.settle(path);
        let allocated = (0..32).map(|_| {
            let info = allocation_counter::measure(|| self.request(path));
            (info.count_total, info.bytes_total)
        });
        allocated.min().expect("there are some")
    }

    /// Returns what is left of so many requests that was not there before.
    fn leaves(&self, path: &str, requests: usize) -> AllocationInfo {
        self.settle(path);
        allocation_counter::measure(|| (0..requests).for_each(|_| self.request(path)))
    }
}

/// Three: the request's state, and what `http` needs to keep it among the extensions.
#[test]
fn a_route_without_a_session_allocates_the_requests_state_and_nothing_else() {
    let plain = Client::new(routes().layer(layer_fn(identity)).with_state(()));
    let ours = Client::new(with_sessions());
    let (plain, ours) = (plain.allocates("/untouched"), ours.allocates("/untouched"));
    assert_eq!(ours.0 - plain.0, 3);
}

#[test]
fn reading_or_changing_one_field_allocates_the_same_whatever_the_size_of_the_session() {
    for path in ["/read", "/change"] {
        let small = Client::with_session(10).allocates(path);
        let large = Client::with_session(64 * 1024).allocates(path);
        assert_eq!(small, large, "{path}");
    }
}

/// Beside the session: what a thousand requests leave is less than a byte for each.
#[test]
fn nothing_is_left_of_requests_however_many_read_or_change_a_session() {
    for path in ["/untouched", "/read", "/change"] {
        let left = Client::with_session(10).leaves(path, 1_000);
        assert!(left.bytes_current < 1_000, "{path}: {left:?}");
    }
}
