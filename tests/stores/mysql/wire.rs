//! What goes over the wire.

use session_runtime::store::{MysqlStore, Store, Swapped};
use session_tests::{MysqlServer, Proxy};

use super::{create, noise, put, record, session_key, slot, through_a_proxy, with};

/// A store behind a proxy that counts, with one connection that knows the statements.
async fn counted(server: &MysqlServer) -> (MysqlStore, Proxy) {
    let (store, proxy) = through_a_proxy(server).await;
    let (key, mut before) = create(&store, [slot("a", "1")]).await;
    let large = with(&before, slot("b", noise(300)));
    for after in [with(&before, slot("a", "2")), large, record([])] {
        put(&store, &key, Some(&before), &after).await;
        before = after;
    }
    store.load(&key).await.expect("an answer");
    store.sweep(10).await.expect("an answer");
    proxy.traffic();
    (store, proxy)
}

#[tokio::test]
async fn every_call_is_one_round_trip_unless_something_beside_the_row_changes() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (store, proxy) = counted(server).await;
    let is = |trips: usize, call: &str| {
        assert_eq!(proxy.traffic().round_trips, trips, "{call}");
    };
    let key = session_key();
    store.load(&key).await.unwrap();
    is(1, "loading nothing");
    let first = record([slot("a", "1")]);
    put(&store, &key, None, &first).await;
    is(1, "a create");
    let (_, large) = create(&store, [slot("a", "1"), slot("b", noise(300))]).await;
    is(4, "a create with something beside");
    let small = with(&first, slot("a", "2"));
    put(&store, &key, Some(&first), &small).await;
    is(1, "a swap");
    let second = with(&small, slot("b", noise(300)));
    put(&store, &key, Some(&small), &second).await;
    is(4, "a swap of something beside");
    assert_eq!(store.load(&key).await.unwrap(), Some(second.clone()));
    is(1, "a load");
    let third = record([slot("a", "3")]);
    put(&store, &key, Some(&second), &third).await;
    is(4, "a swap that removes something beside");
    let stale = store.swap(&key, Some(&small), &first).await.unwrap();
    assert_eq!(stale, Swapped::Stale(Some(third.clone())));
    is(2, "a stale swap");
    let stale = store.swap(&key, None, &record([])).await.unwrap();
    assert_eq!(stale, Swapped::Stale(Some(third.clone())));
    is(2, "a stale create");
    let stale = store.swap(&key, Some(&first), &large).await.unwrap();
    assert_eq!(stale, Swapped::Stale(Some(third)));
    is(4, "a stale swap of something beside");
    store.sweep(10).await.unwrap();
    is(3, "a sweep that finds nothing");
}

#[tokio::test]
async fn a_small_change_of_a_large_session_sends_little() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (store, proxy) = counted(server).await;
    let slots = [slot("large", noise(64 << 10)), slot("small", "1")];
    let (key, before) = create(&store, slots).await;
    proxy.traffic();
    let after = with(&before, slot("small", "2"));
    put(&store, &key, Some(&before), &after).await;
    let sent = proxy.traffic();
    assert!(sent.up < 1024, "{sent:?}");
    assert!(sent.down < 1024, "{sent:?}");
}
