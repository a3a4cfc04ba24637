//! Poolers between app and server that lend a connection for one transaction at a time.

use session_runtime::store::Store;
use session_runtime::{SystemClock, testing};
use session_tests::{Pgbouncer, PostgresServer};

use super::{create, session_key, slot, text_of};

#[tokio::test(flavor = "multi_thread")]
async fn without_prepared_statements_every_promise_is_kept_through_pgbouncer() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let Some(bouncer) = Pgbouncer::start(server) else {
        return;
    };
    testing::conformance(async |clock| {
        let options = server.options(clock).prepare(false);
        let store = options
            .connect(&server.url_at(bouncer.port()))
            .expect("the URL is fine");
        store.migrate().await.expect("the tables can be made");
        store
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_prepared_statements_a_pooler_that_knows_none_is_named_as_the_cause() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let Some(bouncer) = Pgbouncer::start(server) else {
        return;
    };
    let options = server.options(SystemClock::default());
    let store = options
        .connect(&server.url_at(bouncer.port()))
        .expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    // The first prepares on one of the server's connections, and sooner or later another one is lent.
    let error = loop {
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.load(&session_key()).await.err() })
            })
            .collect();
        let mut errors = Vec::new();
        for task in tasks {
            errors.extend(task.await.unwrap());
        }
        if let Some(error) = errors.pop() {
            break error;
        }
    };
    assert!(
        !error.is_transient() && text_of(&error).contains("`prepare(false)`"),
        "{error:?}"
    );
    let options = server.options(SystemClock::default()).prepare(false);
    let store = options
        .connect(&server.url_at(bouncer.port()))
        .expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    create(&store, [slot("a", "1")]).await;
}
