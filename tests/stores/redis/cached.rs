//! The near cache: what it saves, and how old what it serves may be.

mod cluster;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::aio::ConnectionManagerConfig;
use tokio::time::timeout;

use session_runtime::Key;
use session_runtime::store::{CachedStore, RedisStore, Store, Swapped};
use session_tests::{Proxy, RedisCluster, RedisSentinels, RedisServer, Tries, Wire, wait_for};

use super::{calls, create, increment, load, next, number, passing, put, slot, tombstone};

type Cached = CachedStore<RedisStore>;

/// Another instance of an app.
async fn instance(url: &str) -> Cached {
    CachedStore::new(super::connect(url).await).expect("it tells of changes")
}

/// Counts how often something was loaded.
fn loads(server: &RedisServer) -> u64 {
    calls(server, "hgetall")
}

fn address(server: &RedisServer) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))
}

/// The connections that are told of changes.
fn listening(server: &RedisServer) -> Vec<String> {
    let clients: String = server.command(&["CLIENT", "LIST"]);
    let clients = clients
        .lines()
        .filter(|client| client.contains(" flags=tB "));
    let ids = clients.filter_map(|client| client.strip_prefix("id=")?.split(' ').next());
    ids.map(str::to_owned).collect()
}

/// Breaks the connections that are told of changes.
fn hang_up(server: &RedisServer) {
    for id in listening(server) {
        let _: u64 = server.command(&["CLIENT", "KILL", "ID", &id]);
    }
}

/// Waits until the record is served without the server being asked.
pub(super) async fn warm(server: &RedisServer, store: &Cached, key: &Key) {
    warm_on(&[server], store, key).await;
}

/// The same where one of several servers has it.
pub(super) async fn warm_on(servers: &[&RedisServer], store: &Cached, key: &Key) {
    wait_for("it is served from memory", async || {
        let loads = || servers.iter().map(|server| loads(server)).sum::<u64>();
        let before = loads();
        for _ in 0..3 {
            match store.load(key).await {
                Ok(found) => assert!(found.is_some(), "a record"),
                Err(error) => passing(&error),
            }
        }
        loads() == before
    })
    .await;
}

async fn is_over(store: &impl Store, key: &Key) -> bool {
    load(store, key).await.ended().is_some()
}

async fn value(store: &impl Store, key: &Key) -> usize {
    number(&load(store, key).await)
}

/// Revokes a session.
async fn end(store: &impl Store, key: &Key) {
    let before = load(store, key).await;
    put(store, key, Some(&before), &tombstone(&before)).await;
}

#[tokio::test]
async fn what_has_not_changed_is_read_without_a_round_trip() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (one, other) = (instance(&server.url()).await, instance(&server.url()).await);
    let (key, _) = create(&one, [slot("n", "0")]).await;
    warm(&server, &one, &key).await;
    warm(&server, &other, &key).await;

    increment(&other, &key).await;
    wait_for("the change is told", async || value(&one, &key).await == 1).await;
    warm(&server, &one, &key).await;
    assert_eq!(value(&one, &key).await, 1);

    end(&other, &key).await;
    wait_for("so is the end", async || is_over(&one, &key).await).await;
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
    let (key, mut before) = create(&store, [slot("n", "0")]).await;
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
        let after = next(&before, [slot("n", (n + 1).to_string())]);
        put(&store, &key, Some(&before), &after).await;
        assert_eq!(value(&store, &key).await, n + 1);
        before = after;
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
    let (key, _) = create(&one, [slot("n", "0")]).await;
    warm(&server, &one, &key).await;
    for round in 1..=50 {
        for _ in 0..10 {
            let (written, read) = tokio::join!(increment(&other, &key), value(&one, &key));
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
async fn times_may_be_as_long_as_a_duration_can_be() {
    let (Some(server), Some(sentinels), Some(cluster)) = (
        RedisServer::start(&[]),
        RedisSentinels::start(&[]),
        RedisCluster::start(),
    ) else {
        return;
    };
    let options = || RedisStore::options().timeout(Duration::MAX);
    let nodes: Vec<_> = cluster.nodes().iter().map(RedisServer::url).collect();
    let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
    for (store, servers) in [
        (options().connect(&server.url()).await, vec![&server]),
        (
            options().connect(&sentinels.url()).await,
            sentinels.servers().to_vec(),
        ),
        (
            options().connect_cluster(&nodes).await,
            cluster.nodes().iter().collect(),
        ),
    ] {
        let store = CachedStore::new(store.expect("an answer")).expect("it tells of changes");
        let store = store.with_staleness(Duration::MAX);
        let (key, _) = create(&store, [slot("n", "0")]).await;
        warm_on(&servers, &store, &key).await;
        increment(&store, &key).await;
        assert_eq!(value(&store, &key).await, 1);
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
    let (key, _) = create(&other, [slot("n", "0")]).await;
    let (tries, mut round, mut seen) = (Tries::begin(), 0, 0);
    while seen < 2 {
        // A machine that stands still for so long serves nothing from memory, but not each time.
        tries.go_on(round);
        warm(&server, &cut_off, &key).await;
        proxy.set(Wire::BlackHole);
        increment(&other, &key).await;
        let changed = Instant::now();
        let mut hits = 0;
        loop {
            let asked = Instant::now();
            // From memory at once, or not at all.
            let Ok(found) = timeout(Duration::from_millis(20), cut_off.load(&key)).await else {
                break;
            };
            let found = found.expect("an answer").expect("a record");
            assert_eq!(number(&found), round);
            assert!(asked < changed + staleness, "revocation comes too late");
            hits += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen += usize::from(hits > 0);
        proxy.set(Wire::Reset);
        proxy.set(Wire::Open);
        wait_for("the change is seen", async || {
            let found = cut_off.load(&key).await;
            found.is_ok_and(|found| number(&found.expect("it")) == round + 1)
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
    let (key, _) = create(&one, [slot("n", "0")]).await;
    warm(&server, &one, &key).await;

    // The connection that tells of changes is made anew, to a server that knows of none.
    proxy.lead_to(address(&stranger));
    hang_up(&server);
    wait_for("it is told by the stranger", async || {
        listening(&stranger).len() == 1
    })
    .await;
    for n in 1..=20 {
        increment(&other, &key).await;
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
    let (key, _) = create(&one, [slot("n", "0")]).await;
    warm(&old, &one, &key).await;
    wait_for("the replica has it", async || {
        new_primary.command::<u64>(&["DBSIZE"]) == 1
    })
    .await;

    // The address leads to the new primary, where somebody revokes. What is connected stays so.
    new_primary.promote();
    proxy.lead_to(address(&new_primary));
    let other = super::connect(&new_primary.url()).await;
    end(&other, &key).await;
    // First the connection that tells of changes is made anew,
    hang_up(&old);
    wait_for("it is told by the new primary", async || {
        listening(&new_primary).len() == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // then something is loaded, still from the old one,
    assert!(!is_over(&one, &key).await);
    // and then the other connection is made anew too.
    let _: u64 = old.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait_for("without a cache the end is seen", async || {
        is_over(&plain, &key).await
    })
    .await;
    // When things are served from memory again, it is not what the old one had.
    let (another, _) = create(&other, []).await;
    warm(&new_primary, &one, &another).await;
    assert!(is_over(&one, &key).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_the_primary_no_more_proves_nothing() {
    let Some(old) = RedisServer::start(&[]) else {
        return;
    };
    let new_primary = old.replica();
    let proxy = Proxy::open(address(&old));
    let one = instance(&format!("redis://{}", proxy.address())).await;
    let (key, _) = create(&one, [slot("n", "0")]).await;
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
    end(&other, &key).await;
    wait_for("the end is seen", async || is_over(&one, &key).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_is_never_read_from_memory_and_is_kept_there() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let proxy = Proxy::open(address(&server));
    let one = instance(&format!("redis://{}", proxy.address())).await;
    let one = one.with_staleness(Duration::from_secs(3_600));
    let other = instance(&server.url()).await;
    let (key, created) = create(&one, [slot("n", "0")]).await;
    warm(&server, &one, &key).await;
    for _ in 0..3 {
        let before = loads(&server);
        assert_eq!(one.load_latest(&key).await.unwrap(), Some(created.clone()));
        assert_eq!(loads(&server), before + 1);
        assert_eq!(load(&one, &key).await, created);
        assert_eq!(loads(&server), before + 1, "it is still here");
    }
    // A swap of what is not there any more learns so from the server.
    increment(&other, &key).await;
    let there = load(&other, &key).await;
    let late = next(&created, [slot("n", "late")]);
    let swapped = one.swap(&key, Some(&created), &late).await.unwrap();
    assert_eq!(swapped, Swapped::Stale(Some(there.clone())));
    assert_eq!(load(&one, &key).await, there, "what was here is forgotten");
    let () = server.command(&["DEL", &key.to_string()]);
    assert_eq!(one.load_latest(&key).await.unwrap(), None);
    assert_eq!(one.load(&key).await.unwrap(), None);
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
    let (key, _) = create(&one, [slot("n", "0")]).await;
    for n in 1..=20 {
        increment(&other, &key).await;
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
    ];
    user.extend(super::open::documented_acl());
    user.extend(super::open::quoted_after("Its user needs "));
    let () = server.command(&user);
    let url = format!("redis://app:pass@127.0.0.1:{}", server.port());
    let store = instance(&url).await;
    let (key, _) = create(&store, []).await;
    warm(&server, &store, &key).await;
}

#[tokio::test]
async fn the_budget_is_kept() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = instance(&server.url()).await.with_capacity_bytes(1 << 20);
    let mut created = Vec::new();
    for _ in 0..100 {
        created.push(create(&store, [slot("a", vec![b'x'; 32 << 10])]).await);
    }
    warm(&server, &store, &created[0].0).await;
    for (key, before) in &created {
        let after = next(before, [slot("b", "1")]);
        put(&store, key, Some(before), &after).await;
        assert_eq!(load(&store, key).await, after);
    }
    let debug = format!("{store:?}");
    let (_, used) = debug.split_once("used_bytes: ").expect("it tells");
    let used: usize = used.split(',').next().unwrap().parse().expect("a number");
    assert!((1 << 18..=1 << 20).contains(&used), "{used}");
}

#[tokio::test]
async fn a_connection_of_the_app_is_not_cached() {
    let client = redis::Client::open("redis://127.0.0.1").expect("a URL");
    let manager = client.get_connection_manager_lazy(ConnectionManagerConfig::new());
    let manager = manager.expect("it connects when it is used");
    let error = CachedStore::new(RedisStore::options().over(manager)).expect_err("nobody tells");
    assert!(error.to_string().contains("without a cache"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_what_the_former_primary_had_is_not_served() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let one = instance(&sentinels.url()).await;
    let [old, new_primary] = sentinels.servers();
    let (key, _) = create(&one, [slot("n", "0")]).await;
    warm(old, &one, &key).await;
    wait_for("the replica has it", async || {
        new_primary.command::<u64>(&["DBSIZE"]) == 1
    })
    .await;

    // The former primary goes on answering and telling, of nothing any more.
    new_primary.promote();
    sentinels.name(new_primary);
    let other = super::connect(&new_primary.url()).await;
    end(&other, &key).await;
    wait_for("the end is seen", async || is_over(&one, &key).await).await;
    let (another, _) = create(&other, [slot("n", "0")]).await;
    warm(new_primary, &one, &another).await;
    assert!(is_over(&one, &key).await);
    increment(&other, &another).await;
    wait_for("the new one tells", async || {
        value(&one, &another).await == 1
    })
    .await;
}
