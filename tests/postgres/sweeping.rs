//! Sweeping, and what it does in the tables.

use std::time::Duration;

use session_runtime::store::Store;
use session_runtime::testing::TestClock;
use session_runtime::{Change, Clock, Expiry, Kind};
use session_tests::PostgresServer;

use super::session_key;

#[tokio::test]
async fn a_record_that_is_being_written_is_swept_another_time() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let clock = TestClock::new();
    let options = server.options(clock.clone()).schema("busy");
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    for _ in 0..3 {
        let create = Change {
            expiry: Expiry::Set(clock.now() + Duration::from_secs(1)),
            ..Change::new(Kind::Create, clock.now())
        };
        super::apply(&store, &session_key(), &create).await;
    }
    clock.advance(Duration::from_secs(1));
    let mut client = server.client().await;
    let request = client.transaction().await.unwrap();
    let lock = "SELECT FROM busy.sessions LIMIT 1 FOR UPDATE";
    request.execute(lock, &[]).await.unwrap();
    assert_eq!(store.sweep(10).await.unwrap().deleted, 2);
    request.rollback().await.unwrap();
    assert_eq!(store.sweep(10).await.unwrap().deleted, 1);
}

#[tokio::test]
async fn remembered_commits_are_forgotten_after_two_minutes() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let options = server.options(TestClock::new()).schema("forgetting");
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let client = server.client().await;
    let fill = "INSERT INTO forgetting.sessions_commits (token, at)
        SELECT int8send(n), now() - n * interval '1 second' FROM generate_series(1, 5000) n";
    client.execute(fill, &[]).await.unwrap();
    store.sweep(1).await.unwrap();
    let oldest = "SELECT count(*), max(now() - at) < interval '2 minutes 10 seconds' FROM forgetting.sessions_commits";
    let row = client.query_one(oldest, &[]).await.unwrap();
    let (left, young): (i64, bool) = (row.get(0), row.get(1));
    assert!((100..=120).contains(&left) && young, "{left} are left");
}
