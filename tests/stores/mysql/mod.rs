//! What MySQL is asked, and what it may do to a store: what the suite of promises does not ask of every store.

use session_runtime::testing;
use session_tests::MysqlServer;

#[tokio::test(flavor = "multi_thread")]
async fn the_mysql_store_keeps_every_promise() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    testing::conformance(async |clock| server.store(clock).await).await;
}
