//! Sweeping, and what it does in the tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Opts, OptsBuilder, Pool};
use session_runtime::store::{MysqlOptions, MysqlStore, Record, Store, Swapped};
use session_runtime::testing::TestClock;
use session_runtime::{Clock, Key};
use session_tests::{MysqlServer, PATIENCE, multiply_in_mysql, times};
use tokio::task::JoinSet;

use super::{HOUR, count, noise, now, number, put, session_key, slot, with};

const MILLISECOND: Duration = Duration::from_millis(1);

/// How long a record is kept past its expiry.
const KEPT: Duration = Duration::from_secs(600);

async fn store_in(server: &MysqlServer, clock: &TestClock, database: &str) -> MysqlStore {
    let options = server.options(clock.clone()).database(database);
    let store = options.connect(&server.url()).expect("the URL is fine");
    MysqlServer::make_tables(&store).await;
    store
}

#[tokio::test]
async fn a_record_that_is_being_written_is_swept_another_time() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let clock = TestClock::new();
    let store = store_in(server, &clock, "busy").await;
    let mut last = None;
    for _ in 0..3 {
        let new = Arc::new(Record::new(clock.now(), clock.now()));
        let key = session_key();
        put(&store, &key, None, &new).await;
        last = Some(key);
    }
    clock.advance(KEPT);
    let mut request = server.client().await;
    request.query_drop("START TRANSACTION").await.unwrap();
    let lock = "SELECT 1 FROM busy.sessions WHERE `key` = ? AND name = x'ff' FOR UPDATE";
    let last = last.map(|key| key.to_string());
    request.exec_drop(lock, (last,)).await.unwrap();
    assert_eq!(store.sweep(10).await.unwrap().deleted, 2);
    request.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(store.sweep(10).await.unwrap().deleted, 1);
}

#[tokio::test]
async fn what_was_extended_stays_until_its_time_has_come() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, clock) = (server.client().await, TestClock::new());
    let store = store_in(server, &clock, "extended").await;
    let expiring = |after| Record::new(clock.now(), clock.now() + after);
    let (key, short) = (session_key(), Arc::new(expiring(HOUR)));
    put(&store, &key, None, &short).await;
    // Something beside the row, too.
    let long = Arc::new(expiring(3 * HOUR).with_slots([slot("b", noise(300))]));
    put(&store, &key, Some(&short), &long).await;
    clock.advance(2 * HOUR);
    assert_eq!(store.sweep(10).await.unwrap().deleted, 0);
    assert_eq!(store.load(&key).await.unwrap(), Some(long.clone()));
    // One that is to expire sooner is looked at sooner.
    let soon = Arc::new(expiring(MILLISECOND).with_slots([slot("b", noise(300))]));
    put(&store, &key, Some(&long), &soon).await;
    clock.advance(KEPT);
    assert_eq!(store.sweep(10).await.unwrap().deleted, 0);
    clock.advance(MILLISECOND);
    let swept = store.sweep(10).await.unwrap();
    assert_eq!((swept.deleted, swept.expired), (1, vec![(key, None)]));
    let left = "SELECT count(*) FROM extended.sessions";
    assert_eq!(count(&mut client, left).await, 0);
}

#[tokio::test]
async fn a_sweep_deletes_no_more_than_it_is_told_and_what_cannot_be_read_as_well() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, clock) = (server.client().await, TestClock::new());
    let store = store_in(server, &clock, "told").await;
    for _ in 0..250 {
        let new = Arc::new(Record::new(clock.now(), clock.now() + MILLISECOND));
        put(&store, &session_key(), None, &new).await;
    }
    let damage = "UPDATE told.sessions SET payload = 'canary' LIMIT 20";
    client.query_drop(damage).await.unwrap();
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
    let Some(server) = MysqlServer::shared() else {
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
async fn one_machine_with_a_wrong_clock_destroys_no_session() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    // A store whose server's clock is that far behind this machine's.
    let open = |behind: &str| {
        let opts = Opts::from_url(&server.url()).expect("the URL is fine");
        let set_back = format!("SET timestamp = UNIX_TIMESTAMP() - {behind}");
        let setup = vec![MysqlOptions::SETUP, &set_back];
        let opts = OptsBuilder::from_opts(opts)
            .prefer_socket(false)
            .setup(setup);
        let options = MysqlStore::options().database("wrong_clock");
        let store = options.wait(PATIENCE).pool(Pool::new(opts));
        store.expect("the names are fine")
    };
    let (wrong, right) = (open("86400"), open("0"));
    MysqlServer::make_tables(&right).await;
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
    create(&right, now()).await;
    assert_eq!(right.sweep(10).await.unwrap().deleted, 1);
}

const LIVE: usize = 64;

const BATCH: usize = 1_000;

/// Writes all the while: whatever is not done has been disturbed. Returns the last number.
async fn write(
    store: MysqlStore,
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
async fn sweep(store: &MysqlStore) -> usize {
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
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, clock) = (server.client().await, TestClock::new());
    let store = store_in(server, &clock, "beside").await;
    let expired = 20_000 * times();
    let expiring = |after| {
        let record = Record::new(clock.now(), clock.now() + after);
        Arc::new(record.with_slots([slot("n", "0")]))
    };
    let key = session_key();
    put(&store, &key, None, &expiring(MILLISECOND)).await;
    multiply_in_mysql(&mut client, "beside", &key, expired).await;
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
    // What both have passed over, since the other was busy with it.
    let left = sweep(&store).await;
    assert_eq!(one + two + left, expired);
    for (key, written) in writers.join_all().await {
        assert!(written > 0, "a writer was held up all the while");
        let live = store.load(&key).await.unwrap().expect("it lives");
        assert_eq!(number(&live, "n"), written);
    }
    let left = "SELECT count(DISTINCT `key`) FROM beside.sessions";
    assert_eq!(count(&mut client, left).await, LIVE);
}
