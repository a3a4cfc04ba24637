//! A server that restarts, dies, refuses, or has transactions in each other's way.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use session_runtime::store::{MysqlStore, Record, Store, Swapped};
use session_runtime::{Key, Session, SessionLayer, SystemClock, UserId};
use session_tests::{MysqlServer, PATIENCE, Visitor, wait_for};

use crate::records::assert_no_load_tears;

use super::{
    Traffic, count, create, insist, loaded, noise, put, record, session_key, slot,
    somebody_waits_in, store_in, text_of, with,
};

/// Has the server do as `body` says before it writes a record.
async fn before_writing(client: &mut Conn, database: &str, body: &str) {
    for event in ["INSERT", "UPDATE"] {
        let make = format!(
            "CREATE OR REPLACE TRIGGER {database}.fault_{event} BEFORE {event} ON {database}.sessions
                 FOR EACH ROW BEGIN {body} END"
        );
        client.query_drop(make).await.unwrap();
    }
}

/// Refuses with an error of that number.
fn signal(code: u16) -> String {
    format!("SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'as planned';")
}

#[tokio::test]
async fn each_refusal_is_what_it_is() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, store) = (server.client().await, store_in(server, "refusals").await);
    // Whether it passes, whether it is unknown what was written, whether there is no room.
    let (undone, unknown) = ((true, false, false), (true, true, false));
    let (full, definite) = ((false, false, true), (false, false, false));
    let codes = [
        (1020, undone),
        (1205, undone),
        (1213, undone),
        (1615, undone),
        (3101, undone),
        (1040, unknown),
        (1053, unknown),
        (1180, unknown),
        (1290, unknown),
        (1317, unknown),
        (1792, unknown),
        (1927, unknown),
        (1969, unknown),
        (3100, unknown),
        (1021, full),
        (1114, full),
        (1054, definite),
        (1142, definite),
        (1146, definite),
        (1153, definite),
        (1406, definite),
    ];
    for (code, kind) in codes {
        before_writing(&mut client, "refusals", &signal(code)).await;
        // Alone, and in a transaction, of which nothing is left.
        for beside in [0, 300] {
            let key = session_key();
            let error = store
                .swap(&key, None, &record([slot("b", noise(beside))]))
                .await;
            let error = error.expect_err("a refusal");
            let found = (error.is_transient(), error.is_unknown(), error.is_full());
            assert_eq!(found, kind, "{code}");
            let text = text_of(&error);
            assert!(text.contains("as planned"), "{text}");
            assert!(text.contains(&code.to_string()), "{text}");
            assert_eq!(loaded(&store, &key).await, None, "{code}");
        }
    }
    before_writing(&mut client, "refusals", "").await;
    create(&store, [slot("b", noise(300))]).await;
}

#[tokio::test]
async fn what_was_not_done_is_tried_three_times_and_no_more() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, store) = (server.client().await, store_in(server, "tries").await);
    // What is written there stays, whatever becomes of the transaction.
    let made = "CREATE TABLE tries.made (n INT) ENGINE = MyISAM";
    client.query_drop(made).await.unwrap();
    for (code, tries) in [(1020, 3), (1213, 3), (1205, 3), (1317, 1), (1406, 1)] {
        client.query_drop("DELETE FROM tries.made").await.unwrap();
        let body = format!("INSERT INTO tries.made VALUES (1); {}", signal(code));
        before_writing(&mut client, "tries", &body).await;
        let refused = store.swap(&session_key(), None, &record([])).await;
        refused.expect_err("a refusal");
        let made = count(&mut client, "SELECT count(*) FROM tries.made").await;
        assert_eq!(made, tries, "{code}");
    }
}

/// Has `client` do something to a record in a transaction that a swap of that record waits for, and returns what comes
/// of the swap.
async fn swap_behind(
    (server, client): (&MysqlServer, &mut Conn),
    store: &MysqlStore,
    (key, before): (&Key, &Arc<Record>),
    after: &Arc<Record>,
    touch: &str,
) -> Swapped {
    client.query_drop("START TRANSACTION").await.unwrap();
    client.query_drop(touch).await.unwrap();
    let swapping = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        let (before, after) = (before.clone(), after.clone());
        async move { store.swap(&key, Some(&before), &after).await }
    });
    somebody_waits_in(server, "touched").await;
    client.query_drop("COMMIT").await.unwrap();
    let swapped = swapping.await.expect("no panic");
    swapped.expect("an answer")
}

#[tokio::test]
async fn a_row_that_somebody_writes_meanwhile_is_swapped_once_or_stale() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, store) = (server.client().await, store_in(server, "touched").await);
    // Alone, and in a transaction.
    for beside in [0, 300] {
        let (key, before) = create(&store, [slot("n", "0"), slot("b", noise(beside))]).await;
        let after = with(&with(&before, slot("n", "1")), slot("b", noise(beside)));
        // As a sweep does, which leaves the version.
        let touch = format!("UPDATE touched.sessions SET due = due - 1 WHERE `key` = '{key}'");
        let others = (server, &mut client);
        let swapped = swap_behind(others, &store, (&key, &before), &after, &touch).await;
        assert_eq!(swapped, Swapped::Done);
        assert_eq!(store.load(&key).await.unwrap(), Some(after.clone()));
        // As another swap does.
        let (other, theirs) = create(&store, [slot("n", "7")]).await;
        let touch = format!(
            "UPDATE touched.sessions r JOIN touched.sessions o ON o.name = r.name
                 SET r.version = o.version, r.payload = o.payload WHERE r.`key` = '{key}' AND o.`key` = '{other}'"
        );
        let next = with(&with(&after, slot("n", "2")), slot("b", noise(beside)));
        let others = (server, &mut client);
        let swapped = swap_behind(others, &store, (&key, &after), &next, &touch).await;
        assert_eq!(swapped, Swapped::Stale(Some(theirs)));
    }
}

#[tokio::test]
async fn a_deadlock_is_tried_again_and_applied_once() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, store) = (server.client().await, store_in(server, "locks").await);
    let (key, before) = create(&store, [slot("b", noise(300)), slot("n", "0")]).await;
    let after = with(&with(&before, slot("b", noise(300))), slot("n", "1"));
    let lock = |name: &str| {
        format!("SELECT 1 FROM locks.sessions WHERE `key` = '{key}' AND name = {name} FOR UPDATE")
    };
    let deadlocks = "SELECT CAST(variable_value AS UNSIGNED) FROM information_schema.global_status
        WHERE variable_name = 'Innodb_deadlocks'";
    let counted = count(&mut client, deadlocks).await;
    let mut other = server.client().await;
    let heavy = "CREATE TABLE locks.heavy (n INT); START TRANSACTION;
        INSERT INTO locks.heavy SELECT seq FROM seq_1_to_1000";
    // Of two, the one that has written less gives way.
    other.query_drop(heavy).await.unwrap();
    other.query_drop(lock("'b'")).await.unwrap();
    // The swap locks the record and waits for its payload.
    let swapping = tokio::spawn({
        let (store, key, before, after) =
            (store.clone(), key.clone(), before.clone(), after.clone());
        async move { store.swap(&key, Some(&before), &after).await }
    });
    somebody_waits_in(server, "locks").await;
    other.query_drop(lock("x'ff'")).await.unwrap();
    other.query_drop("ROLLBACK").await.unwrap();
    let swapped = swapping.await.unwrap();
    let swapped = match swapped {
        Ok(swapped) => swapped,
        Err(error) => {
            assert!(error.is_transient() && !error.is_unknown(), "{error:?}");
            insist(&store, &key, Some(&before), &after).await
        }
    };
    assert_eq!(swapped, Swapped::Done);
    assert_eq!(loaded(&store, &key).await, Some(after));
    assert!(count(&mut client, deadlocks).await > counted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_amid_traffic_loses_and_doubles_nothing() {
    let Some(server) = MysqlServer::start() else {
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
    let Some(server) = MysqlServer::start_with(&[]) else {
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
async fn a_server_that_may_only_be_read_is_left_for_another() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let mut client = server.client().await;
    client.query_drop("CREATE DATABASE standby").await.unwrap();
    let url = server.url().replace("/test", "/standby");
    let options = server.options(SystemClock::default()).database("standby");
    let store = options.pool_size(1).connect(&url);
    let store = store.expect("the URL is fine");
    MysqlServer::make_tables(&store).await;
    let (key, before) = create(&store, [slot("a", "1")]).await;
    before_writing(&mut client, "standby", &signal(1290)).await;
    let connections = "SELECT count(*) FROM information_schema.processlist WHERE db = 'standby'";
    assert_eq!(count(&mut client, connections).await, 1);
    let after = Arc::new(before.next());
    let swapped = store.swap(&key, Some(&before), &after).await;
    let error = swapped.expect_err("it may only be read");
    assert!(error.is_transient(), "{error:?}");
    // Behind the same name, another server may be the primary by now.
    wait_for("it is left", async || {
        count(&mut client, connections).await == 0
    })
    .await;
    assert!(store.load(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn who_waits_for_a_lock_too_long_is_told_that_nothing_was_written() {
    let Some(server) = MysqlServer::start_with(&["--innodb-lock-wait-timeout=1"]) else {
        return;
    };
    let (mut client, store) = (server.client().await, store_in(&server, "held").await);
    let (key, before) = create(&store, [slot("b", noise(300))]).await;
    let small = with(&before, slot("a", "1"));
    // In a transaction that has written already, of which the server takes back the last statement alone.
    let large = with(&before, slot("b", noise(300)));
    for (after, name) in [(&small, "x'ff'"), (&large, "'b'")] {
        let lock = format!("SELECT 1 FROM held.sessions WHERE name = {name} FOR UPDATE");
        client.query_drop("START TRANSACTION").await.unwrap();
        client.query_drop(lock).await.unwrap();
        let error = store.swap(&key, Some(&before), after).await;
        let error = error.expect_err("it is locked");
        assert!(error.is_transient() && !error.is_unknown(), "{error:?}");
        assert!(text_of(&error).contains("1205"), "{error:?}");
        assert_eq!(store.load(&key).await.unwrap(), Some(before.clone()));
        client.query_drop("ROLLBACK").await.unwrap();
    }
    // Nothing is locked any more.
    put(&store, &key, Some(&before), &large).await;
}

#[tokio::test]
async fn a_user_s_name_is_anything_up_to_a_kibibyte() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let store = store_in(server, "names").await;
    let long: String = (0..1024)
        .map(|_| char::from(rand::random_range(b'!'..b'~')))
        .collect();
    for name in ["", "\0", "a\0b", "a ", "a", "ü", "'", "\\", &long] {
        let key = Key::User(UserId::new(name));
        let record = record([slot("a\0", "1"), slot("b\0", noise(300))]);
        put(&store, &key, None, &record).await;
        assert_eq!(store.load(&key).await.unwrap(), Some(record));
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
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, store) = (server.client().await, store_in(server, "damaged").await);
    let (head, _) = create(&store, [slot("a", "1")]).await;
    let (payload, before) = create(&store, [slot("a", noise(300))]).await;
    let (sound, _) = create(&store, [slot("a", "1")]).await;
    let damage = format!("UPDATE damaged.sessions SET payload = 'canary' WHERE `key` = '{head}'");
    client.query_drop(damage).await.unwrap();
    let damage = format!("DELETE FROM damaged.sessions WHERE `key` = '{payload}' AND name = 'a'");
    client.query_drop(damage).await.unwrap();
    for key in [&head, &payload] {
        let error = store.load(key).await.expect_err("it is damaged");
        assert!(!error.is_transient() && !error.is_full(), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        let swapped = store.swap(key, None, &record([])).await;
        let error = swapped.expect_err("what is there cannot be told");
        assert!(!error.is_transient(), "{error:?}");
    }
    assert!(store.load(&sound).await.unwrap().is_some());
    // Whoever knows its version can still put another in its place.
    put(&store, &payload, Some(&before), &record([])).await;
}

#[tokio::test]
async fn a_swap_that_nobody_waits_for_any_more_is_applied_once_or_not_at_all() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, store) = (server.client().await, store_in(server, "dropped").await);
    for beside in [0, 300] {
        let (key, before) = create(&store, [slot("n", "0"), slot("b", noise(beside))]).await;
        let after = with(&with(&before, slot("n", "1")), slot("b", noise(beside)));
        let lock = format!("SELECT 1 FROM dropped.sessions WHERE `key` = '{key}' FOR UPDATE");
        client.query_drop("START TRANSACTION").await.unwrap();
        client.query_drop(lock).await.unwrap();
        let late = Duration::from_millis(50);
        let swap = store.swap(&key, Some(&before), &after);
        assert!(tokio::time::timeout(late, swap).await.is_err());
        client.query_drop("ROLLBACK").await.unwrap();
        let swapped = insist(&store, &key, Some(&before), &after).await;
        let applied_before = Swapped::Stale(Some(after.clone()));
        assert!(swapped == Swapped::Done || swapped == applied_before);
        assert_eq!(loaded(&store, &key).await, Some(after));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_never_tears() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let store = store_in(server, "tearing").await;
    assert_no_load_tears(&store).await;
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
async fn a_request_that_others_are_always_in_the_way_of_is_answered_503_and_the_next_one_is_served()
{
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (mut client, store) = (server.client().await, store_in(server, "always").await);
    before_writing(&mut client, "always", &signal(1213)).await;
    let layer = SessionLayer::new(store);
    let mut visitor = Visitor::of(layer.clone());
    let reply = visitor.visit(add_one).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    before_writing(&mut client, "always", "").await;
    let mut visitor = visitor.moved_to(&layer.deadline(PATIENCE));
    let reply = visitor.visit(add_one).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_acknowledged_is_committed_whatever_a_commit_begins_by_the_server_s_settings() {
    let Some(server) = MysqlServer::start_with(&["--completion-type=CHAIN"]) else {
        return;
    };
    let open = || {
        let options = server.options(SystemClock::default()).database("chained");
        options.pool_size(1).connect(&server.url())
    };
    let (store, other) = (open().expect("the URL is fine"), open().expect("and still"));
    MysqlServer::make_tables(&store).await;
    // In a transaction, and then alone.
    let (key, before) = create(&store, [slot("b", noise(300))]).await;
    let after = with(&before, slot("n", "1"));
    put(&store, &key, Some(&before), &after).await;
    assert_eq!(loaded(&other, &key).await, Some(after));
}

#[tokio::test]
async fn what_is_too_large_for_the_server_is_said_to_be_and_not_written() {
    let Some(server) = MysqlServer::start_with(&["--max-allowed-packet=1M"]) else {
        return;
    };
    let store = store_in(&server, "packets").await;
    let (key, before) = create(&store, [slot("a", noise(300))]).await;
    // The first hundred have been written by then.
    let slots = (0..150).map(|n| slot(&format!("b{n:03}"), noise(1_000 + n / 100 * 20_000)));
    for slots in [vec![slot("b", noise(1 << 20))], slots.collect()] {
        let after = Arc::new(before.next().with_slots(slots));
        let swapped = store.swap(&key, Some(&before), &after).await;
        let error = swapped.expect_err("it is too large");
        assert!(!error.is_transient() && !error.is_unknown(), "{error:?}");
        assert!(text_of(&error).contains("raise the server's"), "{error:?}");
        assert_eq!(loaded(&store, &key).await, Some(before.clone()));
    }
    put(&store, &key, Some(&before), &Arc::new(before.next())).await;
}
