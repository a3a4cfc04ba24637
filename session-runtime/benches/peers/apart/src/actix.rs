//! The routes over actix-session, and over actix alone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_session::storage::RedisSessionStore;
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::Key;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};

use crate::routes::{text, values};
use crate::serve::listener;

/// Serves the routes without sessions.
#[actix_web::main]
pub(crate) async fn plain() {
    let server = HttpServer::new(|| App::new().configure(without));
    // While it is the others' turn, nobody asks.
    let server = server.keep_alive(Duration::from_secs(3600));
    let server = server.workers(1).listen(listener()).expect("a port");
    server.run().await.expect("a server");
}

/// Serves them with sessions in the Redis of that URL.
#[actix_web::main]
pub(crate) async fn sessions(url: &str) {
    let store = RedisSessionStore::new(url).await.expect("Redis");
    let key = Key::generate();
    let server = HttpServer::new(move || {
        App::new()
            .wrap(SessionMiddleware::new(store.clone(), key.clone()))
            .configure(with)
    });
    // While it is the others' turn, nobody asks.
    let server = server.keep_alive(Duration::from_secs(3600));
    let server = server.workers(1).listen(listener()).expect("a port");
    server.run().await.expect("a server");
}

fn without(app: &mut ServiceConfig) {
    app.route("/fill", web::get().to(async || "ok"))
        .route("/read", web::get().to(async || 7.to_string()))
        .route("/change", web::get().to(next));
}

async fn next() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    (LAST.fetch_add(1, Ordering::Relaxed) + 1).to_string()
}

fn with(app: &mut ServiceConfig) {
    app.route("/fill", web::get().to(fill))
        .route("/read", web::get().to(read))
        .route("/change", web::get().to(change));
}

async fn fill(session: Session) -> &'static str {
    for (name, value) in values() {
        session.insert(name, value).expect("a value");
    }
    session.insert("large", text(9)).expect("a value");
    "ok"
}

async fn read(session: Session) -> String {
    count(&session).to_string()
}

async fn change(session: Session) -> String {
    let count = count(&session) + 1;
    session.insert("count", count).expect("a value");
    count.to_string()
}

fn count(session: &Session) -> u32 {
    let count = session.get("count").expect("a number");
    count.unwrap_or_default()
}
