//! What PostgreSQL is asked, and what it may do to a store: what the suite of promises does not ask of every store.

use session_runtime::store::PostgresStore;
use session_runtime::{SystemClock, testing};
use session_tests::PostgresServer;
use tokio_postgres::Client;

use crate::records::{
    HOUR, Traffic, bytes, create, insist, loaded, noise, now, number, pause, put, race, record,
    session_key, slot, text_of, with,
};

mod doubt;
mod faults;
mod http_contended;
mod logged;
mod pgbouncer;
mod pool;
mod setup;
mod sweeping;
mod tls;
mod wire;

#[tokio::test(flavor = "multi_thread")]
async fn the_postgres_store_keeps_every_promise() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    testing::conformance(async |clock| server.store(clock).await).await;
}

/// Every isolation level that PostgreSQL knows, as it stands in a URL: it is split by the URL, and then by the server.
const ISOLATIONS: [&str; 3] = [
    "read%5C%20committed",
    "repeatable%5C%20read",
    "serializable",
];

async fn store_in(server: &PostgresServer, schema: &str) -> PostgresStore {
    store_with(server, schema, "").await
}

/// The same, with parameters of the connection, as they stand in a URL.
async fn store_with(server: &PostgresServer, schema: &str, parameters: &str) -> PostgresStore {
    let options = server.options(SystemClock::default()).schema(schema);
    let url = server.url() + parameters;
    let store = options.connect(&url).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    store
}

/// Waits until somebody waits for what `client` has locked, as `watcher` sees it.
async fn somebody_waits_for(watcher: &Client, client: &Client) {
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = pid.unwrap().get(0);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
    session_tests::wait_for("somebody waits", async || {
        let row = watcher.query_one(waiting, &[&pid]).await.unwrap();
        row.get::<_, i64>(0) > 0
    })
    .await;
}
