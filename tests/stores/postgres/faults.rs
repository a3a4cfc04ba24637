//! A server that restarts, dies, refuses, or has transactions in each other's way.

use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::{PostgresStore, Record, Store, Swapped};
use session_runtime::{Key, UserId};
use session_tests::{PostgresServer, wait_for};
use tokio_postgres::Client;

use crate::records::assert_no_load_tears;

use super::{
    ISOLATIONS, Traffic, bytes, create, insist, loaded, noise, put, race, record, session_key,
    slot, somebody_waits_for, store_in, store_with, text_of, with,
};

/// Has the server do as `body` says before it writes a record.
pub(super) async fn before_writing(client: &Client, schema: &str, body: &str) {
    let make = format!(
        "CREATE OR REPLACE FUNCTION {schema}.fault() RETURNS trigger LANGUAGE plpgsql
             AS $f$ BEGIN {body} RETURN NEW; END $f$;
         CREATE OR REPLACE TRIGGER fault BEFORE INSERT OR UPDATE ON {schema}.sessions
             FOR EACH ROW EXECUTE FUNCTION {schema}.fault()"
    );
    client.batch_execute(&make).await.unwrap();
}

#[tokio::test]
async fn each_refusal_is_what_it_is() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, store) = (server.client().await, store_in(server, "refusals").await);
    // Whether it passes, whether it is unknown what was written, whether there is no room.
    let (undone, unknown) = ((true, false, false), (true, true, false));
    let (full, definite) = ((false, false, true), (false, false, false));
    let states = [
        ("40001", undone),
        ("40P01", undone),
        ("55P03", undone),
        ("40003", unknown),
        ("08006", unknown),
        ("25006", unknown),
        ("53200", unknown),
        ("53300", unknown),
        ("57014", unknown),
        ("57P01", unknown),
        ("57P03", unknown),
        ("58030", unknown),
        ("53100", full),
        ("42501", definite),
        ("42703", definite),
        ("22000", definite),
        ("XX001", definite),
    ];
    for (state, kind) in states {
        let body =
            format!("RAISE EXCEPTION 'as planned' USING ERRCODE = '{state}', DETAIL = 'a canary';");
        before_writing(&client, "refusals", &body).await;
        let error = store.swap(&session_key(), None, &record([])).await;
        let error = error.expect_err("a refusal");
        let found = (error.is_transient(), error.is_unknown(), error.is_full());
        assert_eq!(found, kind, "{state}");
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
    let expected = [
        ("40001", 3),
        ("40P01", 3),
        ("55P03", 3),
        ("57014", 1),
        ("22000", 1),
    ];
    for (state, tries) in expected {
        let body = format!(
            "PERFORM nextval('tries.made'); RAISE EXCEPTION 'no' USING ERRCODE = '{state}';"
        );
        before_writing(&client, "tries", &body).await;
        let refused = store.swap(&session_key(), None, &record([])).await;
        refused.expect_err("a refusal");
        let made: i64 = client
            .query_one("SELECT last_value FROM tries.made", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(made - counted, tries, "{state}");
        counted = made;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_or_doubled_whatever_the_isolation() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    for (n, isolation) in ISOLATIONS.into_iter().enumerate() {
        let set = format!("?options=-c%20default_transaction_isolation%3D{isolation}");
        let store = store_with(server, &format!("isolated_{n}"), &set).await;
        race(&store, 16, 5).await;
    }
}

/// Has `other` do something to a record in a transaction that a swap of that record waits for, and returns what comes of
/// the swap.
async fn swap_behind(
    server: &PostgresServer,
    store: &PostgresStore,
    (key, before): (&Key, &Arc<Record>),
    after: &Arc<Record>,
    touch: &str,
) -> Swapped {
    let mut client = server.client().await;
    let other = client.transaction().await.unwrap();
    other.batch_execute(touch).await.unwrap();
    let swapping = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        let (before, after) = (before.clone(), after.clone());
        async move { store.swap(&key, Some(&before), &after).await }
    });
    somebody_waits_for(&server.client().await, other.client()).await;
    other.commit().await.unwrap();
    let swapped = swapping.await.expect("no panic");
    swapped.expect("it is tried again")
}

#[tokio::test]
async fn a_row_that_somebody_writes_meanwhile_is_swapped_once_or_stale_whatever_the_isolation() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    for (n, isolation) in ISOLATIONS.into_iter().enumerate() {
        let set = format!("?options=-c%20default_transaction_isolation%3D{isolation}");
        let schema = format!("touched_{n}");
        let store = store_with(server, &schema, &set).await;
        let (key, before) = create(&store, [slot("n", "0"), slot("b", noise(300))]).await;
        let after = with(&with(&before, slot("n", "1")), slot("b", noise(300)));
        // As a sweep does, which leaves the version.
        let touch = format!("UPDATE {schema}.sessions SET due = due - 1 WHERE key = '{key}'");
        let swapped = swap_behind(server, &store, (&key, &before), &after, &touch).await;
        assert_eq!(swapped, Swapped::Done, "{isolation}");
        assert_eq!(store.load(&key).await.unwrap(), Some(after.clone()));
        // As another swap does.
        let (other, theirs) = create(&store, [slot("n", "7")]).await;
        let touch = format!(
            "UPDATE {schema}.sessions r SET version = o.version, payload = o.payload FROM {schema}.sessions o
             WHERE r.key = '{key}' AND r.name = o.name AND o.key = '{other}'"
        );
        let next = with(&with(&after, slot("n", "2")), slot("b", noise(300)));
        let swapped = swap_behind(server, &store, (&key, &after), &next, &touch).await;
        assert_eq!(swapped, Swapped::Stale(Some(theirs)), "{isolation}");
    }
}

/// Has a swap and another transaction wait for each other, and returns whether it was the swap that gave way: whoever
/// looks last whether there is a deadlock finds it, and the swap looks when it has waited for so many milliseconds.
async fn is_deadlocked(
    server: &PostgresServer,
    watcher: &Client,
    schema: &str,
    isolation: &str,
    looks_after: u32,
) -> bool {
    let set = format!(
        "?options=-c%20deadlock_timeout%3D{looks_after}ms%20-c%20default_transaction_isolation%3D{isolation}"
    );
    let store = &store_with(server, schema, &set).await;
    let (key, before) = create(store, [slot("b", noise(300)), slot("n", "0")]).await;
    let after = with(&with(&before, slot("b", noise(300))), slot("n", "1"));
    let mut client = server.client().await;
    let patient = format!("SET deadlock_timeout = '{}ms'", 4 * looks_after);
    client.batch_execute(&patient).await.unwrap();
    let other = client.transaction().await.unwrap();
    let lock = |name| {
        format!("SELECT FROM {schema}.sessions WHERE key = '{key}' AND name = '{name}' FOR UPDATE")
    };
    other.batch_execute(&lock("b")).await.unwrap();
    // The swap locks the record and waits for its payload.
    let swapping = tokio::spawn({
        let (store, key, after) = (store.clone(), key.clone(), after.clone());
        async move { store.swap(&key, Some(&before), &after).await }
    });
    somebody_waits_for(watcher, other.client()).await;
    let locked = other.batch_execute(&lock("\\xff")).await;
    other.rollback().await.unwrap();
    // If this machine stood still meanwhile, the swap has looked too early, and waits in vain: the other gives way.
    let (Ok(()), Ok(swapped)) = (locked, swapping.await.unwrap()) else {
        return false;
    };
    assert_eq!(swapped, Swapped::Done);
    assert_eq!(loaded(store, &key).await, Some(after));
    true
}

#[tokio::test]
async fn a_deadlock_is_tried_again_and_applied_once_whatever_the_isolation() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let watcher = server.client().await;
    let deadlocks = async || -> i64 {
        let count = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'";
        watcher.query_one(count, &[]).await.unwrap().get(0)
    };
    for (n, isolation) in ISOLATIONS.into_iter().enumerate() {
        let schema = format!("locks_{n}");
        let before = deadlocks().await;
        let mut looks_after = 500;
        while !is_deadlocked(server, &watcher, &schema, isolation, looks_after).await {
            looks_after *= 2;
            assert!(looks_after < 60_000, "the swap never gives way");
        }
        // A connection that closes hands in what it has counted.
        wait_for("the deadlock is counted", async || {
            deadlocks().await > before
        })
        .await;
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
async fn a_server_that_may_only_be_read_is_left_for_another() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_with(server, "standby", "?application_name=reader").await;
    let (key, before) = create(&store, [slot("a", "1")]).await;
    let client = server.client().await;
    let body = "RAISE read_only_sql_transaction USING MESSAGE = 'a standby by now';";
    before_writing(&client, "standby", body).await;
    let connections = async || -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reader'";
        client.query_one(count, &[]).await.unwrap().get(0)
    };
    assert_eq!(connections().await, 1);
    let swapped = store
        .swap(&key, Some(&before), &Arc::new(before.next()))
        .await;
    let error = swapped.expect_err("it may only be read");
    assert!(error.is_transient(), "{error:?}");
    // Behind the same name, another server may be the primary by now.
    wait_for("it is left", async || connections().await == 0).await;
    assert!(store.load(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn who_has_set_a_lock_timeout_is_told_that_nothing_was_written() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_with(server, "held", "?options=-c%20lock_timeout%3D100ms").await;
    let (key, before) = create(&store, []).await;
    let after = with(&before, slot("a", "1"));
    let mut client = server.client().await;
    for lock in [
        "SELECT FROM held.sessions FOR UPDATE",
        "LOCK TABLE held.sessions IN SHARE ROW EXCLUSIVE MODE",
    ] {
        let held = client.transaction().await.unwrap();
        held.batch_execute(lock).await.unwrap();
        let error = store.swap(&key, Some(&before), &after).await;
        let error = error.expect_err("it is locked");
        assert!(error.is_transient() && !error.is_unknown(), "{error:?}");
        assert!(text_of(&error).contains("55P03"), "{error:?}");
        assert_eq!(store.load(&key).await.unwrap(), Some(before.clone()));
        held.rollback().await.unwrap();
    }
    let swapped = insist(&store, &key, Some(&before), &after).await;
    assert_eq!(swapped, Swapped::Done);
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
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, store) = (server.client().await, store_in(server, "damaged").await);
    let (head, _) = create(&store, [slot("a", "1")]).await;
    let (payload, before) = create(&store, [slot("a", noise(300))]).await;
    let (sound, _) = create(&store, [slot("a", "1")]).await;
    let damage = "UPDATE damaged.sessions SET payload = 'canary' WHERE key = $1";
    client.execute(damage, &[&bytes(&head)]).await.unwrap();
    let damage = "DELETE FROM damaged.sessions WHERE key = $1 AND name = 'a'";
    client.execute(damage, &[&bytes(&payload)]).await.unwrap();
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
async fn a_swap_waits_no_longer_than_for_the_answer() {
    // The future of a swap that waits for a lock is dropped; the swap itself may still be applied, once.
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_in(server, "dropped").await;
    let (key, before) = create(&store, [slot("n", "0")]).await;
    let after = with(&before, slot("n", "1"));
    let mut client = server.client().await;
    let held = client.transaction().await.unwrap();
    held.batch_execute("SELECT FROM dropped.sessions FOR UPDATE")
        .await
        .unwrap();
    let late = Duration::from_millis(50);
    let swap = store.swap(&key, Some(&before), &after);
    assert!(tokio::time::timeout(late, swap).await.is_err());
    held.rollback().await.unwrap();
    let swapped = insist(&store, &key, Some(&before), &after).await;
    let applied_before = Swapped::Stale(Some(after.clone()));
    assert!(swapped == Swapped::Done || swapped == applied_before);
    assert_eq!(loaded(&store, &key).await, Some(after));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_never_tears() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = store_in(server, "tearing").await;
    assert_no_load_tears(&store).await;
}
