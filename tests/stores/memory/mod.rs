//! The memory store: the suite of promises, and what it does when it is full, which the suite does not ask.

use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::{MemoryStore, Record, Slot, Store, StoreError, Swapped};
use session_runtime::testing::{self, TestClock};
use session_runtime::{Clock, Key, SessionId, Timestamp};

const TTL: Duration = Duration::from_secs(2 * 60 * 60);

/// For how long a record is kept after it has expired.
const KEPT: Duration = Duration::from_secs(10 * 60);

const KIB: usize = 1 << 10;

fn small(clock: &TestClock) -> MemoryStore {
    let store = MemoryStore::new().with_clock(clock.clone());
    store.with_capacity_bytes(64 * KIB)
}

fn session_key() -> Key {
    Key::from(&SessionId::generate().expect("random bytes"))
}

/// A session with one slot of so many bytes.
fn session(now: Timestamp, length: usize) -> Arc<Record> {
    let slot = Slot::new("a", vec![b'.'; length], None);
    Arc::new(Record::new(now, now + TTL).with_slots([Arc::new(slot)]))
}

/// The next version of a record, whose slot has so many bytes.
fn resized(there: &Record, length: usize) -> Arc<Record> {
    let slot = Slot::new("a", vec![b'.'; length], None);
    Arc::new(there.next().with_slots([Arc::new(slot)]))
}

async fn create(store: &MemoryStore, record: &Arc<Record>) -> Result<Key, StoreError> {
    let key = session_key();
    let swapped = store.swap(&key, None, record).await?;
    assert_eq!(swapped, Swapped::Done);
    Ok(key)
}

async fn load(store: &MemoryStore, key: &Key) -> Option<Arc<Record>> {
    store.load(key).await.expect("an answer")
}

async fn swap(store: &MemoryStore, key: &Key, before: &Arc<Record>, after: &Arc<Record>) {
    let swapped = store.swap(key, Some(before), after).await;
    assert_eq!(swapped.expect("an answer"), Swapped::Done);
}

/// Creates sessions of a kibibyte, and comes back to each, until one is refused.
async fn fill(store: &MemoryStore, clock: &TestClock) -> (Vec<(Key, Arc<Record>)>, StoreError) {
    let mut sessions = Vec::new();
    loop {
        let record = session(clock.now(), KIB);
        match create(store, &record).await {
            Ok(key) => {
                assert!(load(store, &key).await.is_some());
                sessions.push((key, record));
            }
            Err(error) => return (sessions, error),
        }
    }
}

fn used(store: &MemoryStore) -> usize {
    let debug = format!("{store:?}");
    let (_, rest) = debug.split_once("used_bytes: ").expect("it is shown");
    let digits = rest.split(',').next().expect("a number");
    digits.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_every_promise() {
    testing::conformance(async |clock| MemoryStore::new().with_clock(clock)).await;
}

#[tokio::test]
async fn a_full_store_refuses_new_sessions_and_keeps_the_live_ones() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (sessions, error) = fill(&store, &clock).await;
    assert!(error.is_full());
    assert!(!error.is_transient());
    assert!(
        sessions.len() > 30,
        "{} of a kibibyte fit 64",
        sessions.len()
    );
    for _ in 0..1_000 {
        // Some small ones may still fit; none takes a live one's place.
        drop(create(&store, &session(clock.now(), 1)).await);
    }
    for (key, record) in &sessions {
        assert_eq!(load(&store, key).await.as_ref(), Some(record));
    }
    assert!(used(&store) <= 64 * KIB);
}

#[tokio::test]
async fn a_refused_swap_changes_nothing() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (sessions, _) = fill(&store, &clock).await;
    let taken = used(&store);
    let (key, there) = &sessions[0];
    let larger = resized(there, 12 * KIB);
    let refused = store.swap(key, Some(there), &larger).await;
    assert!(refused.expect_err("there is no room").is_full());
    assert_eq!(load(&store, key).await.as_ref(), Some(there));
    assert_eq!(used(&store), taken);
    // It was not written, so what is there can still be swapped.
    swap(&store, key, there, &resized(there, 1)).await;
}

#[tokio::test]
async fn a_full_store_still_shrinks_and_renews_sessions() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (sessions, _) = fill(&store, &clock).await;
    let (first, record) = &sessions[0];
    swap(&store, first, record, &resized(record, KIB / 2)).await;
    let (second, record) = &sessions[1];
    let mut less = record.next();
    less.remove("a");
    swap(&store, second, record, &Arc::new(less)).await;
    create(&store, &session(clock.now(), KIB))
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn a_full_store_makes_room_from_what_expired_ten_minutes_ago() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (old, _) = fill(&store, &clock).await;
    clock.advance(TTL + KEPT - Duration::from_millis(1));
    assert!(fill(&store, &clock).await.1.is_full());
    for (key, record) in &old {
        assert_eq!(load(&store, key).await.as_ref(), Some(record));
    }
    clock.advance(Duration::from_millis(1));
    let new = create(&store, &session(clock.now(), KIB)).await;
    let new = new.expect("there is room again");
    assert!(load(&store, &new).await.is_some());
    assert_eq!(load(&store, &old[0].0).await, None);
}

#[tokio::test]
async fn a_full_store_makes_no_room_by_a_clock_that_has_stepped() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (sessions, _) = fill(&store, &clock).await;
    clock.step_forward(10 * TTL);
    let refused = create(&store, &session(clock.now(), KIB)).await;
    assert!(refused.expect_err("there is no room").is_full());
    for (key, record) in &sessions {
        assert_eq!(load(&store, key).await.as_ref(), Some(record));
    }
}

#[tokio::test]
async fn a_clone_is_the_same_store() {
    let clock = TestClock::new();
    let store = small(&clock);
    let record = session(clock.now(), 1);
    let key = create(&store.clone(), &record)
        .await
        .expect("there is room");
    assert_eq!(load(&store, &key).await, Some(record));
}

#[tokio::test]
async fn a_load_copies_nothing() {
    let clock = TestClock::new();
    let store = small(&clock);
    let record = session(clock.now(), 1);
    let key = create(&store, &record).await.expect("there is room");
    let loaded = load(&store, &key).await.expect("it is there");
    assert!(Arc::ptr_eq(&loaded, &record));
}

#[tokio::test]
async fn a_record_that_someone_holds_does_not_change_under_them() {
    let clock = TestClock::new();
    let store = small(&clock);
    let record = session(clock.now(), 1);
    let key = create(&store, &record).await.expect("there is room");
    let held = load(&store, &key).await.expect("it is there");
    swap(&store, &key, &record, &resized(&record, 2)).await;
    assert_eq!(held.slot("a"), record.slot("a"));
}
