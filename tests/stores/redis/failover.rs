//! Servers that are killed, restarted and replaced: what was acknowledged is there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use session_runtime::Key;
use session_runtime::store::{Record, RedisStore, Store, Swapped};
use session_tests::{Proxy, RedisServer, wait_for};

use super::{
    TTL, create, expiring, load, next, now, number, put, record, repeat, session_key, slot,
    tombstone,
};

/// Counts up slot `n` until that fails, and says what was acknowledged last; `total` counts along.
async fn count(
    store: RedisStore,
    key: Key,
    mut before: Arc<Record>,
    total: Arc<AtomicUsize>,
) -> usize {
    loop {
        let acknowledged = number(&before);
        let after = next(&before, [slot("n", (acknowledged + 1).to_string())]);
        match store.swap(&key, Some(&before), &after).await {
            Ok(swapped) => assert_eq!(swapped, Swapped::Done),
            Err(_) => return acknowledged,
        }
        before = after;
        total.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_with_an_append_only_file() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(server) = RedisServer::start(&options) else {
        return;
    };
    let store = super::connect(&server.url()).await;
    for _ in 0..3 {
        let mut counting = Vec::new();
        let total = Arc::new(AtomicUsize::new(0));
        for _ in 0..8 {
            let (key, created) = (session_key(), record([slot("n", "0")]));
            repeat(&store, &key, None, &created).await;
            let counts = count(store.clone(), key.clone(), created, Arc::clone(&total));
            counting.push((key, tokio::spawn(counts)));
        }
        wait_for("much is under way", async || {
            total.load(Ordering::SeqCst) > 100
        })
        .await;
        server.kill();
        let mut counted = Vec::new();
        for (key, counts) in counting {
            counted.push((key, counts.await.expect("it ends")));
        }
        server.restart();
        // A try to connect that began before may be told of first.
        wait_for("it is found again", async || {
            store.load(&session_key()).await.is_ok()
        })
        .await;
        for (key, acknowledged) in counted {
            let found = number(&load(&store, &key).await);
            // The one under way may have been written, and not acknowledged.
            let one_of = [acknowledged, acknowledged + 1];
            assert!(one_of.contains(&found), "{found} of {acknowledged}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_holds_what_was_acknowledged_before_it() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = super::connect(&server.url()).await;
    let slots = [slot("cart", [0, 255]), slot("large", vec![0; 4 << 10])];
    let (live, created) = create(&store, slots).await;
    let (over, before) = create(&store, []).await;
    let ended = tombstone(&before);
    put(&store, &over, Some(&before), &ended).await;
    let () = server.command(&["SAVE"]);
    let (later, lost) = create(&store, []).await;
    server.kill();
    server.restart();

    assert_eq!(load(&store, &live).await, created);
    assert_eq!(load(&store, &over).await, ended);
    // What came after the snapshot is lost, and stays so.
    let after = next(&lost, [slot("a", "1")]);
    let late = store.swap(&later, Some(&lost), &after).await;
    assert_eq!(late.unwrap(), Swapped::Stale(None));
    // The server does not know the script any more.
    let changed = next(&created, [slot("a", "1")]);
    put(&store, &live, Some(&created), &changed).await;
}

#[tokio::test]
async fn a_promoted_replica_goes_on_where_the_primary_ended() {
    let Some(old) = RedisServer::start(&[]) else {
        return;
    };
    let new_primary = old.replica();
    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, old.port())));
    let url = format!("redis://{}", proxy.address());
    let store = super::connect(&url).await;
    let (key, created) = create(&store, [slot("n", "0")]).await;
    let kept = expiring(&next(&created, [slot("kept", "1")]), now() + 2 * TTL);
    put(&store, &key, Some(&created), &kept).await;
    wait_for("the replica has it", async || {
        let replica = super::connect(&new_primary.url()).await;
        replica.load(&key).await.unwrap() == Some(kept.clone())
    })
    .await;

    // The connection stays with the old primary, which says READONLY from now on.
    new_primary.promote();
    old.follow(&new_primary);
    proxy.lead_to(SocketAddr::from((Ipv4Addr::LOCALHOST, new_primary.port())));
    let after = next(&kept, [slot("n", "1")]);
    repeat(&store, &key, Some(&kept), &after).await;
    assert_eq!(load(&store, &key).await, after);
}
