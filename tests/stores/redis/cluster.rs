//! A Cluster whose slots move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use session_runtime::Key;
use session_runtime::store::{Record, RedisStore, Store};
use session_tests::{PATIENCE, RedisCluster, RedisServer, wait_for};

use super::{
    create, load, next, number, passing, put, record, repeat, session_key, slot, tombstone,
};

/// A slot on its way from one node to another.
pub(super) struct Migration<'a> {
    pub(super) slot: String,
    pub(super) from: &'a RedisServer,
    pub(super) to: &'a RedisServer,
}

impl<'a> Migration<'a> {
    /// Of the slot of one of the keys that there are, to another node; and what the key is called.
    fn of_a_key(cluster: &'a RedisCluster) -> (Self, String) {
        let nodes = cluster.nodes();
        let keys = |node: &RedisServer| node.command::<Vec<String>>(&["KEYS", "*"]);
        let from = nodes.iter().position(|node| !keys(node).is_empty());
        let from = from.expect("its node");
        let name = keys(&nodes[from]).pop().expect("a key");
        let slot: u16 = nodes[from].command(&["CLUSTER", "KEYSLOT", &name]);
        let migration = Self {
            slot: slot.to_string(),
            from: &nodes[from],
            to: &nodes[(from + 1) % 3],
        };
        (migration, name)
    }

    pub(super) fn begin(&self) {
        let [from, to] =
            [self.from, self.to].map(|node| node.command::<String>(&["CLUSTER", "MYID"]));
        let () = self
            .to
            .command(&["CLUSTER", "SETSLOT", &self.slot, "IMPORTING", &from]);
        let () = self
            .from
            .command(&["CLUSTER", "SETSLOT", &self.slot, "MIGRATING", &to]);
    }

    pub(super) fn migrate(&self, key: &str) {
        let port = self.to.port().to_string();
        let patience = PATIENCE.as_millis().to_string();
        let () = self
            .from
            .command(&["MIGRATE", "127.0.0.1", &port, key, "0", &patience]);
    }

    fn keys(&self) -> Vec<String> {
        self.from
            .command(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "100"])
    }

    pub(super) fn end(&self) {
        let to: String = self.to.command(&["CLUSTER", "MYID"]);
        for node in [self.to, self.from] {
            let () = node.command(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &to]);
        }
    }
}

/// Adds one to slot `n` again and again, wherever the record is by then, and says how often.
#[derive(Clone, Default)]
struct Counter {
    counted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Counter {
    async fn run(self, store: RedisStore, key: Key, mut before: Arc<Record>) -> usize {
        while !self.stop.load(Ordering::SeqCst) {
            let after = next(&before, [slot("n", (self.counted() + 1).to_string())]);
            repeat(&store, &key, Some(&before), &after).await;
            self.counted.fetch_add(1, Ordering::SeqCst);
            before = after;
        }
        self.counted()
    }

    fn counted(&self) -> usize {
        self.counted.load(Ordering::SeqCst)
    }
}

/// Waits until each has counted on.
async fn all_go_on(counters: &[Counter]) {
    for counter in counters {
        let before = counter.counted();
        wait_for("it counts on", async || counter.counted() > before).await;
    }
}

/// A store whose records all lie in one slot.
async fn in_one_slot(cluster: &RedisCluster) -> RedisStore {
    let urls: Vec<_> = cluster.nodes().iter().map(RedisServer::url).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let options = RedisStore::options().prefix("{shop}:");
    let options = options.timeout(PATIENCE);
    options.connect_cluster(&urls).await.expect("it answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_among_swaps_loses_none() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = in_one_slot(&cluster).await;
    let mut counting = Vec::new();
    for _ in 0..8 {
        let (key, created) = create(&store, [slot("n", "0")]).await;
        let counter = Counter::default();
        let run = counter.clone().run(store.clone(), key.clone(), created);
        counting.push((key, counter, tokio::spawn(run)));
    }
    let counters: Vec<_> = counting
        .iter()
        .map(|(_, counter, _)| counter.clone())
        .collect();
    let (mut migration, _) = Migration::of_a_key(&cluster);
    for n in 0..4 {
        migration.begin();
        let moving = migration.keys();
        assert_eq!(moving.len(), counters.len());
        for key in &moving {
            migration.migrate(key);
            all_go_on(&counters).await;
        }
        migration.end();
        let to = migration.to;
        let nodes = cluster.nodes().iter();
        let next = nodes.filter(|node| node.port() != to.port()).nth(n % 2);
        (migration.from, migration.to) = (to, next.expect("three nodes"));
    }
    for (key, counter, run) in counting {
        counter.stop.store(true, Ordering::SeqCst);
        let last = run.await.expect("it counts to the end");
        assert_eq!(number(&load(&store, &key).await), last);
    }
}

#[tokio::test]
async fn a_slot_that_is_lacking_is_waited_for() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = cluster.store().await;
    let (key, created) = create(&store, [slot("n", "1")]).await;
    let (migration, _) = Migration::of_a_key(&cluster);
    // A Cluster that lacks a slot answers nothing, and goes on when it has it.
    let () = migration
        .from
        .command(&["CLUSTER", "DELSLOTS", &migration.slot]);
    let mut down = false;
    wait_for("the Cluster is down", async || {
        if let Err(error) = store.load(&key).await {
            passing(&error);
            down = true;
        }
        down
    })
    .await;
    let () = migration
        .from
        .command(&["CLUSTER", "ADDSLOTS", &migration.slot]);
    wait_for("it is up again", async || store.load(&key).await.is_ok()).await;
    let after = next(&created, [slot("n", "2")]);
    repeat(&store, &key, Some(&created), &after).await;
}

#[tokio::test]
async fn a_node_that_was_away_is_found_again() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = cluster.store().await;
    let node = &cluster.nodes()[1];
    let mut keys = Vec::new();
    // A key's name decides which node has it.
    while node.command::<usize>(&["DBSIZE"]) == 0 || keys.len() < 8 {
        keys.push(create(&store, []).await.0);
    }
    node.kill();
    let mut failed = 0;
    for key in &keys {
        if let Err(error) = store.load(key).await {
            passing(&error);
            failed += 1;
        }
    }
    assert!(failed > 0, "what that node has is away");
    node.restart();
    for key in &keys {
        wait_for("it answers again", async || store.load(key).await.is_ok()).await;
        // What it held is lost, since it keeps nothing on its disk.
        if store.load(key).await.unwrap().is_none() {
            repeat(&store, key, None, &record([])).await;
        }
        assert!(store.load(key).await.unwrap().is_some());
    }
}

/// Returns `true` if a script has come and waits until it may write.
fn is_waiting(node: &RedisServer) -> bool {
    let clients: String = node.command(&["CLIENT", "LIST"]);
    let mut clients = clients.lines();
    clients.any(|client| client.contains("flags=b") && client.contains("cmd=evalsha"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_whose_connection_breaks_on_a_cluster_is_not_repeated_unseen() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = cluster.store().await;
    let (key, before) = create(&store, [slot("n", "0")]).await;
    let node = Migration::of_a_key(&cluster).0.from;
    let after = next(&before, [slot("n", "1")]);
    let () = node.command(&["CLIENT", "PAUSE", "1000000", "WRITE"]);
    let swap = {
        let (store, key, before, after) =
            (store.clone(), key.clone(), before.clone(), after.clone());
        tokio::spawn(async move { store.swap(&key, Some(&before), &after).await })
    };
    wait_for("it has come", async || is_waiting(node)).await;
    let _: u64 = node.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait_for("it is answered", async || {
        assert!(!is_waiting(node), "it has come again");
        swap.is_finished()
    })
    .await;
    let error = swap.await.unwrap().expect_err("nobody knows");
    assert!(error.is_unknown(), "{error:?}");
    let () = node.command(&["CLIENT", "UNPAUSE"]);
    repeat(&store, &key, Some(&before), &after).await;
}

#[tokio::test]
async fn what_the_docs_have_a_user_allowed_on_a_cluster_is_all_that_is_needed() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let mut user = vec!["ACL", "SETUSER", "app", "on", ">pass", "~*"];
    user.extend(super::open::documented_acl());
    user.extend(super::open::quoted_after("On each node of a Cluster "));
    let mut urls = Vec::new();
    for node in cluster.nodes() {
        let () = node.command(&user);
        urls.push(node.url().replace("redis://", "redis://app:pass@"));
    }
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let options = RedisStore::options().timeout(PATIENCE);
    let store = options.connect_cluster(&urls).await.expect("it is let in");
    let (key, created) = create(&store, []).await;

    // One that has gone to another node while its slot has yet to follow.
    let (migration, name) = Migration::of_a_key(&cluster);
    migration.begin();
    migration.migrate(&name);
    let changed = next(&created, [slot("a", "1")]);
    repeat(&store, &key, Some(&created), &changed).await;
    assert_eq!(load(&store, &key).await, changed);
    migration.end();
    let ended = tombstone(&changed);
    repeat(&store, &key, Some(&changed), &ended).await;
    put(&store, &session_key(), None, &record([])).await;
    for node in cluster.nodes() {
        assert_eq!(super::open::denied(node), Vec::<String>::new());
    }
}
