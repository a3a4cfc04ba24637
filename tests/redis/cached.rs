//! The near cache: what it saves, and how old what it serves may be.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use session_runtime::store::{CachedStore, RedisStore, Store};
use session_runtime::testing::conformance_case;
use session_runtime::{Ended, Key, SlotChange, State};
use session_tests::{Proxy, RedisCluster, RedisServer, Wire};

use super::common::{apply, create, end, increment, number, slot, update};
use super::{cases, new, now, wait_for};

type Cached = CachedStore<RedisStore>;

/// Another instance of an app.
async fn instance(url: &str) -> Cached {
    CachedStore::new(super::connect(url).await).expect("it tells of changes")
}

/// How often something was loaded.
fn loads(server: &RedisServer) -> u64 {
    let info: String = server.command(&["INFO", "commandstats"]);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_hgetall:calls="));
    let calls = line.and_then(|line| line.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

fn address(server: &RedisServer) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))
}

/// How many connections are told of changes.
fn listening(server: &RedisServer) -> usize {
    let clients: String = server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    clients.lines().count()
}

/// Waits until the record is served without the server being asked.
async fn warm(server: &RedisServer, store: &Cached, key: &Key) {
    wait_for("it is served from memory", async || {
        let before = loads(server);
        for _ in 0..3 {
            store.load(key).await.expect("an answer").expect("a record");
        }
        loads(server) == before
    })
    .await;
}

async fn state(store: &impl Store, key: &Key) -> State {
    let record = store.load(key).await.expect("an answer").expect("a record");
    record.state.clone()
}

async fn value(store: &impl Store, key: &Key) -> usize {
    let record = store.load(key).await.expect("an answer").expect("a record");
    number(record.slot("n").expect("a slot"))
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

#[tokio::test]
async fn what_has_not_changed_is_read_without_a_round_trip() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (one, other) = (instance(&server.url()).await, instance(&server.url()).await);
    let key = create(&one, now(), &[slot("n", "0")]).await;
    warm(&server, &one, &key).await;
    warm(&server, &other, &key).await;

    increment(&other, &key, now()).await;
    wait_for("the change is told", async || value(&one, &key).await == 1).await;
    warm(&server, &one, &key).await;
    assert_eq!(value(&one, &key).await, 1);

    apply(&other, &key, &end(now())).await;
    wait_for("so is the end", async || {
        state(&one, &key).await == State::Ended(Ended::Revoked)
    })
    .await;
    let () = server.command(&["FLUSHALL"]);
    wait_for("so is the loss of all", async || {
        one.load(&key).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_reads_what_it_has_written() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = instance(&server.url()).await;
    let key = create(&store, now(), &[slot("n", "0")]).await;
    warm(&server, &store, &key).await;
    // Others read all the time, and put into the cache what they find.
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (store, key, stop) = (store.clone(), key.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    store.load(&key).await.expect("an answer");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for n in 0..500 {
        let base = Some(Arc::new(slot("n", n.to_string())));
        let next = Arc::new(slot("n", (n + 1).to_string()));
        apply(&store, &key, &update(now(), [SlotChange::set(base, next)])).await;
        assert_eq!(value(&store, &key).await, n + 1);
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.expect("it reads to the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_among_many_is_missed_for_good() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (one, other) = (instance(&server.url()).await, instance(&server.url()).await);
    let key = create(&one, now(), &[slot("n", "0")]).await;
    warm(&server, &one, &key).await;
    for round in 1..=50 {
        for _ in 0..10 {
            let (written, read) = tokio::join!(increment(&other, &key, now()), value(&one, &key));
            let () = written;
            assert!(read <= round * 10);
        }
        wait_for("the last change is seen", async || {
            value(&one, &key).await == round * 10
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_while_nothing_is_told_is_no_older_than_said() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let proxy = Proxy::open(address(&server));
    let staleness = Duration::from_millis(400);
    let cut_off = instance(&format!("redis://{}", proxy.address())).await;
    let cut_off = cut_off.with_staleness(staleness);
    let other = instance(&server.url()).await;
    let key = create(&other, now(), &[slot("n", "0")]).await;
    let (mut round, mut seen) = (0, 0);
    while seen < 2 {
        // A machine that stands still for so long serves nothing from memory, but not each time.
        assert!(round < 50, "nothing was served from memory");
        warm(&server, &cut_off, &key).await;
        proxy.set(Wire::BlackHole);
        increment(&other, &key, now()).await;
        let changed = Instant::now();
        let mut hits = 0;
        loop {
            let asked = Instant::now();
            // From memory at once, or not at all.
            let Ok(found) = timeout(Duration::from_millis(20), cut_off.load(&key)).await else {
                break;
            };
            let found = found.expect("an answer").expect("a record");
            assert_eq!(number(found.slot("n").expect("a slot")), round);
            assert!(asked < changed + staleness, "revocation comes too late");
            hits += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen += usize::from(hits > 0);
        proxy.set(Wire::Reset);
        proxy.set(Wire::Open);
        wait_for("the change is seen", async || {
            let found = cut_off.load(&key).await;
            found.is_ok_and(|found| number(found.expect("it").slot("n").expect("it")) == round + 1)
        })
        .await;
        round += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_the_one_written_to_proves_nothing() {
    let (Some(server), Some(stranger)) = (RedisServer::start(&[]), RedisServer::start(&[])) else {
        return;
    };
    let proxy = Proxy::open(address(&server));
    let one = instance(&format!("redis://{}", proxy.address())).await;
    let other = instance(&server.url()).await;
    let key = create(&one, now(), &[slot("n", "0")]).await;
    warm(&server, &one, &key).await;

    // The connection that tells of changes is made anew, to a server that knows of none.
    proxy.lead_to(address(&stranger));
    let _: u64 = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait_for("it is told by the stranger", async || {
        listening(&stranger) == 1
    })
    .await;
    for n in 1..=20 {
        increment(&other, &key, now()).await;
        assert_eq!(value(&one, &key).await, n);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_primary_has_is_not_served_once_the_new_one_proves_itself() {
    let Some(old) = RedisServer::start(&[]) else {
        return;
    };
    let new_primary = old.replica();
    let proxy = Proxy::open(address(&old));
    let plain = super::connect(&format!("redis://{}", proxy.address())).await;
    let one = CachedStore::new(plain.clone()).expect("it tells of changes");
    let key = create(&one, now(), &[slot("n", "0")]).await;
    warm(&old, &one, &key).await;
    wait_for("the replica has it", async || {
        new_primary.command::<u64>(&["DBSIZE"]) == 1
    })
    .await;

    // The address leads to the new primary, where somebody revokes. What is connected stays so.
    new_primary.promote();
    proxy.lead_to(address(&new_primary));
    let other = super::connect(&new_primary.url()).await;
    apply(&other, &key, &end(now())).await;
    // First the connection that tells of changes is made anew,
    let _: u64 = old.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait_for("it is told by the new primary", async || {
        listening(&new_primary) == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // then something is loaded, still from the old one,
    assert_eq!(state(&one, &key).await, State::Live);
    // and then the other connection is made anew too.
    let _: u64 = old.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let over = State::Ended(Ended::Revoked);
    wait_for("without a cache the end is seen", async || {
        state(&plain, &key).await == over
    })
    .await;
    // When things are served from memory again, it is not what the old one had.
    let another = create(&other, now(), &[]).await;
    warm(&new_primary, &one, &another).await;
    assert_eq!(state(&one, &key).await, over);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_the_primary_no_more_proves_nothing() {
    let Some(old) = RedisServer::start(&[]) else {
        return;
    };
    let new_primary = old.replica();
    let proxy = Proxy::open(address(&old));
    let store = RedisStore::connect(&format!("redis://{}", proxy.address())).await;
    let one = CachedStore::new(store.expect("it answers")).expect("it tells of changes");
    let key = create(&one, now(), &[slot("n", "0")]).await;
    warm(&old, &one, &key).await;
    wait_for("the replica has it", async || {
        new_primary.command::<u64>(&["DBSIZE"]) == 1
    })
    .await;

    // The old primary is told that it is one no more, and never hears of the new one.
    new_primary.promote();
    proxy.lead_to(address(&new_primary));
    let () = old.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let other = super::connect(&new_primary.url()).await;
    apply(&other, &key, &end(now())).await;
    wait_for("the end is seen", async || {
        state(&one, &key).await == State::Ended(Ended::Revoked)
    })
    .await;
}

#[tokio::test]
async fn a_user_who_may_not_listen_is_served_by_the_server() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let () = server.command(&[
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">pass",
        "~*",
        "+@all",
        "-client|tracking",
    ]);
    let one = instance(&format!("redis://app:pass@127.0.0.1:{}", server.port())).await;
    let other = instance(&server.url()).await;
    let key = create(&one, now(), &[slot("n", "0")]).await;
    for n in 1..=20 {
        increment(&other, &key, now()).await;
        assert_eq!(value(&one, &key).await, n);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_the_docs_have_a_user_allowed_besides_is_all_that_is_needed() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let mut user = vec![
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">pass",
        "~*",
        "resetchannels",
        "&beat:*",
    ];
    user.extend(super::open::documented_acl());
    user.extend(super::open::quoted_after("Its user needs "));
    let () = server.command(&user);
    let url = format!("redis://app:pass@127.0.0.1:{}", server.port());
    let store = instance(&url).await;
    let key = create(&store, now(), &[]).await;
    warm(&server, &store, &key).await;
}

#[tokio::test]
async fn the_budget_is_kept() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = instance(&server.url()).await.with_capacity_bytes(1 << 20);
    let mut keys = Vec::new();
    for _ in 0..100 {
        keys.push(create(&store, now(), &[slot("a", vec![b'x'; 32 << 10])]).await);
    }
    warm(&server, &store, &keys[0]).await;
    for key in &keys {
        apply(&store, key, &update(now(), [new("b", "1")])).await;
        assert!(store.load(key).await.unwrap().is_some());
    }
    let debug = format!("{store:?}");
    let (_, used) = debug.split_once("used_bytes: ").expect("it tells");
    let used: usize = used.split(',').next().unwrap().parse().expect("a number");
    assert!((1 << 19..=1 << 20).contains(&used), "{used}");
}

#[tokio::test]
async fn a_cluster_is_not_cached() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    let error = CachedStore::new(cluster.store().await).expect_err("nobody tells");
    assert!(error.to_string().contains("without a cache"), "{error}");
}
