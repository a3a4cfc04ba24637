//! Sweeping, and what it does in the tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use session_runtime::store::{PostgresStore, Record, Store, Swapped};
use session_runtime::testing::TestClock;
use session_runtime::{Clock, Key};
use session_tests::{PATIENCE, PostgresServer, multiply_in_postgres, times};
use tokio::task::JoinSet;

use super::{HOUR, noise, now, number, put, session_key, slot, somebody_waits_for, with};

const MILLISECOND: Duration = Duration::from_millis(1);

/// How long a record is kept past its expiry.
const KEPT: Duration = Duration::from_secs(600);

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
        let new = Arc::new(Record::new(clock.now(), clock.now()));
        put(&store, &session_key(), None, &new).await;
    }
    clock.advance(KEPT);
    let mut client = server.client().await;
    let request = client.transaction().await.unwrap();
    let lock = "SELECT FROM busy.sessions LIMIT 1 FOR UPDATE";
    request.execute(lock, &[]).await.unwrap();
    assert_eq!(store.sweep(10).await.unwrap().deleted, 2);
    request.rollback().await.unwrap();
    assert_eq!(store.sweep(10).await.unwrap().deleted, 1);
}

#[tokio::test]
async fn what_was_extended_stays_until_its_time_has_come() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, clock) = (server.client().await, TestClock::new());
    let options = server.options(clock.clone()).schema("extended");
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let expiring = |after| Arc::new(Record::new(clock.now(), clock.now() + after));
    let (key, short) = (session_key(), expiring(HOUR));
    put(&store, &key, None, &short).await;
    // Something beside the row, too.
    let long = expiring(3 * HOUR).as_ref().clone();
    let long = Arc::new(long.with_slots([slot("b", noise(300))]));
    put(&store, &key, Some(&short), &long).await;
    clock.advance(2 * HOUR);
    assert_eq!(store.sweep(10).await.unwrap().deleted, 0);
    assert_eq!(store.load(&key).await.unwrap(), Some(long.clone()));
    // One that is to expire sooner is looked at sooner.
    let soon = Arc::new(Record::new(clock.now(), clock.now() + MILLISECOND));
    let soon = Arc::new(soon.as_ref().clone().with_slots([slot("b", noise(300))]));
    put(&store, &key, Some(&long), &soon).await;
    clock.advance(KEPT);
    assert_eq!(store.sweep(10).await.unwrap().deleted, 0);
    clock.advance(MILLISECOND);
    let swept = store.sweep(10).await.unwrap();
    assert_eq!((swept.deleted, swept.expired), (1, vec![(key, None)]));
    let left = "SELECT count(*) FROM extended.sessions";
    let left: i64 = client.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_sweep_deletes_no_more_than_it_is_told_and_what_cannot_be_read_as_well() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, clock) = (server.client().await, TestClock::new());
    let options = server.options(clock.clone()).schema("told");
    let options = options.table("expired");
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    for _ in 0..250 {
        let new = Arc::new(Record::new(clock.now(), clock.now() + MILLISECOND));
        put(&store, &session_key(), None, &new).await;
    }
    let damage = "UPDATE told.expired SET payload = 'canary'
        WHERE key IN (SELECT key FROM told.expired LIMIT 20)";
    assert_eq!(client.execute(damage, &[]).await.unwrap(), 20);
    clock.advance(KEPT + MILLISECOND);
    let mut readable = 0;
    for (limit, deleted) in [(0, 0), (1, 1), (220, 220), (100, 29), (100, 0)] {
        let swept = store.sweep(limit).await.unwrap();
        assert_eq!(swept.deleted, deleted);
        readable += swept.expired.len();
    }
    assert_eq!(readable, 230);
}

#[tokio::test]
async fn a_record_that_is_swapped_as_it_is_swept_stays_or_goes_whole() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let clock = TestClock::new();
    let store = server.store(clock.clone()).await;
    for _ in 0..50 {
        let (key, old) = (session_key(), Record::new(clock.now(), clock.now()));
        let old = Arc::new(old.with_slots([slot("b", noise(300))]));
        put(&store, &key, None, &old).await;
        clock.advance(KEPT);
        let new = Record::new(clock.now(), clock.now() + 24 * HOUR);
        let new = Arc::new(new.with_slots([slot("c", noise(300))]));
        let (swapped, swept) = tokio::join!(store.swap(&key, Some(&old), &new), store.sweep(10));
        let there = store.load(&key).await.expect("it is whole");
        match swapped.expect("an answer") {
            Swapped::Done => assert_eq!((there, swept.unwrap().deleted), (Some(new), 0)),
            stale @ Swapped::Stale(_) => {
                assert_eq!(stale, Swapped::Stale(None));
                assert_eq!((there, swept.unwrap().deleted), (None, 1));
            }
        }
    }
}

#[tokio::test]
async fn what_a_swap_puts_beside_a_record_as_a_sweep_begins_is_not_left_behind() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let mut client = server.client().await;
    // The sweep has begun when it asks for the time, and waits.
    let wait = "CREATE SCHEMA slow_clock;
        CREATE FUNCTION slow_clock.statement_timestamp() RETURNS timestamptz LANGUAGE plpgsql
            AS $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN now(); END $$";
    client.batch_execute(wait).await.unwrap();
    let open = |parameters: &str| {
        let options = PostgresStore::options().schema("left_behind");
        let options = options.wait(Duration::from_secs(60));
        let store = options.connect(&(server.url() + parameters));
        store.expect("the URL is fine")
    };
    let sweeping = open("?options=-c%20search_path%3Dslow_clock,pg_catalog");
    let store = open("");
    store.migrate().await.expect("the tables can be made");
    let an_hour_ago = now() - HOUR;
    let (key, old) = (session_key(), Record::new(an_hour_ago, an_hour_ago));
    let old = Arc::new(old);
    put(&store, &key, None, &old).await;

    let held = client.transaction().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(4711)";
    held.execute(lock, &[]).await.unwrap();
    let sweep = tokio::spawn({
        let sweeping = sweeping.clone();
        async move { sweeping.sweep(10).await }
    });
    somebody_waits_for(&server.client().await, held.client()).await;
    // It has expired still.
    let after = with(&old, slot("b", noise(300)));
    put(&store, &key, Some(&old), &after).await;
    held.rollback().await.unwrap();
    let first = sweep.await.unwrap().unwrap().deleted;
    let second = sweeping.sweep(10).await.unwrap().deleted;
    assert_eq!(first + second, 1);
    let left = "SELECT count(*) FROM left_behind.sessions";
    let left: i64 = client.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn one_machine_with_a_wrong_clock_destroys_no_session() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let client = server.client().await;
    let set_back = async |by: &str| {
        let make = format!(
            "CREATE OR REPLACE FUNCTION set_back.statement_timestamp() RETURNS timestamptz LANGUAGE sql
             AS $$ SELECT pg_catalog.statement_timestamp() - interval '{by}' $$"
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
        let store = options.wait(PATIENCE).connect(&url);
        store.expect("the URL is fine")
    };
    let (right, wrong) = (open(), open());
    right.migrate().await.expect("the tables can be made");
    let create = async |store, now| {
        let (key, new) = (session_key(), Arc::new(Record::new(now, now + HOUR)));
        put(store, &key, None, &new).await;
        key
    };
    let key = create(&right, now() - 24 * HOUR).await;
    // The layer over it goes by the same wrong clock.
    create(&wrong, now()).await;
    assert_eq!(wrong.sweep(10).await.unwrap().deleted, 0);
    assert!(right.load(&key).await.unwrap().is_some());
    // Once it has expired for all, it goes.
    set_back("0").await;
    assert_eq!(wrong.sweep(10).await.unwrap().deleted, 1);
}

const LIVE: usize = 64;

const BATCH: usize = 1_000;

/// Writes all the while: whatever is not done has been disturbed. Returns the last number.
async fn write(
    store: PostgresStore,
    key: Key,
    mut seen: Arc<Record>,
    sweeping: Arc<AtomicBool>,
) -> (Key, usize) {
    while sweeping.load(Ordering::Relaxed) {
        let after = with(&seen, slot("n", (number(&seen, "n") + 1).to_string()));
        put(&store, &key, Some(&seen), &after).await;
        seen = after;
    }
    (key, number(&seen, "n"))
}

/// Sweeps until nothing is left, and returns how many have gone.
async fn sweep(store: &PostgresStore) -> usize {
    let mut total = 0;
    loop {
        let swept = store.sweep(BATCH).await.expect("an answer");
        assert!(swept.deleted <= BATCH);
        total += swept.deleted;
        if swept.deleted == 0 {
            return total;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_sweep_disturb_no_swap_and_touch_no_live_record() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, clock) = (server.client().await, TestClock::new());
    let options = server.options(clock.clone()).schema("beside");
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let expired = 20_000 * times();
    let expiring = |after| {
        let record = Record::new(clock.now(), clock.now() + after);
        Arc::new(record.with_slots([slot("n", "0")]))
    };
    let key = session_key();
    put(&store, &key, None, &expiring(MILLISECOND)).await;
    multiply_in_postgres(&client, "beside", &key, expired).await;
    clock.advance(KEPT + MILLISECOND);
    let sweeping = Arc::new(AtomicBool::new(true));
    let mut writers = JoinSet::new();
    for _ in 0..LIVE {
        let (key, record) = (session_key(), expiring(HOUR));
        put(&store, &key, None, &record).await;
        writers.spawn(write(store.clone(), key, record, Arc::clone(&sweeping)));
    }
    let (one, two) = tokio::join!(sweep(&store), sweep(&store));
    sweeping.store(false, Ordering::Relaxed);
    assert_eq!(one + two, expired);
    for (key, written) in writers.join_all().await {
        assert!(written > 0, "a writer was held up all the while");
        let live = store.load(&key).await.unwrap().expect("it lives");
        assert_eq!(number(&live, "n"), written);
    }
    let left = "SELECT count(DISTINCT key) FROM beside.sessions";
    let left: i64 = client.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(usize::try_from(left), Ok(LIVE));
}
