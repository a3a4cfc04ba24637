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

async fn change(mut session: Session<Shop>) {
    *session.count.get_mut() += 1;
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

    /// What one request allocates, when all that is made once has been made.
    fn allocates(&self, path: &str) -> AllocationInfo {
        (0..3).for_each(|_| self.request(path));
        allocation_counter::measure(|| self.request(path))
    }
}

/// Three: the request's state, and what `http` needs to keep it among the extensions.
#[test]
fn a_route_without_a_session_allocates_the_requests_state_and_nothing_else() {
    let plain = Client::new(routes().layer(layer_fn(identity)).with_state(()));
    let ours = Client::new(with_sessions());
    let more = ours.allocates("/untouched").count_total - plain.allocates("/untouched").count_total;
    assert_eq!(more, 3);
}

#[test]
fn reading_or_changing_one_field_allocates_the_same_whatever_the_size_of_the_session() {
    for path in ["/read", "/change"] {
        let small = Client::with_session(10).allocates(path);
        let large = Client::with_session(64 * 1024).allocates(path);
        assert_eq!(small.count_total, large.count_total, "{path}");
        assert_eq!(small.bytes_total, large.bytes_total, "{path}");
    }
}
