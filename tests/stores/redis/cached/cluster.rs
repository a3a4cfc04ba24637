//! The near cache on a Cluster: each primary tells of its own, and slots move among them.

use std::time::{Duration, Instant};

use session_runtime::Key;
use session_runtime::store::{CachedStore, RedisStore, Store};
use session_tests::{PATIENCE, RedisCluster, RedisServer, wait_for};

use super::super::cluster::Migration;
use super::super::{create, increment, next, number, repeat, slot};
use super::{Cached, end, hang_up, is_over, listening, value, warm_on};

/// An instance of an app.
async fn instance(cluster: &RedisCluster) -> Cached {
    let urls: Vec<_> = cluster.nodes().iter().map(RedisServer::url).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let store = RedisStore::options()
        .timeout(PATIENCE)
        .connect_cluster(&urls)
        .await;
    CachedStore::new(store.expect("it answers")).expect("it tells of changes")
}

/// Records until each node has one, by where they are.
async fn on_each_node(cluster: &RedisCluster, store: &Cached) -> Vec<Key> {
    let mut keys = Vec::new();
    for node in cluster.nodes() {
        let before = node.command::<usize>(&["DBSIZE"]);
        while node.command::<usize>(&["DBSIZE"]) == before {
            keys.push(create(store, [slot("n", "0")]).await.0);
        }
    }
    keys
}

fn all(cluster: &RedisCluster) -> Vec<&RedisServer> {
    cluster.nodes().iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_any_node_changes_is_told() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let (one, other) = (instance(&cluster).await, instance(&cluster).await);
    for key in on_each_node(&cluster, &one).await {
        warm_on(&all(&cluster), &one, &key).await;
        increment(&other, &key).await;
        wait_for("the change is told", async || value(&one, &key).await == 1).await;
        warm_on(&all(&cluster), &one, &key).await;
        end(&other, &key).await;
        wait_for("so is the end", async || is_over(&one, &key).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_node_does_not_tell_nothing_is_served_from_memory() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let (one, other) = (instance(&cluster).await, instance(&cluster).await);
    let one = one.with_staleness(Duration::from_secs(3_600));
    for key in on_each_node(&cluster, &one).await {
        for node in cluster.nodes() {
            warm_on(&all(&cluster), &one, &key).await;
            let seen = value(&one, &key).await;
            hang_up(node);
            increment(&other, &key).await;
            wait_for("the change is seen", async || {
                value(&one, &key).await == seen + 1
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_moved_to_a_node_that_joined_is_told() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let (one, other) = (instance(&cluster).await, instance(&cluster).await);
    let (key, _) = create(&one, [slot("n", "0")]).await;
    let has = |node: &&RedisServer| node.command::<usize>(&["DBSIZE"]) == 1;
    let from = cluster.nodes().iter().find(has).expect("one has it");
    for instance in [&one, &other] {
        warm_on(&all(&cluster), instance, &key).await;
    }
    let joined = cluster.join();
    let name = key.to_string();
    let migration = Migration {
        slot: from
            .command::<u16>(&["CLUSTER", "KEYSLOT", &name])
            .to_string(),
        from,
        to: &joined,
    };
    let nodes: Vec<_> = cluster.nodes().iter().chain([&joined]).collect();
    wait_for("the new node tells, too", async || {
        listening(&joined).len() == 2
    })
    .await;
    let mut counted = 0;
    let mut is_told = async || {
        warm_on(&nodes, &one, &key).await;
        increment(&other, &key).await;
        counted += 1;
        wait_for("the change is told", async || {
            value(&one, &key).await == counted
        })
        .await;
    };
    is_told().await;
    migration.begin();
    is_told().await;
    migration.migrate(&name);
    is_told().await;
    migration.end();
    for node in cluster.nodes() {
        wait_for("all know where it is", async || {
            let id: String = joined.command(&["CLUSTER", "MYID"]);
            let nodes: String = node.command(&["CLUSTER", "NODES"]);
            let line = nodes.lines().find(|line| line.starts_with(&id));
            line.is_some_and(|line| line.ends_with(&format!(" {}", migration.slot)))
        })
        .await;
    }
    is_told().await;
}

/// Adds one to slot `n` while the Cluster may be down.
async fn insist(store: &Cached, key: &Key) {
    let mut before = None;
    wait_for("there is a primary", async || {
        before = store.load_latest(key).await.unwrap_or_default();
        before.is_some()
    })
    .await;
    let before = before.expect("a record");
    let n = number(&before) + 1;
    let after = next(&before, [slot("n", n.to_string())]);
    repeat(store, key, Some(&before), &after).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_successor_of_a_node_changes_is_told() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let first = &cluster.nodes()[0];
    let second = cluster.replica_of(first);
    let nodes: Vec<_> = cluster.nodes().iter().chain([&second]).collect();
    let (one, other) = (instance(&cluster).await, instance(&cluster).await);
    let keys = on_each_node(&cluster, &one).await;
    let mut counted = 0;
    let mut is_told = async |nodes: &[&RedisServer]| {
        counted += 1;
        for key in &keys {
            insist(&other, key).await;
            wait_for("the change is seen", async || {
                let found = one.load(key).await.unwrap_or_default();
                found.is_some_and(|found| number(&found) == counted)
            })
            .await;
            warm_on(nodes, &one, key).await;
        }
    };
    is_told(&nodes).await;
    // As an operator has it, and the former primary goes on as a replica.
    let mut asked: Option<Instant> = None;
    wait_for("it is the primary", async || {
        // What takes five seconds is given up, and each that is asked for begins anew.
        if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(6)) {
            asked = Some(Instant::now());
            drop(second.try_command::<()>(&["CLUSTER", "FAILOVER"]));
        }
        second
            .command::<String>(&["INFO", "replication"])
            .contains("role:master")
    })
    .await;
    is_told(&nodes).await;
    // And as it is when one dies.
    wait_for("the other has caught up", async || {
        let info: String = first.command(&["INFO", "replication"]);
        info.contains("master_link_status:up")
    })
    .await;
    let id: String = second.command(&["CLUSTER", "MYID"]);
    second.kill();
    let () = first.command(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    for node in cluster.nodes() {
        // It is long until they find out by themselves.
        let () = node.command(&["CLUSTER", "FORGET", &id]);
    }
    is_told(&all(&cluster)).await;
}

#[tokio::test]
async fn what_the_docs_have_a_user_allowed_besides_is_all_that_is_needed_on_a_cluster() {
    let Some(cluster) = RedisCluster::start() else {
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
    user.extend(super::super::open::documented_acl());
    for text in [
        "On each node of a Cluster ",
        "Its user needs ",
        "and on a Cluster ",
    ] {
        user.extend(super::super::open::quoted_after(text));
    }
    let mut urls = Vec::new();
    for node in cluster.nodes() {
        let () = node.command(&user);
        urls.push(node.url().replace("redis://", "redis://app:pass@"));
    }
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let store = RedisStore::options()
        .timeout(PATIENCE)
        .connect_cluster(&urls)
        .await;
    let store = CachedStore::new(store.expect("it is let in")).expect("it tells of changes");
    let (key, _) = create(&store, []).await;
    warm_on(&all(&cluster), &store, &key).await;
    store.load_latest(&key).await.expect("an answer");
    for node in cluster.nodes() {
        assert_eq!(super::super::open::denied(node), Vec::<String>::new());
    }
}
