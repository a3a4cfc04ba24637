//! Servers that are killed, restarted and replaced: what was acknowledged is there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use session_runtime::store::{RedisStore, Store};
use session_runtime::{Change, Committed, Expiry, Key, Kind, SlotChange, UserId};
use session_tests::{Proxy, RedisServer};

use super::common::{TTL, apply, create, end, number, session_key, slot, update};
use super::faults::repeat;
use super::{new, now};

/// Counts up slot `n` until that fails, and says what was acknowledged last; `total` counts along.
async fn count(store: RedisStore, key: Key, total: Arc<AtomicUsize>) -> usize {
    let mut base = Arc::new(slot("n", "0"));
    let mut acknowledged = 0;
    loop {
        let next = Arc::new(slot("n", (acknowledged + 1).to_string()));
        let change = update(now(), [SlotChange::set(Some(base), Arc::clone(&next))]);
        if store.commit(&key, &change).await.is_err() {
            return acknowledged;
        }
        (base, acknowledged) = (next, acknowledged + 1);
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
            let key = session_key();
            let create = super::common::creation(now(), &[slot("n", "0")]);
            assert_eq!(repeat(&store, &key, &create).await, Committed::Applied);
            let counts = count(store.clone(), key.clone(), Arc::clone(&total));
            counting.push((key, tokio::spawn(counts)));
        }
        super::wait_for("much is under way", async || {
            total.load(Ordering::SeqCst) > 100
        })
        .await;
        server.kill();
        let mut counted = Vec::new();
        for (key, counts) in counting {
            counted.push((key, counts.await.expect("it ends")));
        }
        server.restart();
        for (key, acknowledged) in counted {
            let record = store.load(&key).await.expect("an answer").expect("it");
            let found = record.slot("n").map(|slot| number(slot));
            // The one under way may have been written, and not acknowledged.
            let one_of = [Some(acknowledged), Some(acknowledged + 1)];
            assert!(one_of.contains(&found), "{found:?} of {acknowledged}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_holds_what_was_acknowledged_before_it() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = super::connect(&server.url()).await;
    let ada = UserId::new("ada");
    let owned = Change {
        owner: Some(ada.clone()),
        ..super::common::creation(now(), &[slot("cart", [0, 255])])
    };
    let (live, over, later) = (session_key(), session_key(), session_key());
    apply(&store, &live, &owned).await;
    apply(&store, &over, &super::common::creation(now(), &[])).await;
    apply(&store, &over, &end(now())).await;
    let before = (
        store.load(&live).await.unwrap(),
        store.load(&over).await.unwrap(),
    );
    let () = server.command(&["SAVE"]);
    apply(&store, &later, &super::common::creation(now(), &[])).await;
    server.kill();
    server.restart();

    let after = (
        store.load(&live).await.unwrap(),
        store.load(&over).await.unwrap(),
    );
    assert_eq!(before, after);
    assert_eq!(
        store.owned_by(&ada).await.unwrap(),
        std::slice::from_ref(&live)
    );
    // What came after the snapshot is lost, and stays so.
    let late = store.commit(&later, &update(now(), [new("a", "1")])).await;
    assert_eq!(late.unwrap(), Committed::Gone);
    // A repeat is known, though the server does not know the script any more.
    apply(&store, &live, &owned).await;
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
    let key = create(&store, now(), &[slot("n", "0")]).await;
    let forever = Change {
        expiry: Expiry::Extend(now() + 2 * TTL),
        ..update(now(), [new("kept", "1")])
    };
    apply(&store, &key, &forever).await;
    super::wait_for("the replica has it", async || {
        let replica = super::connect(&new_primary.url()).await;
        replica.load(&key).await.unwrap() == store.load(&key).await.unwrap()
    })
    .await;

    // The connection stays with the old primary, which says READONLY from now on.
    new_primary.promote();
    old.follow(&new_primary);
    proxy.lead_to(SocketAddr::from((Ipv4Addr::LOCALHOST, new_primary.port())));
    let base = Some(Arc::new(slot("n", "0")));
    let change = update(now(), [SlotChange::set(base, Arc::new(slot("n", "1")))]);
    assert_eq!(repeat(&store, &key, &change).await, Committed::Applied);
    let record = store.load(&key).await.unwrap().unwrap();
    assert_eq!(record.slot("n").map(|slot| number(slot)), Some(1));
    assert!(record.slot("kept").is_some());
    let claim = Change::new(Kind::Claim(UserId::new("ada")), now());
    apply(&store, &key, &claim).await;
}
