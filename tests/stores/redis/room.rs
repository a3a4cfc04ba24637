//! A server that is full, or that throws records out.

use std::sync::Arc;

use session_runtime::store::{Record, RedisStore, Store, StoreError, Swapped};
use session_runtime::{Key, Timestamp, UserId};
use session_tests::RedisServer;

use super::{TTL, expiring, load, next, now, put, record, session_key, slot, tombstone, without};

/// Creates sessions of 32 KiB until that is refused, or there are `most`.
async fn fill(store: &RedisStore, most: usize) -> (Vec<Key>, Option<StoreError>) {
    let large = [slot("large", vec![b'x'; 32 << 10]), slot("small", "1")];
    let mut keys = Vec::new();
    while keys.len() < most {
        let key = session_key();
        match store.swap(&key, None, &record(large.clone())).await {
            Ok(swapped) => assert_eq!(swapped, Swapped::Done),
            Err(error) => return (keys, Some(error)),
        }
        keys.push(key);
    }
    (keys, None)
}

#[tokio::test]
async fn a_full_server_refuses_what_takes_room_and_does_the_rest() {
    let Some(server) = RedisServer::start(&["--maxmemory", "8mb"]) else {
        return;
    };
    let store = server.store().await;
    let (keys, error) = fill(&store, 1_000).await;
    let error = error.expect("it is full");
    assert!(error.is_full() && !error.is_transient(), "{error:?}");
    // Full for what is smaller, too.
    let () = server.command(&["CONFIG", "SET", "maxmemory", "7mb"]);
    let key = &keys[0];
    let before = load(&store, key).await;

    for refused in [slot("new", "1"), slot("small", "12")] {
        let after = next(&before, [refused]);
        let error = store.swap(key, Some(&before), &after).await;
        let error = error.expect_err("no room");
        assert!(error.is_full(), "{error:?}");
    }
    assert_eq!(load(&store, key).await, before);

    let touched = expiring(&before, now() + 2 * TTL);
    put(&store, key, Some(&before), &touched).await;
    let same_size = next(&touched, [slot("small", "2")]);
    put(&store, key, Some(&touched), &same_size).await;
    let smaller = without(&same_size, "small");
    put(&store, key, Some(&same_size), &smaller).await;
    // One that is late learns so.
    let late = next(&before, [slot("small", "3")]);
    let swapped = store.swap(key, Some(&before), &late).await.unwrap();
    assert_eq!(swapped, Swapped::Stale(Some(smaller)));
    for key in &keys {
        let before = load(&store, key).await;
        let ended = tombstone(&before);
        put(&store, key, Some(&before), &ended).await;
        assert_eq!(load(&store, key).await, ended);
    }
    let (_, error) = fill(&store, keys.len() / 2).await;
    assert!(error.is_none(), "there is room again: {error:?}");
}

#[tokio::test]
async fn an_evicted_session_is_over_and_no_user_is_evicted() {
    let options = ["--maxmemory", "8mb", "--maxmemory-policy", "volatile-lru"];
    let Some(server) = RedisServer::start(&options) else {
        return;
    };
    let store = server.store().await;
    let users: Vec<_> = (0..50_u64).map(|n| Key::User(UserId::from(n))).collect();
    for user in &users {
        let forever = Record::new(now(), Timestamp::from_millis(i64::MAX));
        let forever = Arc::new(forever.with_slots([slot("cart", "1")]));
        put(&store, user, None, &forever).await;
    }
    let (keys, error) = fill(&store, 1_000).await;
    assert!(error.is_none(), "{error:?}");
    let before = record([slot("small", "1")]);
    let mut evicted = 0;
    for key in &keys {
        if store.load(key).await.unwrap().is_some() {
            continue;
        }
        evicted += 1;
        for after in [
            next(&before, [slot("small", "2")]),
            expiring(&before, now() + 2 * TTL),
            tombstone(&before),
        ] {
            let swapped = store.swap(key, Some(&before), &after).await;
            assert_eq!(swapped.expect("an answer"), Swapped::Stale(None));
        }
        assert!(store.load(key).await.unwrap().is_none(), "it stays away");
    }
    assert!(evicted > 500, "{evicted} of {} were evicted", keys.len());
    for user in &users {
        assert!(store.load(user).await.unwrap().is_some());
    }
}
