//! The owner index: exact, though no commit but a login's writes it.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::{RedisStore, Store};
use session_runtime::testing::TestClock;
use session_runtime::{
    Change, Clock, Committed, Expiry, Key, Kind, SessionId, SessionLayer, SlotChange, Timestamp,
    UserId,
};
use session_tests::{RedisCluster, RedisServer};

use super::common::{apply, creation, end, session_key, slot, update};
use super::{now, successive_keys, wait_for};

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn login(store: &RedisStore, now: Timestamp, user: &UserId) -> Key {
    let key = session_key();
    let create = Change {
        owner: Some(user.clone()),
        ..creation(now, &[])
    };
    apply(store, &key, &create).await;
    key
}

/// How many entries a user's list has, those included whose session is over.
fn entries(server: &RedisServer, user: &str) -> usize {
    let keys: Vec<String> = server.command(&["KEYS", &format!("*owned:{{{user}}}")]);
    keys.iter()
        .map(|key| server.command::<usize>(&["ZCARD", key]))
        .sum()
}

/// Drops a record, as the server does with one that has lapsed.
fn drop_record(server: &RedisServer, key: &Key) {
    let names: Vec<String> = server.command(&["KEYS", &format!("*{key}")]);
    let dropped: usize = server.command(&["DEL", &names[0]]);
    assert_eq!(dropped, 1, "{names:?}");
}

#[tokio::test]
async fn a_login_takes_out_what_is_over_and_keeps_what_was_extended() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (store, clock) = (server.store().await, TestClock::new());
    let user = UserId::new("trimmed");
    // More than are looked at together.
    for _ in 0..100 {
        let lapsed = login(&store, clock.now(), &user).await;
        drop_record(server, &lapsed);
    }
    let extended = login(&store, clock.now(), &user).await;
    let longer = Change {
        expiry: Expiry::Extend(clock.now() + 9 * HOUR),
        ..update(clock.now(), [])
    };
    apply(&store, &extended, &longer).await;
    assert_eq!(
        store.owned_by(&user).await.unwrap(),
        std::slice::from_ref(&extended)
    );
    assert_eq!(entries(server, "trimmed"), 101);

    clock.advance(3 * HOUR);
    let newest = login(&store, clock.now(), &user).await;
    wait_for("what is over is taken out", async || {
        entries(server, "trimmed") == 2
    })
    .await;
    let mut listed = store.owned_by(&user).await.unwrap();
    let mut there = vec![extended, newest];
    listed.sort();
    there.sort();
    assert_eq!(listed, there);
}

/// Logs a user in, rotates the session and ends it, again and again.
async fn log_in_and_out(store: &RedisStore, nodes: &[RedisServer]) {
    let (clock, user) = (TestClock::new(), UserId::new("in and out"));
    let listed = || -> usize { nodes.iter().map(|node| entries(node, "in and out")).sum() };
    for _ in 0..10 {
        let [from, to] = successive_keys();
        let create = Change {
            owner: Some(user.clone()),
            ..creation(clock.now(), &[])
        };
        apply(store, &from, &create).await;
        let rotation = Change::new(Kind::Move(to.clone(), clock.now() + HOUR), clock.now());
        apply(store, &from, &rotation).await;
        wait_for("the list has it once", async || listed() == 1).await;
        assert_eq!(
            store.owned_by(&user).await.unwrap(),
            std::slice::from_ref(&to)
        );
        apply(store, &to, &end(clock.now())).await;
        wait_for("the list has nothing", async || listed() == 0).await;
    }
}

#[tokio::test]
async fn what_has_moved_or_ended_is_listed_no_more() {
    if let Some(server) = RedisServer::shared() {
        log_in_and_out(&server.store().await, std::slice::from_ref(server)).await;
    }
}

#[tokio::test]
async fn on_a_cluster_what_has_moved_or_ended_is_listed_no_more() {
    if let Some(cluster) = RedisCluster::shared() {
        log_in_and_out(&cluster.store().await, cluster.nodes()).await;
    }
}

#[tokio::test]
async fn of_a_user_who_was_deleted_no_list_is_left() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (store, user) = (server.store().await, UserId::new("deleted"));
    let account = Key::User(user.clone());
    apply(&store, &account, &creation(now(), &[])).await;
    // A session that nobody has looked at since it lapsed.
    let yesterday = Timestamp::from_millis(now().as_millis() - 24 * 60 * 60 * 1_000);
    drop_record(server, &login(&store, yesterday, &user).await);
    assert_eq!(entries(server, "deleted"), 1);
    let layer = SessionLayer::new(store);
    layer.sessions().delete(&user).await.expect("an answer");
    wait_for("nothing is listed", async || {
        entries(server, "deleted") == 0
    })
    .await;
}

#[tokio::test]
async fn on_a_cluster_a_session_is_listed_before_it_is_there() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    let (store, clock) = (cluster.store().await, TestClock::new());
    let user = UserId::new("early");
    let key = login(&store, clock.now(), &user).await;
    // As a create that found its key taken leaves it: listed, and of nobody.
    let taken = Change {
        owner: Some(UserId::new("late")),
        ..creation(clock.now(), &[])
    };
    let answer = store.commit(&key, &taken).await.unwrap();
    assert_eq!(answer, Committed::Exists);
    let listed: usize = cluster
        .nodes()
        .iter()
        .map(|node| entries(node, "late"))
        .sum();
    assert_eq!(listed, 1, "it was listed first");
    assert_eq!(store.owned_by(&UserId::new("late")).await.unwrap(), []);
    assert_eq!(store.owned_by(&user).await.unwrap(), [key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_rotates_is_listed_at_every_moment() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (store, clock) = (server.store().await, TestClock::new());
    let user = UserId::new("rotating");
    let id = SessionId::generate().expect("random bytes");
    let mut key = Key::from(&id);
    let create = Change {
        owner: Some(user.clone()),
        ..creation(clock.now(), &[])
    };
    apply(&store, &key, &create).await;
    let rotating = tokio::spawn({
        let (store, clock) = (store.clone(), clock.clone());
        async move {
            for _ in 0..300 {
                let next = Key::from(&id.successor().expect("random bytes"));
                let kind = Kind::Move(next.clone(), clock.now() + HOUR);
                apply(&store, &key, &Change::new(kind, clock.now())).await;
                key = next;
            }
        }
    });
    while !rotating.is_finished() {
        assert!(!store.owned_by(&user).await.unwrap().is_empty());
    }
    rotating.await.expect("it rotates to the end");
    assert_eq!(store.owned_by(&user).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_a_session_that_rotates_is_listed_at_every_moment() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let (store, clock) = (cluster.store().await, TestClock::new());
    let node_of = |name: &str| {
        let slot: usize = cluster.nodes()[0].command(&["CLUSTER", "KEYSLOT", name]);
        (0..3)
            .find(|n| slot < (n + 1) * 16_384 / 3)
            .expect("a node")
    };
    let user = UserId::new("rotating");
    // Others of the user's sessions lie on a node that will be slow; this one and the list do not.
    let slow = (node_of("owned:{rotating}") + 1) % 3;
    let id_on = |is_slow: bool| {
        iter::repeat_with(|| SessionId::generate().expect("random bytes"))
            .find(|id| (node_of(&Key::from(id).to_string()) == slow) == is_slow)
            .expect("one of them")
    };
    let owned = |lifetime| Change {
        owner: Some(user.clone()),
        expiry: Expiry::Set(clock.now() + lifetime),
        ..creation(clock.now(), &[])
    };
    // As many as are asked about at a time.
    for _ in 0..128 {
        apply(&store, &Key::from(&id_on(true)), &owned(HOUR)).await;
    }
    let id = id_on(false);
    let (key, next) = (
        Key::from(&id),
        Key::from(&id.successor().expect("random bytes")),
    );
    apply(&store, &key, &owned(2 * HOUR)).await;
    let rotation = || Change::new(Kind::Move(next.clone(), clock.now() + HOUR), clock.now());
    // A rotation has listed the new key, and got no further: it conflicts, and is to be tried again.
    let early = Change {
        owner: Some(user.clone()),
        slots: vec![SlotChange::drop(Arc::new(slot("absent", "1")))],
        ..rotation()
    };
    let answer = store.commit(&key, &early).await.expect("an answer");
    assert!(matches!(answer, Committed::Conflict(_)), "{answer:?}");

    cluster.nodes()[slow].freeze();
    let listing = tokio::spawn({
        let (store, user) = (store.clone(), user.clone());
        async move { store.owned_by(&user).await.expect("an answer") }
    });
    // It has asked about the new key, which is not there, and not yet about the old one.
    tokio::time::sleep(Duration::from_millis(400)).await;
    apply(&store, &key, &rotation()).await;
    cluster.nodes()[slow].thaw();
    let listed = listing.await.expect("it ends");
    assert_eq!(listed.len(), 129, "the others, and this one");
    assert!(listed.contains(&next), "under its new key");
}
