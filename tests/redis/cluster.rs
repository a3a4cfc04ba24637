//! A Cluster whose slots move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use session_runtime::store::{RedisStore, Store};
use session_runtime::{Change, Committed, Kind, SlotChange, State, UserId};
use session_tests::{RedisCluster, RedisServer};

use super::common::{creation, number, slot, update};
use super::faults::repeat;
use super::{now, successive_keys, wait_for};

/// A slot on its way from one node to another.
struct Migration<'a> {
    slot: String,
    from: &'a RedisServer,
    to: &'a RedisServer,
}

impl<'a> Migration<'a> {
    /// Of the slot of the only key that there is, to another node; and what the key is called.
    fn of_the_only_key(cluster: &'a RedisCluster) -> (Self, String) {
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

    fn begin(&self) {
        let [from, to] =
            [self.from, self.to].map(|node| node.command::<String>(&["CLUSTER", "MYID"]));
        let () = self
            .to
            .command(&["CLUSTER", "SETSLOT", &self.slot, "IMPORTING", &from]);
        let () = self
            .from
            .command(&["CLUSTER", "SETSLOT", &self.slot, "MIGRATING", &to]);
    }

    fn migrate(&self, key: &str) {
        let port = self.to.port().to_string();
        let () = self
            .from
            .command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }

    fn keys(&self) -> Vec<String> {
        self.from
            .command(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "100"])
    }

    fn end(&self) {
        let to: String = self.to.command(&["CLUSTER", "MYID"]);
        for node in [self.to, self.from] {
            let () = node.command(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &to]);
        }
    }
}

/// Adds one to slot `n` again and again, wherever the record is by then, and says how often.
async fn count(store: RedisStore, key: session_runtime::Key, stop: Arc<AtomicBool>) -> usize {
    let mut counted = 0;
    let mut base = Arc::new(slot("n", "0"));
    while !stop.load(Ordering::SeqCst) {
        let next = Arc::new(slot("n", (counted + 1).to_string()));
        let change = update(now(), [SlotChange::set(Some(base), Arc::clone(&next))]);
        assert_eq!(repeat(&store, &key, &change).await, Committed::Applied);
        (base, counted) = (next, counted + 1);
    }
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_among_commits_loses_none() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = cluster.store().await;
    let keys = successive_keys::<8>();
    for key in &keys {
        let create = creation(now(), &[slot("n", "0")]);
        assert_eq!(repeat(&store, key, &create).await, Committed::Applied);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let counting = keys
        .clone()
        .map(|key| tokio::spawn(count(store.clone(), key, Arc::clone(&stop))));

    let name = {
        let names: Vec<Vec<String>> = cluster
            .nodes()
            .iter()
            .map(|node| node.command(&["KEYS", "*"]))
            .collect();
        names.concat().pop().expect("a key")
    };
    let slot: u16 = cluster.nodes()[0].command(&["CLUSTER", "KEYSLOT", &name]);
    let from = cluster
        .nodes()
        .iter()
        .position(|node| !node.command::<Vec<String>>(&["KEYS", "*"]).is_empty());
    let from = from.expect("its node");
    for n in 0..4 {
        let migration = Migration {
            slot: slot.to_string(),
            from: &cluster.nodes()[(from + n) % 3],
            to: &cluster.nodes()[(from + n + 1) % 3],
        };
        migration.begin();
        let moving = migration.keys();
        assert_eq!(moving.len(), keys.len());
        for key in &moving {
            migration.migrate(key);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        migration.end();
    }
    stop.store(true, Ordering::SeqCst);
    for (key, counting) in keys.iter().zip(counting) {
        let counted = counting.await.expect("it counts to the end");
        let record = store.load(key).await.unwrap().unwrap();
        assert!(counted > 0);
        assert_eq!(record.slot("n").map(|slot| number(slot)), Some(counted));
    }
}

#[tokio::test]
async fn a_rotation_waits_for_a_slot_that_is_on_its_way() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = cluster.store().await;
    let [key, to] = successive_keys();
    let create = creation(now(), &[slot("n", "1")]);
    assert_eq!(repeat(&store, &key, &create).await, Committed::Applied);
    let (migration, name) = Migration::of_the_only_key(&cluster);
    migration.begin();
    // One key is here and one will be there: the Cluster can run no script on both.
    let rotate = Change::new(Kind::Move(to.clone(), now() + super::common::TTL), now());
    let error = store.commit(&key, &rotate).await.expect_err("TRYAGAIN");
    assert!(error.is_transient(), "{error:?}");
    migration.migrate(&name);
    migration.end();
    assert_eq!(repeat(&store, &key, &rotate).await, Committed::Applied);
    let left = store.load(&key).await.unwrap().unwrap();
    assert_eq!(left.state, State::Moved(to.clone()));
    assert_eq!(store.load(&to).await.unwrap().unwrap().slots().len(), 1);

    // A Cluster that lacks a slot answers nothing, and goes on when it has it.
    let () = migration
        .to
        .command(&["CLUSTER", "DELSLOTS", &migration.slot]);
    let mut down = false;
    wait_for("the Cluster is down", async || {
        if let Err(error) = store.load(&to).await {
            assert!(error.is_transient(), "{error:?}");
            down = true;
        }
        down
    })
    .await;
    let () = migration
        .to
        .command(&["CLUSTER", "ADDSLOTS", &migration.slot]);
    wait_for("it is up again", async || store.load(&to).await.is_ok()).await;
}

#[tokio::test]
async fn a_node_that_was_away_is_found_again() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = cluster.store().await;
    let node = &cluster.nodes()[1];
    let mut keys = Vec::new();
    // A key's id decides which node has it.
    while node.command::<usize>(&["DBSIZE"]) == 0 || keys.len() < 8 {
        keys.push(super::common::create(&store, now(), &[]).await);
    }
    node.kill();
    let mut failed = 0;
    for key in &keys {
        if let Err(error) = store.load(key).await {
            assert!(error.is_transient(), "{error:?}");
            failed += 1;
        }
    }
    assert!(failed > 0, "what that node has is away");
    node.restart();
    for key in &keys {
        wait_for("it answers again", async || store.load(key).await.is_ok()).await;
        // What it held is lost, since it keeps nothing on its disk.
        let created = repeat(&store, key, &creation(now(), &[])).await;
        assert!(matches!(created, Committed::Applied | Committed::Exists));
    }
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
    let options = RedisStore::options().timeout(Duration::from_secs(20));
    let store = options.connect_cluster(&urls).await.expect("it is let in");
    let key = super::common::create(&store, now(), &[]).await;

    // One that has gone to another node while its slot has yet to follow.
    let (migration, name) = Migration::of_the_only_key(&cluster);
    migration.begin();
    migration.migrate(&name);
    let ada = UserId::new("ada");
    let owned = Change {
        owner: Some(ada.clone()),
        ..update(now(), [])
    };
    assert_eq!(repeat(&store, &key, &owned).await, Committed::Applied);
    migration.end();
    assert_eq!(
        store.owned_by(&ada).await.unwrap(),
        std::slice::from_ref(&key)
    );
    let end = super::common::end(now());
    assert_eq!(repeat(&store, &key, &end).await, Committed::Applied);
    wait_for(
        "the list is gone, and only the session's end is left",
        async || {
            let nodes = cluster.nodes().iter();
            nodes
                .map(|node| node.command::<u64>(&["DBSIZE"]))
                .sum::<u64>()
                == 1
        },
    )
    .await;
    for node in cluster.nodes() {
        assert_eq!(super::open::denied(node), Vec::<String>::new());
    }
}
