//! Swaps whose answer is lost, and that are asked again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use session_runtime::SystemClock;
use session_runtime::store::{PostgresStore, Record, Store, StoreError, Swapped};
use session_tests::{Cut, PATIENCE, PostgresServer, Proxy, Wire, wait_for};

use super::{create, insist, loaded, noise, number, put, record, session_key, slot, with};

/// A store of one connection through a proxy.
async fn through_a_proxy(server: &PostgresServer) -> (PostgresStore, Proxy) {
    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let options = server.options(SystemClock::default()).pool_size(1);
    let url = server.url_at(proxy.address().port()) + "?application_name=proxied";
    let store = options.connect(&url).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    (store, proxy)
}

/// Where to cut: before the request, in it, before the answer, in it.
const CUTS: [Cut; 4] = [
    Cut::BEFORE,
    Cut::FromClient(100),
    Cut::AFTER,
    Cut::FromServer(10),
];

/// The same with a small change, and with one that writes beside the row.
fn changes(before: &Record, n: usize) -> [Arc<Record>; 2] {
    let small = with(before, slot("n", n.to_string()));
    let large = with(&small, slot("b", noise(40_000)));
    [small, large]
}

#[tokio::test]
async fn a_swap_cut_anywhere_and_asked_again_is_applied_once() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (store, proxy) = through_a_proxy(server).await;
    let (key, mut before) = create(&store, [slot("n", "0")]).await;
    let mut n = 0;
    for cut in CUTS.into_iter().chain([Cut::FromClient(20_000)]) {
        for which in [0, 1] {
            if (cut, which) == (Cut::FromClient(20_000), 0) {
                continue;
            }
            n += 1;
            // The connection knows the statements, so that it is the swap which is cut.
            for after in changes(&before, n) {
                let after = Arc::new(after.next());
                put(&store, &key, Some(&before), &after).await;
                before = after;
            }
            let after = &changes(&before, n)[which];
            proxy.cut(cut, Wire::Open);
            let error = store.swap(&key, Some(&before), after).await;
            let error = error.expect_err("it is cut");
            assert!(error.is_unknown(), "{error:?}");
            assert!(!proxy.is_cut_pending());
            let was_applied = matches!(cut, Cut::FromServer(_));
            let again = insist(&store, &key, Some(&before), after).await;
            if was_applied {
                assert_eq!(again, Swapped::Stale(Some(after.clone())), "{cut:?}");
            } else {
                assert_eq!(again, Swapped::Done, "{cut:?}");
            }
            // However often.
            let again = insist(&store, &key, Some(&before), after).await;
            assert_eq!(again, Swapped::Stale(Some(after.clone())), "{cut:?}");
            assert_eq!(loaded(&store, &key).await, Some(after.clone()));
            before = after.clone();
        }
    }
}

#[tokio::test]
async fn a_swap_asked_again_after_many_others_is_not_applied_again() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (store, proxy) = through_a_proxy(server).await;
    for cut in CUTS {
        let (key, before) = create(&store, [slot("n", "0")]).await;
        let [lost, _] = changes(&before, 1);
        proxy.cut(cut, Wire::Open);
        let error = store.swap(&key, Some(&before), &lost).await;
        assert!(error.expect_err("it is cut").is_unknown());
        let there = loaded(&store, &key).await.expect("it lives");
        let n = number(&there, "n");
        assert_eq!(n, usize::from(matches!(cut, Cut::FromServer(_))), "{cut:?}");
        let mut hot = there;
        // More than a record remembers.
        for n in n + 1..n + 40 {
            let after = with(&hot, slot("n", n.to_string()));
            put(&store, &key, Some(&hot), &after).await;
            hot = after;
        }
        let again = insist(&store, &key, Some(&before), &lost).await;
        assert_eq!(again, Swapped::Stale(Some(hot.clone())), "{cut:?}");
        assert_eq!(loaded(&store, &key).await, Some(hot));
    }
}

#[tokio::test]
async fn a_creation_asked_again_makes_no_second_record() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (store, proxy) = through_a_proxy(server).await;
    for cut in CUTS {
        create(&store, [slot("n", "0")]).await;
        let (key, new) = (session_key(), record([slot("n", "1")]));
        proxy.cut(cut, Wire::Open);
        let error = store.swap(&key, None, &new).await;
        assert!(error.expect_err("it is cut").is_unknown());
        let again = insist(&store, &key, None, &new).await;
        if matches!(cut, Cut::FromServer(_)) {
            assert_eq!(again, Swapped::Stale(Some(new.clone())), "{cut:?}");
        } else {
            assert_eq!(again, Swapped::Done, "{cut:?}");
        }
        assert_eq!(loaded(&store, &key).await, Some(new));
    }
}

#[tokio::test]
async fn a_load_over_a_connection_that_broke_long_ago_is_answered() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (store, proxy) = through_a_proxy(server).await;
    let (key, record) = create(&store, [slot("a", "1")]).await;
    store.load(&key).await.unwrap();
    proxy.cut(Cut::BEFORE, Wire::Open);
    let found = store.load(&key).await.expect("another connection answers");
    assert_eq!(found, Some(record));
    assert!(!proxy.is_cut_pending());
}

/// Lets a swap go to the server, does something there before its answer arrives, and returns what came of it.
async fn late<'a>(
    (server, proxy): (&'a PostgresServer, &Proxy),
    swap: impl Future<Output = Result<Swapped, StoreError>> + 'a,
    meanwhile: impl AsyncFnOnce() + 'a,
) -> Swapped {
    let watcher = server.client().await;
    let answered = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'proxied'
        AND state = 'idle' AND (query LIKE 'UPDATE%' OR query LIKE 'INSERT%')";
    proxy.set(Wire::Delayed {
        up: Duration::ZERO,
        down: PATIENCE,
    });
    let do_meanwhile = async {
        wait_for("the server has answered", async || {
            let row = watcher.query_one(answered, &[]).await.unwrap();
            row.get::<_, i64>(0) == 1
        })
        .await;
        meanwhile().await;
        proxy.set(Wire::Open);
    };
    let (swapped, ()) = tokio::join!(swap, do_meanwhile);
    swapped.expect("an answer")
}

#[tokio::test]
async fn a_stale_swap_never_brings_the_version_that_was_compared() {
    let Some(server) = PostgresServer::start() else {
        return;
    };
    let server = &server;
    let (store, proxy) = through_a_proxy(server).await;
    let other = server.options(SystemClock::default()).schema("test_0");
    let other = other.connect(&server.url()).expect("the URL is fine");
    let (key, first) = create(&store, [slot("n", "1")]).await;
    let [second, third] = [2, 3].map(|n| record([slot("n", n.to_string())]));
    // So that the connection knows the statements, and has asked something else since.
    put(&store, &key, Some(&first), &Arc::new(first.next())).await;
    let first = loaded(&store, &key).await.expect("it lives");
    // When the server looks, the second is not there yet; when the store looks, it is.
    let swap = store.swap(&key, Some(&second), &third);
    let swapped = late((server, &proxy), swap, async || {
        put(&other, &key, Some(&first), &second).await;
    })
    .await;
    assert_eq!(swapped, Swapped::Done);
    assert_eq!(loaded(&store, &key).await, Some(third.clone()));
    // The same with nothing in the record's place.
    let swap = store.swap(&key, None, &second);
    let swapped = late((server, &proxy), swap, async || {
        let client = server.client().await;
        let delete = "DELETE FROM test_0.sessions";
        client.batch_execute(delete).await.unwrap();
    })
    .await;
    assert_eq!(swapped, Swapped::Done);
    assert_eq!(loaded(&store, &key).await, Some(second));
}
