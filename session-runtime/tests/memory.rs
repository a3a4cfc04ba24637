//! What the memory store does when it is full: what the suite of promises does not ask of every store.

#![cfg(all(feature = "memory", feature = "testing"))]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{TTL, apply, create, creation, end, session_key, slot, update};
use session_runtime::store::{MemoryStore, Store, StoreError};
use session_runtime::testing::TestClock;
use session_runtime::{Change, Clock, Committed, Expiry, Key, SlotChange, UserId};

fn small(clock: &TestClock) -> MemoryStore {
    MemoryStore::new()
        .with_clock(clock.clone())
        .with_capacity_bytes(64 << 10)
}

/// Creates sessions of a kibibyte until one is refused.
async fn fill(store: &MemoryStore, clock: &TestClock) -> (Vec<Key>, StoreError) {
    let mut keys = Vec::new();
    loop {
        let key = session_key();
        let create = creation(clock.now(), &[slot("a", [b'.'; 1 << 10])]);
        match store.commit(&key, &create).await {
            Ok(committed) => assert_eq!(committed, Committed::Applied),
            Err(error) => return (keys, error),
        }
        keys.push(key);
    }
}

fn used(store: &MemoryStore) -> usize {
    let debug = format!("{store:?}");
    let number = debug
        .split("used_bytes: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    number
        .expect("the number is shown")
        .parse()
        .expect("a number")
}

#[tokio::test]
async fn a_full_store_refuses_new_sessions_and_keeps_the_live_ones() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (keys, error) = fill(&store, &clock).await;
    assert!(error.is_full());
    assert!(!error.is_transient());
    assert!(
        keys.len() > 30,
        "{} sessions of a kibibyte fit 64",
        keys.len()
    );
    for _ in 0..1_000 {
        // Some small ones may still fit; none takes a live one's place.
        drop(
            store
                .commit(&session_key(), &creation(clock.now(), &[]))
                .await,
        );
    }
    for key in &keys {
        assert!(
            store
                .load(key)
                .await
                .unwrap()
                .is_some_and(|record| record.is_live(clock.now()))
        );
    }
    assert!(used(&store) <= 65 << 10);
}

#[tokio::test]
async fn a_refused_commit_changes_nothing() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (keys, _) = fill(&store, &clock).await;
    let (before, taken) = (store.load(&keys[0]).await.unwrap(), used(&store));
    let large = Arc::new(slot("b", [b'.'; 1 << 10]));
    let grow = Change {
        owner: Some(UserId::new("ada")),
        expiry: Expiry::Set(clock.now()),
        ..update(clock.now(), [SlotChange::set(None, large)])
    };
    assert!(store.commit(&keys[0], &grow).await.unwrap_err().is_full());
    assert_eq!(store.load(&keys[0]).await.unwrap(), before);
    assert_eq!(store.owned_by(&UserId::new("ada")).await.unwrap(), []);
    assert_eq!(used(&store), taken);
}

#[tokio::test]
async fn a_full_store_still_shrinks_and_ends_sessions() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (keys, _) = fill(&store, &clock).await;
    let held = Arc::new(slot("a", [b'.'; 1 << 10]));
    let less = Arc::new(slot("a", [b'.'; 1 << 9]));
    apply(
        &store,
        &keys[0],
        &update(clock.now(), [SlotChange::set(Some(held.clone()), less)]),
    )
    .await;
    apply(
        &store,
        &keys[1],
        &update(clock.now(), [SlotChange::drop(held)]),
    )
    .await;
    for key in &keys[2..] {
        apply(&store, key, &end(clock.now())).await;
    }
    create(&store, clock.now(), &[slot("a", [b'.'; 1 << 10])]).await;
}

#[tokio::test]
async fn a_full_store_makes_room_from_what_has_expired() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (old, _) = fill(&store, &clock).await;
    clock.advance(TTL.saturating_sub(Duration::from_secs(1)));
    assert!(fill(&store, &clock).await.1.is_full());
    assert!(store.load(&old[0]).await.unwrap().is_some());
    clock.advance(Duration::from_secs(1));
    let new = create(&store, clock.now(), &[slot("a", [0; 1 << 10])]).await;
    assert!(store.load(&new).await.unwrap().is_some());
    assert!(store.load(&old[0]).await.unwrap().is_none());
}

#[tokio::test]
async fn a_full_store_makes_no_room_by_a_clock_that_has_stepped() {
    let clock = TestClock::new();
    let store = small(&clock);
    let (keys, _) = fill(&store, &clock).await;
    clock.step_forward(10 * TTL);
    let create = creation(clock.now(), &[slot("a", [0; 1 << 10])]);
    assert!(
        store
            .commit(&session_key(), &create)
            .await
            .unwrap_err()
            .is_full()
    );
    for key in &keys {
        assert!(store.load(key).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_clone_is_the_same_store() {
    let clock = TestClock::new();
    let store = small(&clock);
    let key = create(&store.clone(), clock.now(), &[]).await;
    assert!(store.load(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn a_load_copies_nothing() {
    let clock = TestClock::new();
    let store = small(&clock);
    let key = create(&store, clock.now(), &[slot("a", "1")]).await;
    let [one, two] = [
        store.load(&key).await.unwrap(),
        store.load(&key).await.unwrap(),
    ];
    assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
}

#[tokio::test]
async fn a_record_that_someone_holds_does_not_change_under_them() {
    let clock = TestClock::new();
    let store = small(&clock);
    let key = create(&store, clock.now(), &[slot("a", "1")]).await;
    let held = store.load(&key).await.unwrap().unwrap();
    let change = SlotChange::set(held.slot("a").cloned(), Arc::new(slot("a", "2")));
    apply(&store, &key, &update(clock.now(), [change])).await;
    assert_eq!(**held.slot("a").unwrap(), slot("a", "1"));
}
