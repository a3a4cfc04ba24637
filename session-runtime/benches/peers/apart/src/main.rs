//! Serves the peers that do not build beside this library, or are of another framework: for `session-peers http`, which starts it.
//!
//! ```sh
//! session-peers-apart tower-sessions postgres://… # prints its port, and serves until its input ends
//! ```

#[path = "../../src/apps/routes.rs"]
mod routes;

mod actix;

use std::env;
use std::io::{Read, stdin};
use std::thread;

use axum::Router;
use axum::serve::ListenerExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpListener;
use tower_sessions::SessionManagerLayer;
use tower_sessions_sqlx_store::PostgresStore;
use tower_sessions_sqlx_store::sqlx::PgPool;

use routes::{Handle, routes, tower_sessions};

tower_sessions!(tower_sessions);

fn main() {
    thread::spawn(|| {
        drop(stdin().read_to_end(&mut Vec::new()));
        std::process::exit(0);
    });
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tower-sessions", url] => tower(url),
        ["actix", _] => actix::plain(),
        ["actix-session", url] => actix::sessions(url),
        _ => panic!("tower-sessions, actix or actix-session, and where its sessions are"),
    }
}

fn tower(url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let store = PostgresStore::new(PgPool::connect(url).await.expect("PostgreSQL"));
        store.migrate().await.expect("a table");
        let app: Router = routes::<tower_sessions::Session>()
            .layer(SessionManagerLayer::new(store))
            .with_state(());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address").port());
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("no delay"));
        axum::serve(listener, app).await.expect("a server");
    });
}
