//! Sweeping, and what it does in the tables.

use std::time::Duration;

use session_runtime::store::{PostgresStore, Store};
use session_runtime::testing::TestClock;
use session_runtime::{Change, Clock, Expiry, Kind};
use session_tests::PostgresServer;

use super::{HOUR, now, session_key};

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

#[tokio::test]
async fn one_machine_with_a_wrong_clock_destroys_no_session() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let client = server.client().await;
    let set_back = async |by: &str| {
        let make = format!(
            "CREATE OR REPLACE FUNCTION set_back.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS $$ SELECT pg_catalog.clock_timestamp() - interval '{by}' $$"
        );
        client.batch_execute(&make).await.unwrap();
    };
    client
        .batch_execute("CREATE SCHEMA set_back")
        .await
        .unwrap();
    set_back("1 day").await;
    // So this machine's clock is a day ahead of the server's, and has been since it was started.
    let url = server.url() + "?options=-c%20search_path%3Dset_back,pg_catalog";
    let open = || {
        let options = PostgresStore::options().schema("wrong_clock");
        let store = options.wait(Duration::from_secs(10)).connect(&url);
        store.expect("the URL is fine")
    };
    let (right, wrong) = (open(), open());
    right.migrate().await.expect("the tables can be made");
    let create = |now| Change {
        expiry: Expiry::Set(now + HOUR),
        ..Change::new(Kind::Create, now)
    };
    let key = session_key();
    super::apply(&right, &key, &create(now() - 24 * HOUR)).await;
    // The layer over it goes by the same wrong clock.
    super::apply(&wrong, &session_key(), &create(now())).await;
    assert_eq!(wrong.sweep(10).await.unwrap().deleted, 0);
    assert!(right.load(&key).await.unwrap().is_some());
    // Once it has expired for all, it goes.
    set_back("0").await;
    assert_eq!(wrong.sweep(10).await.unwrap().deleted, 1);
}
