//! A browser without a window: it sends requests to a router and keeps the session's cookie.

use axum::Router;
use axum::body::Body;
use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use session_runtime::Error;
use tower::ServiceExt;

/// One browser: an app, and the cookies that it has set. Clones share neither from then on.
#[derive(Clone, Debug)]
pub struct Browser {
    app: Router,
    /// `name=value` pairs.
    pub cookies: Vec<String>,
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub body: String,
    /// The session's error that it tells of.
    pub error: Option<Error>,
}

impl Reply {
    /// The values of all `Set-Cookie` headers.
    pub fn set_cookies(&self) -> Vec<&str> {
        self.headers
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect()
    }

    /// Returns where it redirects to.
    pub fn location(&self) -> Option<&str> {
        self.headers.get(LOCATION)?.to_str().ok()
    }
}

impl Browser {
    /// A browser without cookies.
    pub fn new(app: Router) -> Self {
        Self {
            app,
            cookies: Vec::new(),
        }
    }

    /// A browser that presents this one cookie, whatever it is.
    pub fn presenting(app: Router, cookie: impl Into<String>) -> Self {
        Self {
            app,
            cookies: vec![cookie.into()],
        }
    }

    /// Another browser of the same app, without cookies.
    #[must_use]
    pub fn stranger(&self) -> Self {
        Self::new(self.app.clone())
    }

    /// The same cookies, sent to another app.
    #[must_use]
    pub fn moved_to(&self, app: Router) -> Self {
        Self {
            app,
            cookies: self.cookies.clone(),
        }
    }

    /// Turns to another app, cookies and all.
    pub(crate) fn turn_to(&mut self, app: Router) -> &mut Self {
        self.app = app;
        self
    }

    /// The session's id, as the cookie carries it.
    pub fn id(&self) -> Option<&str> {
        self.cookies
            .iter()
            .find_map(|pair| pair.strip_prefix("__Host-id="))
    }

    /// Sends a GET.
    pub async fn get(&mut self, path: &str) -> Reply {
        self.send(
            Request::get(path)
                .body(Body::empty())
                .expect("the path is one"),
        )
        .await
    }

    /// Sends a POST with a form.
    pub async fn post(&mut self, path: &str, form: &str) -> Reply {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.send(request.expect("the path is one")).await
    }

    /// Sends any request, with the cookies, and keeps those of the response.
    pub async fn send(&mut self, mut request: Request<Body>) -> Reply {
        if !self.cookies.is_empty() {
            let cookies = self.cookies.join("; ").parse().expect("cookies are text");
            request.headers_mut().insert(COOKIE, cookies);
        }
        let response = self
            .app
            .clone()
            .oneshot(request)
            .await
            .expect("a router does not fail");
        let (parts, body) = response.into_parts();
        let bytes = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let reply = Reply {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&bytes).into_owned(),
            error: parts.extensions.get().cloned(),
        };
        reply
            .set_cookies()
            .into_iter()
            .for_each(|cookie| keep(&mut self.cookies, cookie));
        reply
    }
}

/// Does to the jar what a browser does on `Set-Cookie`.
fn keep(cookies: &mut Vec<String>, set: &str) {
    let pair = set.split(';').next().unwrap_or_default().trim();
    let name = pair.split('=').next().unwrap_or_default();
    cookies.retain(|kept| kept.split('=').next() != Some(name));
    if !set.contains("Max-Age=0") {
        cookies.push(pair.to_owned());
    }
}
