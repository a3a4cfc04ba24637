//! Records on Redis: what a server may do to them, and what they cost it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_runtime::store::{CachedStore, Record, RedisStore, Slot, Store, StoreError, Swapped};
use session_runtime::testing::{CASES, SWEEPER_CASES, conformance_case};
use session_runtime::{Clock, Key, SessionId, SystemClock, Timestamp};
use session_tests::{PATIENCE, RedisCluster, RedisSentinels, RedisServer};

use crate::records::{self, expiring};

mod cached;
mod cluster;
mod failover;
mod faults;
mod http_room;
mod open;
mod room;
mod sentinel;
mod tls;
mod wire;

const TTL: Duration = Duration::from_secs(2 * 60 * 60);

/// Returns the cases that a server keeps which drops by itself what has expired.
fn cases() -> impl Iterator<Item = &'static str> {
    let cases = CASES.iter().copied();
    cases.filter(|case| !SWEEPER_CASES.contains(case))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_keeps_every_promise() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    for case in cases() {
        conformance_case(case, |_| server.store()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_every_promise() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    for case in cases() {
        conformance_case(case, |_| cluster.store()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_sentinels_name_keeps_every_promise() {
    let Some(sentinels) = RedisSentinels::shared() else {
        return;
    };
    for case in cases() {
        conformance_case(case, |_| sentinels.store()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_store_keeps_every_promise() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    for case in cases() {
        conformance_case(case, async |_| {
            CachedStore::new(server.store().await).expect("it tells of changes")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_on_a_cluster() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    for case in cases() {
        conformance_case(case, async |_| {
            CachedStore::new(cluster.store().await).expect("it tells of changes")
        })
        .await;
    }
}

/// Connects a store that waits for its server however busy this machine is.
async fn connect(url: &str) -> RedisStore {
    let options = RedisStore::options().timeout(PATIENCE);
    options.connect(url).await.expect("the server answers")
}

fn now() -> Timestamp {
    SystemClock::default().now()
}

fn session_key() -> Key {
    Key::from(&SessionId::generate().expect("random bytes"))
}

fn slot(name: &str, payload: impl Into<Vec<u8>>) -> Arc<Slot> {
    Arc::new(Slot::new(name, payload.into(), None))
}

/// Makes a record that lives for two hours.
fn record(slots: impl IntoIterator<Item = Arc<Slot>>) -> Arc<Record> {
    Arc::new(Record::new(now(), now() + TTL).with_slots(slots))
}

/// Makes the next version of a record, with these slots in it.
fn next(before: &Record, slots: impl IntoIterator<Item = Arc<Slot>>) -> Arc<Record> {
    Arc::new(before.next().with_slots(slots))
}

/// Makes the next version of a record, without a slot.
fn without(before: &Record, name: &str) -> Arc<Record> {
    let mut after = before.next();
    after.remove(name);
    Arc::new(after)
}

/// Makes what is left of a record that was revoked.
fn tombstone(before: &Record) -> Arc<Record> {
    records::tombstone(before, now() + 12 * TTL)
}

async fn load(store: &impl Store, key: &Key) -> Arc<Record> {
    store.load(key).await.expect("an answer").expect("a record")
}

/// Swaps what nothing speaks against.
async fn put(store: &impl Store, key: &Key, before: Option<&Arc<Record>>, after: &Arc<Record>) {
    let swapped = store.swap(key, before, after).await.expect("an answer");
    assert_eq!(swapped, Swapped::Done);
}

/// Creates a session of these slots.
async fn create(
    store: &impl Store,
    slots: impl IntoIterator<Item = Arc<Slot>>,
) -> (Key, Arc<Record>) {
    let (key, record) = (session_key(), record(slots));
    put(store, &key, None, &record).await;
    (key, record)
}

/// Adds one to slot `n`, from whatever it is now, until that is done.
async fn increment(store: &impl Store, key: &Key) {
    let mut before = load(store, key).await;
    loop {
        let after = next(&before, [slot("n", (number(&before) + 1).to_string())]);
        match store.swap(key, Some(&before), &after).await {
            Ok(Swapped::Done) => return,
            Ok(Swapped::Stale(Some(now))) => before = now,
            other => panic!("{other:?}"),
        }
    }
}

/// Returns what slot `n` counts.
fn number(record: &Arc<Record>) -> usize {
    let slot = record.slot("n").expect("a slot");
    let text = std::str::from_utf8(slot.payload()).expect("text");
    text.parse().expect("a number")
}

/// Checks that the same call may be made again.
fn passing(error: &StoreError) {
    assert!(error.is_transient() && !error.is_full(), "{error:?}");
}

/// Asks the same swap until there is an answer, and checks that by then it was applied.
async fn repeat(store: &impl Store, key: &Key, before: Option<&Arc<Record>>, after: &Arc<Record>) {
    let begun = Instant::now();
    loop {
        match store.swap(key, before, after).await {
            Ok(Swapped::Done) => return,
            Ok(Swapped::Stale(Some(now))) => return assert_eq!(now, *after),
            Ok(Swapped::Stale(None)) => panic!("there is nothing"),
            Err(error) => passing(&error),
        }
        assert!(begun.elapsed() < PATIENCE, "in vain: an answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns what a store calls the record of a key.
fn name(store: &RedisStore, key: &Key) -> String {
    let debug = format!("{store:?}");
    let (_, rest) = debug.split_once("prefix: \"").expect("its prefix");
    let prefix = rest.split('"').next().expect("its end");
    format!("{prefix}{key}")
}

/// Counts how often a server has run a command.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let info: String = server.command(&["INFO", "commandstats"]);
    let line = format!("cmdstat_{command}:calls=");
    let calls = info.lines().find_map(|found| found.strip_prefix(&line));
    let calls = calls.and_then(|calls| calls.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}
