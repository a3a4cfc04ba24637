//! A server that restarts, dies, refuses, or has transactions in each other's way.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use session_runtime::store::{PostgresStore, Store};
use session_runtime::{Change, Committed, Expiry, Key, Kind, Session, SessionLayer, SystemClock};
use session_tests::{Cut, PostgresServer, Proxy, Visitor, Wire, wait_for};
use tokio_postgres::Client;

use super::{
    HOUR, apply, create, creation, increment, insist, loaded, now, number, pause, session_key, set,
    slot, text_of, update,
};

/// Puts a function that does as `body` says in the place of the one that commits.
async fn replace_commit(client: &Client, schema: &str, body: &str) {
    let found = "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc
        WHERE proname = 'sessions_commit_v1' AND pronamespace = $1::text::regnamespace";
    let row = client.query_one(found, &[&schema]).await.unwrap();
    let (arguments, result): (String, String) = (row.get(0), row.get(1));
    let make = format!(
        "CREATE OR REPLACE FUNCTION {schema}.sessions_commit_v1({arguments}) RETURNS {result}
         LANGUAGE plpgsql AS $f$ BEGIN {body} END $f$"
    );
    client.batch_execute(&make).await.unwrap();
}

async fn store_in(server: &PostgresServer, schema: &str) -> PostgresStore {
    store_with(server, schema, "").await
}

/// The same, with parameters of the connection, as they stand in a URL.
async fn store_with(server: &PostgresServer, schema: &str, parameters: &str) -> PostgresStore {
    let options = server.options(SystemClock::default()).schema(schema);
    let url = server.url() + parameters;
    let store = options.connect(&url).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    store
}

#[tokio::test]
async fn each_refusal_is_what_it_is() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, store) = (server.client().await, store_in(server, "refusals").await);
    let (transient, full, definite) = ((true, false), (false, true), (false, false));
    let states = [
        ("40001", transient),
        ("40P01", transient),
        ("08006", transient),
        ("25006", transient),
        ("53200", transient),
        ("53300", transient),
        ("55P03", transient),
        ("57014", transient),
        ("57P01", transient),
        ("57P03", transient),
        ("58030", transient),
        ("53100", full),
        ("42501", definite),
        ("42703", definite),
        ("22000", definite),
        ("XX001", definite),
    ];
    for (state, kind) in states {
        let body =
            format!("RAISE EXCEPTION 'as planned' USING ERRCODE = '{state}', DETAIL = 'a canary';");
        replace_commit(&client, "refusals", &body).await;
        let error = store
            .commit(&session_key(), &creation(&[]))
            .await
            .expect_err("a refusal");
        assert_eq!((error.is_transient(), error.is_full()), kind, "{state}");
        let text = text_of(&error);
        assert!(
            text.contains("as planned") && text.contains(state),
            "{text}"
        );
        assert!(!format!("{text} {error:?}").contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn what_was_not_done_is_tried_three_times_and_no_more() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, store) = (server.client().await, store_in(server, "tries").await);
    // What a sequence has counted stays counted, whatever becomes of the transaction.
    client
        .batch_execute("CREATE SEQUENCE tries.made")
        .await
        .unwrap();
    let mut counted = 0;
    for (state, tries) in [("40001", 3), ("40P01", 3), ("57014", 1), ("22000", 1)] {
        let body = format!(
            "PERFORM nextval('tries.made'); RAISE EXCEPTION 'no' USING ERRCODE = '{state}';"
        );
        replace_commit(&client, "tries", &body).await;
        store
            .commit(&session_key(), &creation(&[]))
            .await
            .expect_err("a refusal");
        let made: i64 = client
            .query_one("SELECT last_value FROM tries.made", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(made - counted, tries, "{state}");
        counted = made;
    }
}

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
}

async fn add_one(mut session: Session<Shop>) {
    *session.points.get_mut() += 1;
}

#[tokio::test]
async fn a_request_that_others_are_always_in_the_way_of_tries_three_times_and_no_more() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, store) = (server.client().await, store_in(server, "always").await);
    client
        .batch_execute("CREATE SEQUENCE always.made")
        .await
        .unwrap();
    let body = "PERFORM nextval('always.made'); RAISE serialization_failure USING MESSAGE = 'no';";
    replace_commit(&client, "always", body).await;
    let reply = Visitor::of(SessionLayer::new(store)).visit(add_one).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let made = "SELECT last_value FROM always.made";
    let made: i64 = client.query_one(made, &[]).await.unwrap().get(0);
    assert_eq!(made, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_or_doubled_in_serializable_transactions() {
    const TASKS: usize = 16;
    const EACH: usize = 5;
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    for isolation in ["repeatable read", "serializable"] {
        let schema = isolation.replace(' ', "_");
        // In a URL, and then again where the server splits its options.
        let isolation = isolation.replace(' ', "%5C%20");
        let set = format!("?options=-c%20default_transaction_isolation%3D{isolation}");
        let store = store_with(server, &schema, &set).await;
        let key = create(&store, &[slot("n", "0")]).await;
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (store, key) = (store.clone(), key.clone());
                tokio::spawn(async move {
                    for _ in 0..EACH {
                        increment(&store, &key).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("every increment is applied");
        }
        let record = store.load(&key).await.unwrap().expect("it lives");
        assert_eq!(number(record.slot("n").expect("a slot")), TASKS * EACH);
    }
}

/// Has a move and another transaction wait for each other. Whether it was the move that gave way: whoever looks last
/// whether there is a deadlock finds it, and the move looks when it has waited for half a second.
async fn is_deadlocked(server: &PostgresServer, store: &PostgresStore) -> bool {
    let mut keys = [session_key(), session_key()];
    keys.sort();
    let [first, second] = keys;
    apply(store, &first, &creation(&[slot("n", "0")])).await;
    let lapsed = Change {
        expiry: Expiry::Set(now()),
        ..creation(&[])
    };
    apply(store, &second, &lapsed).await;
    let (mut client, watcher) = (server.client().await, server.client().await);
    let patient = "SET deadlock_timeout = '60s'";
    client.batch_execute(patient).await.unwrap();
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = pid.unwrap().get(0);
    let lock = "SELECT FROM locks.sessions WHERE key = $1 FOR UPDATE";
    let [one, two] = [&first, &second].map(|key| key.to_string().into_bytes());
    let other = client.transaction().await.unwrap();
    other.execute(lock, &[&two]).await.unwrap();
    // The move locks the first and waits for the second.
    let relocation = Change {
        slots: vec![set(Some(&slot("n", "0")), &slot("n", "1"))],
        ..Change::new(Kind::Move(second.clone(), now() + HOUR), now())
    };
    let moving = tokio::spawn({
        let (store, first) = (store.clone(), first.clone());
        async move { store.commit(&first, &relocation).await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
    wait_for("the move waits", async || {
        let row = watcher.query_one(waiting, &[&pid]).await.unwrap();
        row.get::<_, i64>(0) > 0
    })
    .await;
    other.execute(lock, &[&one]).await.unwrap();
    other.rollback().await.unwrap();
    // If this machine stood still meanwhile, the move has looked too early, and waits in vain.
    let Ok(moved) = moving.await.unwrap() else {
        return false;
    };
    assert_eq!(moved, Committed::Applied);
    let record = store.load(&second).await.unwrap().expect("it has moved");
    assert_eq!(number(record.slot("n").expect("a slot")), 1);
    true
}

#[tokio::test]
async fn a_deadlock_is_tried_again_and_applied_once() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_with(server, "locks", "?options=-c%20deadlock_timeout%3D500ms").await;
    let watcher = server.client().await;
    let deadlocks = async || -> i64 {
        let count = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'";
        watcher.query_one(count, &[]).await.unwrap().get(0)
    };
    let before = deadlocks().await;
    let mut tries = 0;
    while !is_deadlocked(server, &store).await {
        tries += 1;
        assert!(tries < 10, "the move never gives way");
    }
    // A connection that closes hands in what it has counted.
    drop(store);
    wait_for("the deadlock is counted", async || {
        deadlocks().await > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_in_both_directions_never_deadlock() {
    const ROUNDS: usize = 200;
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    // A database of its own, which counts the deadlocks it has had. They are looked for soon.
    let client = server.client().await;
    let make = "CREATE DATABASE crossing";
    client.batch_execute(make).await.unwrap();
    let url = server.url();
    let (url, _) = url.rsplit_once('/').expect("a path");
    let url = format!("{url}/crossing?options=-c%20deadlock_timeout%3D10ms");
    let options = server.options(SystemClock::default());
    let store = options.connect(&url).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let keys = [session_key(), session_key()];
    for key in &keys {
        apply(&store, key, &creation(&[])).await;
    }
    // Each is moved onto the other, and retires it: both are locked by both.
    let cross = |from: Key, to: Key| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let change = Change {
                    retire: Some((to.clone(), now())),
                    ..Change::new(Kind::Move(to.clone(), now() + HOUR), now())
                };
                let committed = insist(&store, &from, &change).await;
                assert_eq!(committed, Committed::Exists);
            }
        })
    };
    let [a, b] = keys;
    let crossing = [
        cross(a.clone(), b.clone()),
        cross(b.clone(), a.clone()),
        cross(a, b),
    ];
    for task in crossing {
        task.await.expect("every move is answered");
    }
    // A connection that closes hands in what it has counted.
    drop(store);
    let count = async |what: &str| -> i64 {
        let count = format!("SELECT {what} WHERE datname = 'crossing'");
        client.query_one(&count, &[]).await.unwrap().get(0)
    };
    wait_for("all connections close", async || {
        count("count(*) FROM pg_stat_activity").await == 0
    })
    .await;
    assert_eq!(count("deadlocks FROM pg_stat_database").await, 0);
}

/// Writers that go on until told otherwise, and what they have been told is written.
struct Traffic {
    key: Key,
    acknowledged: Arc<AtomicUsize>,
    going_on: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    async fn start(store: &PostgresStore) -> Self {
        let key = create(store, &[slot("n", "0")]).await;
        let (acknowledged, going_on) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(true)),
        );
        let tasks = (0..8)
            .map(|_| {
                let (store, key) = (store.clone(), key.clone());
                let (acknowledged, going_on) = (acknowledged.clone(), going_on.clone());
                tokio::spawn(async move {
                    while going_on.load(Ordering::Relaxed) {
                        increment(&store, &key).await;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self {
            key,
            acknowledged,
            going_on,
            tasks,
        }
    }

    /// Waits until so many more are acknowledged.
    async fn flows(&self, more: usize) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + more;
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            pause().await;
        }
    }

    /// Ends it, and checks that each increment is there once.
    async fn end(self, store: &PostgresStore) {
        self.going_on.store(false, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("every increment is applied");
        }
        let record = loaded(store, &self.key).await.expect("it lives");
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        assert_eq!(number(record.slot("n").expect("a slot")), acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_amid_traffic_loses_and_doubles_nothing() {
    let Some(server) = PostgresServer::start() else {
        return;
    };
    let store = store_in(&server, "traffic").await;
    let traffic = Traffic::start(&store).await;
    for _ in 0..2 {
        traffic.flows(50).await;
        server.stop();
        server.restart();
    }
    traffic.flows(50).await;
    traffic.end(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_amid_traffic_has_all_that_it_acknowledged() {
    // With the disk waited for, as it is by default.
    let Some(server) = PostgresServer::start_with("") else {
        return;
    };
    let store = store_in(&server, "killed").await;
    let traffic = Traffic::start(&store).await;
    for _ in 0..2 {
        traffic.flows(30).await;
        server.kill();
        server.restart();
    }
    traffic.flows(30).await;
    traffic.end(&store).await;
}

#[tokio::test]
async fn a_commit_cut_anywhere_applies_once() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let options = server.options(SystemClock::default()).pool_size(1);
    let store = options
        .connect(&server.url_at(proxy.address().port()))
        .unwrap();
    store.migrate().await.unwrap();
    let key = create(&store, &[slot("n", "0")]).await;
    let cuts = [
        Cut::BEFORE,
        Cut::FromClient(100),
        Cut::AFTER,
        Cut::FromServer(40),
    ];
    for (n, cut) in cuts.into_iter().enumerate() {
        // The connection knows the statement, so that it is the commit which is cut.
        apply(&store, &key, &update([])).await;
        let [base, next] = [n, n + 1].map(|n| slot("n", n.to_string()));
        let change = update([set(Some(&base), &next)]);
        proxy.cut(cut, Wire::Open);
        let error = store.commit(&key, &change).await.expect_err("it is cut");
        assert!(error.is_transient(), "{error:?}");
        assert!(!proxy.is_cut_pending());
        assert_eq!(insist(&store, &key, &change).await, Committed::Applied);
        // Had it not been remembered, this would find that it has been applied.
        assert_eq!(insist(&store, &key, &change).await, Committed::Applied);
        let record = store.load(&key).await.unwrap().expect("it lives");
        assert_eq!(number(record.slot("n").expect("a slot")), n + 1);
    }
}

#[tokio::test]
async fn a_load_over_a_connection_that_broke_long_ago_is_answered() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let options = server.options(SystemClock::default()).pool_size(1);
    let store = options
        .connect(&server.url_at(proxy.address().port()))
        .unwrap();
    store.migrate().await.unwrap();
    let key = create(&store, &[slot("a", "1")]).await;
    store.load(&key).await.unwrap();
    proxy.cut(Cut::BEFORE, Wire::Open);
    assert!(
        store
            .load(&key)
            .await
            .expect("another connection answers")
            .is_some()
    );
    assert!(!proxy.is_cut_pending());
}

#[tokio::test]
async fn a_server_that_may_only_be_read_is_left_for_another() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_with(server, "standby", "?application_name=reader").await;
    let key = create(&store, &[slot("a", "1")]).await;
    let client = server.client().await;
    let body = "RAISE read_only_sql_transaction USING MESSAGE = 'a standby by now';";
    replace_commit(&client, "standby", body).await;
    let connections = async || -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reader'";
        client.query_one(count, &[]).await.unwrap().get(0)
    };
    assert_eq!(connections().await, 1);
    let error = store
        .commit(&key, &update([]))
        .await
        .expect_err("it may only be read");
    assert!(error.is_transient(), "{error:?}");
    // Behind the same name, another server may be the primary by now.
    wait_for("it is left", async || connections().await == 0).await;
    assert!(store.load(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn a_lock_that_somebody_holds_is_not_waited_for_for_ever() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_in(server, "held").await;
    let key = create(&store, &[]).await;
    let mut client = server.client().await;
    let held = client.transaction().await.unwrap();
    held.execute("SELECT FROM held.sessions FOR UPDATE", &[])
        .await
        .unwrap();
    let error = store
        .commit(&key, &update([]))
        .await
        .expect_err("the record is locked");
    assert!(
        error.is_transient() && text_of(&error).contains("55P03"),
        "{error:?}"
    );
    held.rollback().await.unwrap();
    apply(&store, &key, &update([])).await;
}

#[tokio::test]
async fn two_changes_of_one_slot_in_one_change_are_made_in_order() {
    use session_runtime::{SlotChange, SlotOp};

    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_in(server, "twice").await;
    let later = now() + HOUR;
    let base = slot("a", "1");
    let to = |to: SlotOp| SlotChange {
        to,
        ..set(Some(&base), &base)
    };
    let new = Arc::new(slot("a", "2"));
    let ways = [
        vec![SlotOp::Drop, SlotOp::Set(new.clone())],
        vec![SlotOp::Set(new.clone()), SlotOp::Drop],
        vec![SlotOp::Set(new.clone()), SlotOp::Retime(Some(later))],
        vec![SlotOp::Retime(Some(later)), SlotOp::Set(new)],
        vec![SlotOp::Drop, SlotOp::Retime(Some(later))],
        vec![SlotOp::Retime(Some(later)), SlotOp::Retime(None)],
    ];
    for way in ways {
        let key = create(&store, std::slice::from_ref(&base)).await;
        let mut expected =
            session_runtime::Record::clone(&store.load(&key).await.unwrap().unwrap());
        let change = update(way.clone().into_iter().map(to));
        change.apply(&mut expected);
        apply(&store, &key, &change).await;
        assert_eq!(
            *store.load(&key).await.unwrap().unwrap(),
            expected,
            "{way:?}"
        );
    }
}

#[tokio::test]
async fn a_user_s_name_is_anything_up_to_a_kibibyte() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_in(server, "names").await;
    // Nothing that compression makes shorter.
    let long: String = (0..1024)
        .map(|_| char::from(rand::random_range(b'!'..b'~')))
        .collect();
    for name in ["", "\0", "a\0b", "ü", "'", &long] {
        let (key, user) = (session_key(), session_runtime::UserId::new(name));
        let owned = Change {
            owner: Some(user.clone()),
            ..creation(&[slot("a\0", "1")])
        };
        apply(&store, &key, &owned).await;
        assert_eq!(
            store.owned_by(&user).await.unwrap(),
            std::slice::from_ref(&key)
        );
        apply(&store, &Key::User(user), &creation(&[])).await;
        assert!(
            store
                .load(&key)
                .await
                .unwrap()
                .unwrap()
                .slot("a\0")
                .is_some()
        );
    }
    let key = Key::User((long + "!").into());
    let error = store.load(&key).await.expect_err("the name is too long");
    assert!(
        !error.is_transient() && text_of(&error).contains("1024"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_of_its_own() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, store) = (server.client().await, store_in(server, "damaged").await);
    let [state, signature, sound] = [(); 3].map(|()| session_key());
    for key in [&state, &signature, &sound] {
        apply(&store, key, &creation(&[slot("a", "1")])).await;
    }
    let bytes = |key: &Key| key.to_string().into_bytes();
    let damage = "UPDATE damaged.sessions SET state = 'canary' WHERE key = $1";
    client.execute(damage, &[&bytes(&state)]).await.unwrap();
    let damage = "UPDATE damaged.sessions_slots SET signature = 'canary'
        WHERE body = (SELECT body FROM damaged.sessions WHERE key = $1)";
    client.execute(damage, &[&bytes(&signature)]).await.unwrap();
    for key in [&state, &signature] {
        let error = store.load(key).await.expect_err("it is damaged");
        assert!(!error.is_transient() && !error.is_full(), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    assert!(store.load(&sound).await.unwrap().is_some());
    let change = update([set(None, &slot("a", "2"))]);
    let error = store
        .commit(&signature, &change)
        .await
        .expect_err("it is damaged");
    assert!(!error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_commit_waits_no_longer_than_for_the_answer() {
    // The future of a commit that waits for a lock is dropped; the commit itself may still be applied, once.
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_in(server, "dropped").await;
    let key = create(&store, &[slot("n", "0")]).await;
    let mut client = server.client().await;
    let held = client.transaction().await.unwrap();
    held.execute("SELECT FROM dropped.sessions FOR UPDATE", &[])
        .await
        .unwrap();
    let change = update([set(Some(&slot("n", "0")), &slot("n", "1"))]);
    let late = Duration::from_millis(50);
    assert!(
        tokio::time::timeout(late, store.commit(&key, &change))
            .await
            .is_err()
    );
    held.rollback().await.unwrap();
    assert_eq!(insist(&store, &key, &change).await, Committed::Applied);
    let record = store.load(&key).await.unwrap().unwrap();
    assert_eq!(number(record.slot("n").unwrap()), 1);
}
