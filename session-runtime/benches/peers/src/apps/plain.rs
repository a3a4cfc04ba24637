//! The routes without sessions: the same answers.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::RawQuery;
use axum::routing::get;

use super::routes::{number, text};

pub(super) fn app() -> Router {
    let app = Router::new()
        .route("/read", get(async || 7.to_string()))
        .route("/create", get(async || 1.to_string()))
        .route("/notice", get(async || "Saved.".to_owned()))
        .route("/change", get(next))
        .route("/large", get(large));
    let app = [
        "/untouched",
        "/fill",
        "/notify",
        "/add",
        "/login",
        "/logout",
    ]
    .into_iter()
    .fold(app, |app, path| app.route(path, get(async || "ok")));
    ["/wide1", "/wide10", "/wide50", "/wide100", "/wide200"]
        .into_iter()
        .fold(app, |app, path| app.route(path, get(wide)))
        .with_state(())
}

async fn next() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    (LAST.fetch_add(1, Ordering::Relaxed) + 1).to_string()
}

async fn large(RawQuery(query): RawQuery) -> &'static str {
    black_box(text(number(query)));
    "ok"
}

async fn wide(RawQuery(query): RawQuery) -> String {
    black_box(number(query));
    next().await
}
