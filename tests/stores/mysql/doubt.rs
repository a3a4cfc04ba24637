//! Swaps whose answer is lost, and that are asked again.

use std::sync::Arc;

use session_runtime::store::{Record, Store, Swapped};
use session_tests::{Cut, MysqlServer, Wire};

use super::{
    create, insist, loaded, noise, number, put, record, session_key, slot, through_a_proxy, with,
};

/// Where to cut: before the request, in it, before the answer, in it.
const CUTS: [Cut; 4] = [
    Cut::BEFORE,
    Cut::FromClient(100),
    Cut::AFTER,
    Cut::FromServer(10),
];

/// A small change.
fn small(before: &Record, n: usize) -> Arc<Record> {
    with(before, slot("n", n.to_string()))
}

/// One that writes beside the row, and removes something there.
fn large(before: &Record, n: usize) -> Arc<Record> {
    let mut names = ["b", "c"];
    names.rotate_left(n % 2);
    let mut after = before.next();
    after.remove(names[0]);
    Arc::new(after.with_slots([slot("n", n.to_string()), slot(names[1], noise(40_000))]))
}

#[tokio::test]
async fn a_small_swap_cut_anywhere_and_asked_again_is_applied_once() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (store, proxy) = through_a_proxy(server).await;
    let (key, mut before) = create(&store, [slot("n", "0")]).await;
    for (n, cut) in CUTS.into_iter().enumerate() {
        // The connection knows the statement, so that it is the swap which is cut.
        let after = small(&before, n);
        put(&store, &key, Some(&before), &after).await;
        before = after;
        let after = small(&before, n);
        proxy.cut(cut, Wire::Open);
        let error = store.swap(&key, Some(&before), &after).await;
        assert!(error.expect_err("it is cut").is_unknown());
        assert!(!proxy.is_cut_pending());
        let again = insist(&store, &key, Some(&before), &after).await;
        if matches!(cut, Cut::FromServer(_)) {
            assert_eq!(again, Swapped::Stale(Some(after.clone())), "{cut:?}");
        } else {
            assert_eq!(again, Swapped::Done, "{cut:?}");
        }
        // However often.
        let again = insist(&store, &key, Some(&before), &after).await;
        assert_eq!(again, Swapped::Stale(Some(after.clone())), "{cut:?}");
        assert_eq!(loaded(&store, &key).await, Some(after.clone()));
        before = after;
    }
}

#[tokio::test]
async fn a_transaction_cut_anywhere_is_applied_whole_or_not_at_all() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (store, proxy) = through_a_proxy(server).await;
    let start = [slot("n", "0"), slot("b", noise(40_000))];
    let (key, mut before) = create(&store, start).await;
    // What goes up, and all that comes down: an answer takes eleven bytes at least.
    let up = [0, 1, 20, 30, 100, 400, 600, 20_000, 40_000].map(Cut::FromClient);
    let down = (0..300).step_by(7).map(Cut::FromServer);
    let mut applied = 0;
    let mut n = 0;
    for cut in up.into_iter().chain(down) {
        for _ in 0..2 {
            n += 1;
            let after = large(&before, n);
            put(&store, &key, Some(&before), &after).await;
            before = after;
        }
        n += 1;
        let after = large(&before, n);
        proxy.cut(cut, Wire::Open);
        let swapped = store.swap(&key, Some(&before), &after).await;
        if proxy.is_cut_pending() {
            // There were not so many bytes.
            assert_eq!(swapped.expect("an answer"), Swapped::Done, "{cut:?}");
            before = after;
            break;
        }
        let error = swapped.expect_err("it is cut");
        assert!(error.is_unknown(), "{cut:?}: {error:?}");
        match insist(&store, &key, Some(&before), &after).await {
            Swapped::Done => {}
            stale @ Swapped::Stale(_) => {
                assert_eq!(stale, Swapped::Stale(Some(after.clone())), "{cut:?}");
                applied += 1;
            }
        }
        let again = insist(&store, &key, Some(&before), &after).await;
        assert_eq!(again, Swapped::Stale(Some(after.clone())), "{cut:?}");
        before = after;
    }
    assert!(
        applied > 0,
        "none was cut between the commit and its answer"
    );
    assert_eq!(number(&before, "n"), n);
}

#[tokio::test]
async fn a_creation_asked_again_makes_no_second_record() {
    let Some(server) = MysqlServer::shared() else {
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
    let Some(server) = MysqlServer::shared() else {
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
