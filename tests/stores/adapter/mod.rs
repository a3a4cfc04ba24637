//! To and from stores of the tower-sessions family.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, StatusCode};
use tower::ServiceExt;

mod http_file;
mod http_layer;
mod login;
mod offered;
mod theirs;

/// An app, and the cookies it has set.
#[derive(Clone)]
struct Browser {
    app: Router,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new(app: Router) -> Self {
        let cookies = BTreeMap::new();
        Self { app, cookies }
    }

    /// Visits a page, and keeps the cookies up to date.
    async fn get(&mut self, page: &str) -> (StatusCode, String) {
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = Request::get(page).header(COOKIE, cookies.join("; "));
        let request = request.body(Body::empty()).expect("a request");
        let response = self.app.clone().oneshot(request).await.expect("an answer");
        for set in response.headers().get_all(SET_COOKIE) {
            let set = set.to_str().expect("text");
            let set = set.split(';').next().unwrap_or_default();
            let (name, value) = set.split_once('=').expect("a cookie");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let status = response.status();
        let body = to_bytes(response.into_body(), 10_000).await;
        let body = String::from_utf8(body.expect("a body").to_vec());
        (status, body.expect("text"))
    }
}
