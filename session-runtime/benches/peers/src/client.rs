//! A browser of an app in this process.

use std::time::{Duration, Instant};

use allocation_counter::AllocationInfo;
use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{COOKIE, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, Request};
use tokio::runtime::Runtime;
use tower::ServiceExt;

pub(crate) const AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// Cookies that are not the session's.
pub(crate) const FOREIGN: &str = "_ga=GA1.1.1234567890.1234567890; theme=dark; lang=en; _gid=GA1.2.987654321.1; consent=1; ab=b; ";

#[derive(Clone)]
pub(crate) struct Client {
    app: Router,
    others: &'static str,
    cookie: Option<String>,
    last: Option<u32>,
}

/// One request, and what is to be answered: this, or else the number after the last.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) path: String,
    pub(crate) expect: Option<&'static str>,
    /// Others only lead there.
    pub(crate) is_timed: bool,
}

impl Client {
    pub(crate) fn new(app: &Router) -> Self {
        Self {
            app: app.clone(),
            others: "",
            cookie: None,
            last: None,
        }
    }

    /// Sends cookies of others before its own.
    pub(crate) fn with_others(mut self) -> Self {
        self.others = FOREIGN;
        self
    }

    /// Begins a session. Where there are none, it sends a cookie all the same.
    pub(crate) async fn begin(&mut self, path: &str) {
        let (_, headers) = exchange(self.app.clone(), self.request(path)).await;
        self.cookie = cookie(&headers).or_else(|| Some(format!("__Host-id={}", "a".repeat(48))));
    }

    pub(crate) fn forget(&mut self) {
        self.cookie = None;
    }

    /// Takes a step, and whatever cookie it brings if `keeps`; returns how long it took.
    pub(crate) async fn step(&mut self, step: &Step, keeps: bool) -> Duration {
        let (app, request) = (self.app.clone(), self.request(&step.path));
        let start = Instant::now();
        let (text, headers) = exchange(app, request).await;
        let taken = start.elapsed();
        self.check(step, &text);
        if keeps && let Some(cookie) = cookie(&headers) {
            self.cookie = Some(cookie);
        }
        taken
    }

    /// Takes a step, and counts what it allocates.
    pub(crate) fn count(&mut self, runtime: &Runtime, step: &Step, keeps: bool) -> AllocationInfo {
        let (app, request) = (self.app.clone(), self.request(&step.path));
        let mut answer = None;
        let counted = allocation_counter::measure(|| {
            answer = Some(runtime.block_on(exchange(app, request)));
        });
        let (text, headers) = answer.expect("an answer");
        self.check(step, &text);
        if keeps && let Some(cookie) = cookie(&headers) {
            self.cookie = Some(cookie);
        }
        counted
    }

    fn request(&self, path: &str) -> Request<Body> {
        let mut request = Request::get(path).header(USER_AGENT, AGENT);
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, format!("{}{cookie}", self.others));
        }
        request.body(Body::empty()).expect("a request")
    }

    fn check(&mut self, step: &Step, text: &str) {
        if let Some(expected) = step.expect {
            assert_eq!(text, expected, "{}", step.path);
            return;
        }
        let number: u32 = text.parse().expect("a number");
        assert!(
            self.last.is_none_or(|last| number == last + 1),
            "{}: {number}",
            step.path
        );
        self.last = Some(number);
    }
}

pub(crate) async fn exchange(app: Router, request: Request<Body>) -> (String, HeaderMap) {
    let response = app.oneshot(request).await.expect("a router does not fail");
    let (parts, body) = response.into_parts();
    assert!(parts.status.is_success(), "{}", parts.status);
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let text = String::from_utf8(body.into()).expect("text");
    (text, parts.headers)
}

/// All that the answer sets.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<String> {
    let set = headers.get_all(SET_COOKIE).iter();
    let pairs: Vec<&str> = set
        .filter_map(|value| value.to_str().ok()?.split(';').next())
        .collect();
    (!pairs.is_empty()).then(|| pairs.join("; "))
}
