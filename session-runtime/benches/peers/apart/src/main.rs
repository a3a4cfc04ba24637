//! Serves the peers that do not build beside this library, or are of another framework: for `session-peers http`, which starts it.
//!
//! ```sh
//! session-peers-apart tower-sessions postgres://… # prints its port, and serves until its input ends
//! ```

#[path = "../../src/apps/routes.rs"]
mod routes;
#[path = "../../src/serve.rs"]
mod serve;

mod actix;

use std::env;

use axum::Router;
use serde::{Serialize, de::DeserializeOwned};
use tower_sessions::SessionManagerLayer;
use tower_sessions_sqlx_store::PostgresStore;
use tower_sessions_sqlx_store::sqlx::PgPool;

use routes::{Handle, routes, tower_sessions};

tower_sessions!(tower_sessions);

fn main() {
    serve::end_with_input();
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tower-sessions", url] => tower(url),
        ["actix", _] => actix::plain(),
        ["actix-session", url] => actix::sessions(url),
        _ => panic!("tower-sessions, actix or actix-session, and where its sessions are"),
    }
}

fn tower(url: &str) {
    serve::serve(async {
        let store = PostgresStore::new(PgPool::connect(url).await.expect("PostgreSQL"));
        store.migrate().await.expect("a table");
        let app: Router = routes::<tower_sessions::Session>()
            .layer(SessionManagerLayer::new(store))
            .with_state(());
        app
    });
}
