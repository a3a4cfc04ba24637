//! What MySQL is asked, and what it may do to a store: what the suite of promises does not ask of every store.

use std::net::{Ipv4Addr, SocketAddr};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use session_runtime::store::MysqlStore;
use session_runtime::{SystemClock, testing};
use session_tests::{MysqlServer, Proxy};

use crate::records::{
    HOUR, Traffic, create, insist, loaded, noise, now, number, pause, put, race, record,
    session_key, slot, text_of, with,
};

mod doubt;
mod faults;
mod pool;
mod setup;
mod sweeping;
mod tls;
mod wire;

#[tokio::test(flavor = "multi_thread")]
async fn the_mysql_store_keeps_every_promise() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    testing::conformance(async |clock| server.store(clock).await).await;
}

// What all of them share.

async fn store_in(server: &MysqlServer, database: &str) -> MysqlStore {
    let options = server.options(SystemClock::default()).database(database);
    let store = options.connect(&server.url()).expect("the URL is fine");
    MysqlServer::make_tables(&store).await;
    store
}

/// A store of one connection through a proxy.
async fn through_a_proxy(server: &MysqlServer) -> (MysqlStore, Proxy) {
    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let options = server.options(SystemClock::default()).pool_size(1);
    let url = server.url_at(proxy.address().port());
    let store = options.connect(&url).expect("the URL is fine");
    MysqlServer::make_tables(&store).await;
    (store, proxy)
}

/// The one number that a query finds.
async fn count(client: &mut Conn, query: &str) -> usize {
    let found: Option<usize> = client.query_first(query).await.expect("an answer");
    found.expect("a row")
}

/// Waits until somebody waits for a row of a table in that database.
async fn somebody_waits_in(server: &MysqlServer, database: &str) {
    let mut watcher = server.client().await;
    // The tables that tell the same are not renewed while anybody looks at them ten times a second.
    let status = "SHOW ENGINE INNODB STATUS";
    let table = format!("`{database}`.");
    session_tests::wait_for("somebody waits", async || {
        let found = watcher.query_first(status).await.expect("an answer");
        let (_, _, status): (String, String, String) = found.expect("a row");
        let mut transactions = status.split("---TRANSACTION");
        transactions.any(|one| one.contains("LOCK WAIT") && one.contains(&table))
    })
    .await;
}
