//! What a store sends: commands, round trips and bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::{RedisStore, Store};
use session_runtime::{Change, Expiry, Kind, SlotChange, UserId};
use session_tests::{PATIENCE, Proxy, RedisCluster, RedisServer};

use super::common::{TTL, apply, create, creation, end, session_key, slot, update};
use super::{new, now, successive_keys};

/// A server behind a proxy that counts, and a store that goes through it.
async fn counted(server: &RedisServer) -> (Proxy, RedisStore) {
    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let url = format!("redis://{}", proxy.address());
    let options = RedisStore::options().prefix("counted:");
    let store = options.timeout(PATIENCE).connect(&url).await;
    let store = store.expect("the server answers");
    proxy.traffic();
    (proxy, store)
}

#[tokio::test]
async fn a_load_is_one_round_trip_and_so_is_a_commit() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (proxy, store) = counted(server).await;
    let [key, to] = successive_keys();
    let now = now();
    let changes = [
        (&key, creation(now, &[slot("a", "1")])),
        (&key, update(now, [new("b", "1")])),
        (&key, Change::new(Kind::Claim(UserId::new("ada")), now)),
        (&key, Change::new(Kind::Release(now), now)),
        (&key, Change::new(Kind::Move(to.clone(), now + TTL), now)),
        (&to, end(now)),
    ];
    for (key, change) in &changes {
        apply(&store, key, change).await;
        assert_eq!(proxy.traffic().round_trips, 1, "{:?}", change.kind);
        store.load(key).await.expect("an answer").expect("a record");
        assert_eq!(proxy.traffic().round_trips, 1, "a load");
    }
}

#[tokio::test]
async fn an_owner_costs_one_server_no_round_trip() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (proxy, store) = counted(server).await;
    let [key, to] = successive_keys();
    let owned = Change {
        owner: Some(UserId::new("ada")),
        ..creation(now(), &[])
    };
    apply(&store, &key, &owned).await;
    // The look at what is due to be trimmed comes after the answer.
    let mut round_trips = 0;
    super::wait_for("the look at what is due", async || {
        round_trips += proxy.traffic().round_trips;
        round_trips >= 2
    })
    .await;
    assert_eq!(round_trips, 2);
    let moved = Change::new(Kind::Move(to.clone(), now() + TTL), now());
    apply(&store, &key, &moved).await;
    assert_eq!(proxy.traffic().round_trips, 1, "a rotation");
    assert_eq!(store.owned_by(&UserId::new("ada")).await.unwrap(), [to]);
}

#[tokio::test]
async fn changing_a_small_field_of_64_kib_sends_and_brings_less_than_1_kib() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (proxy, store) = counted(server).await;
    let large = slot("large", vec![b'x'; 64 << 10]);
    let key = create(&store, now(), &[large, slot("small", "1")]).await;
    let record = store.load(&key).await.unwrap().unwrap();
    let base = record.slot("small").cloned();
    let next = Arc::new(slot("small", "2"));
    let mut change = update(now(), [SlotChange::set(base, next)]);
    change.expiry = Expiry::Extend(now() + TTL);

    proxy.traffic();
    apply(&store, &key, &change).await;
    let traffic = proxy.traffic();
    assert!(traffic.up < 1_024, "{traffic:?}");
    assert!(traffic.down < 64, "{traffic:?}");
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_script_is_sent_it_once() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (proxy, store) = counted(&server).await;
    let key = create(&store, now(), &[]).await;
    let () = server.command(&["SCRIPT", "FLUSH"]);
    proxy.traffic();
    apply(&store, &key, &update(now(), [new("a", "1")])).await;
    assert_eq!(proxy.traffic().round_trips, 2);
    apply(&store, &key, &update(now(), [new("b", "1")])).await;
    assert_eq!(proxy.traffic().round_trips, 1);
    apply(&store, &key, &end(now())).await;
    assert_eq!(proxy.traffic().round_trips, 2, "the other of the two");
}

#[tokio::test]
async fn a_cluster_that_has_forgotten_the_script_is_sent_it() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    let store = cluster.store().await;
    let key = create(&store, now(), &[]).await;
    for node in cluster.nodes() {
        let () = node.command(&["SCRIPT", "FLUSH"]);
    }
    apply(&store, &key, &update(now(), [new("a", "1")])).await;
}

#[tokio::test]
async fn a_record_lapses_on_the_server_too_a_little_later() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let store = server.store().await;
    let prefix = prefix(&store);
    let ttl = |key: &session_runtime::Key| -> i64 {
        server.command(&["PTTL", &format!("{prefix}{key}")])
    };
    // What has passed since, at most, and what the server's clock may be off.
    let begun = now();
    let near = |ttl: i64, seconds: i64| {
        let passed = now().as_millis() - begun.as_millis() + 1_000;
        (-1_000..=passed).contains(&(seconds * 1_000 - ttl))
    };

    let key = create(&store, now(), &[]).await;
    assert!(near(ttl(&key), 7_200 + 90), "{}", ttl(&key));
    let shorter = Change {
        expiry: Expiry::Set(now()),
        ..update(now(), [])
    };
    apply(&store, &key, &shorter).await;
    assert!(near(ttl(&key), 90), "{}", ttl(&key));

    let key = create(&store, now(), &[]).await;
    apply(&store, &key, &end(now())).await;
    assert!(near(ttl(&key), 86_400 + 90), "{}", ttl(&key));

    let forever = Change {
        expiry: Expiry::Set(session_runtime::Timestamp::from_millis(i64::MAX)),
        ..creation(now(), &[])
    };
    let key = session_key();
    apply(&store, &key, &forever).await;
    assert_eq!(ttl(&key), -1, "it has none");
    apply(&store, &key, &shorter_of(&forever)).await;
    assert!(near(ttl(&key), 90), "{}", ttl(&key));
}

fn shorter_of(change: &Change) -> Change {
    Change {
        expiry: Expiry::Set(change.now),
        ..update(change.now, [])
    }
}

#[tokio::test]
async fn a_session_that_is_written_all_the_time_stays_small() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let store = server.store().await;
    // All at one time: a commit is known again for a minute only.
    let now = now();
    let key = create(&store, now, &[slot("n", "0")]).await;
    let mut base = Arc::new(slot("n", "0"));
    let mut changes = Vec::new();
    for n in 1..=1_500 {
        let next = Arc::new(slot("n", n.to_string()));
        let change = SlotChange::set(Some(base), Arc::clone(&next));
        changes.push(update(now, [change]));
        apply(&store, &key, &changes[n - 1]).await;
        base = next;
    }
    let name = format!("{}{key}", prefix(&store));
    let commits: u64 = server.command(&["HSTRLEN", &name, "commits"]);
    assert!(commits < 8 * 1_024 + 40, "{commits}");
    // The last thousand are known, in whichever order they are repeated.
    for change in changes[500..].iter().step_by(37) {
        apply(&store, &key, change).await;
    }
    let record = store.load(&key).await.unwrap().unwrap();
    assert_eq!(record.slot("n"), Some(&base));
}

#[tokio::test]
async fn commits_are_remembered_though_the_clocks_of_two_instances_differ() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let store = server.store().await;
    let slow = now();
    let clocks = [Duration::from_secs(61), Duration::from_secs(60 * 60)];
    for fast in clocks.map(|ahead| slow + ahead) {
        let key = create(&store, slow, &[slot("n", "0")]).await;
        let counted = update(slow, [new("a", "1")]);
        apply(&store, &key, &counted).await;
        // Its answer is lost. Meanwhile others come, by turns.
        for (n, now) in [fast, slow, fast, slow].into_iter().enumerate() {
            apply(&store, &key, &update(now, [new(&n.to_string(), "1")])).await;
        }
        apply(&store, &key, &counted).await;
    }
}

/// The prefix of a store, out of its `Debug`.
fn prefix(store: &RedisStore) -> String {
    let debug = format!("{store:?}");
    let (_, rest) = debug.split_once("prefix: \"").expect("its prefix");
    rest.split('"').next().expect("its end").to_owned()
}
