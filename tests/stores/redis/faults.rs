//! States of a server that pass, and connections that break.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use session_runtime::Key;
use session_runtime::store::{Record, RedisStore, Store, Swapped};
use session_tests::{Cut, PATIENCE, Proxy, RedisServer, Wire, connect_to_redis, wait_for};

use super::{
    create, load, next, number, passing, put, record, repeat, session_key, slot, tombstone,
};

async fn through(proxy: &Proxy) -> RedisStore {
    let store = RedisStore::options()
        .prefix("through:")
        .timeout(PATIENCE)
        .connect(&format!("redis://{}", proxy.address()))
        .await;
    store.expect("the server answers")
}

const IMPATIENT: Duration = Duration::from_secs(1);

fn proxy(server: &RedisServer) -> Proxy {
    Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())))
}

#[tokio::test]
async fn a_replica_is_read_and_not_written() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (key, before) = {
        let store = super::connect(&server.url()).await;
        create(&store, []).await
    };
    let replica = server.replica();
    let store = super::connect(&replica.url()).await;
    assert!(store.load(&key).await.unwrap().is_some());
    let after = next(&before, [slot("a", "1")]);
    let refused = store.swap(&key, Some(&before), &after).await;
    passing(&refused.expect_err("READONLY"));
    assert_eq!(load(&store, &key).await, before);

    let () = replica.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    server.kill();
    wait_for("the replica misses its primary", async || {
        let error = store.load(&key).await.err();
        error.is_some_and(|error| {
            passing(&error);
            format!("{error:?}").contains("MasterDown")
        })
    })
    .await;
    replica.promote();
    put(&store, &key, Some(&before), &after).await;
}

#[tokio::test]
async fn a_server_that_is_busy_or_wants_replicas_is_asked_again() {
    let Some(server) = RedisServer::start(&["--busy-reply-threshold", "1"]) else {
        return;
    };
    let store = super::connect(&server.url()).await;
    let (key, before) = create(&store, []).await;

    let () = server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let after = next(&before, [slot("a", "1")]);
    let refused = store.swap(&key, Some(&before), &after).await;
    passing(&refused.expect_err("NOREPLICAS"));
    let () = server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    put(&store, &key, Some(&before), &after).await;

    let endless = {
        let url = server.url();
        std::thread::spawn(move || {
            let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
            let mut endless = redis::cmd("EVAL");
            drop(
                endless
                    .arg("while true do end")
                    .arg(0)
                    .exec(&mut connection),
            );
        })
    };
    wait_for("it is busy", async || {
        let error = store.load(&key).await.err();
        error.is_some_and(|error| {
            passing(&error);
            format!("{error:?}").contains("BUSY")
        })
    })
    .await;
    let () = server.command(&["SCRIPT", "KILL"]);
    endless.join().expect("it ends");
    assert!(store.load(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn a_connection_that_has_broken_costs_no_load() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let proxy = proxy(server);
    let store = through(&proxy).await;
    let (key, _) = create(&store, []).await;
    for _ in 0..20 {
        proxy.set(Wire::Reset);
        proxy.set(Wire::Open);
        assert!(store.load(&key).await.unwrap().is_some());
    }
    for _ in 0..20 {
        proxy.cut(Cut::AFTER, Wire::Open);
        assert!(store.load(&key).await.unwrap().is_some());
        assert!(!proxy.is_cut_pending());
    }
}

#[tokio::test]
async fn a_swap_cut_anywhere_is_repeated_and_applied_once() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let proxy = proxy(server);
    let store = through(&proxy).await;
    let (key, mut before) = create(&store, [slot("n", "0")]).await;
    let cuts = [
        Cut::BEFORE,
        Cut::FromClient(100),
        Cut::AFTER,
        Cut::FromServer(2),
    ];
    for (n, cut) in (0..40_usize).zip(cuts.iter().cycle()) {
        assert_eq!(number(&load(&store, &key).await), n);
        let after = next(&before, [slot("n", (n + 1).to_string())]);
        proxy.cut(*cut, Wire::Open);
        let error = store.swap(&key, Some(&before), &after).await;
        let error = error.expect_err("it is cut");
        assert!(error.is_unknown(), "{error:?}");
        repeat(&store, &key, Some(&before), &after).await;
        before = after;
    }
}

#[tokio::test]
async fn a_creation_and_an_end_whose_answers_are_lost_are_known_again() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let proxy = proxy(server);
    let store = through(&proxy).await;
    let (key, created) = (session_key(), record([slot("a", "1")]));
    proxy.cut(Cut::AFTER, Wire::Open);
    passing(
        &store
            .swap(&key, None, &created)
            .await
            .expect_err("it is cut"),
    );
    let again = store.swap(&key, None, &created).await.unwrap();
    assert_eq!(again, Swapped::Stale(Some(created.clone())));

    let ended = tombstone(&created);
    proxy.cut(Cut::AFTER, Wire::Open);
    let cut = store.swap(&key, Some(&created), &ended).await;
    passing(&cut.expect_err("it is cut"));
    for (before, after) in [(None, &created), (Some(&created), &ended)] {
        let late = store.swap(&key, before, after).await.unwrap();
        assert_eq!(late, Swapped::Stale(Some(ended.clone())), "nothing revives");
    }
}

#[tokio::test]
async fn a_swap_asked_again_on_a_hot_record_is_never_applied_twice() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let proxy = proxy(server);
    let store = through(&proxy).await;
    let (key, before) = create(&store, [slot("n", "0")]).await;
    let after = next(&before, [slot("n", "1")]);
    proxy.cut(Cut::AFTER, Wire::Open);
    let cut = store.swap(&key, Some(&before), &after).await;
    passing(&cut.expect_err("it is cut"));
    // More than a record remembers.
    for n in 1..=40 {
        super::increment(&store, &key).await;
        let there = load(&store, &key).await;
        let again = store.swap(&key, Some(&before), &after).await.unwrap();
        assert_eq!(again, Swapped::Stale(Some(there.clone())));
        assert_eq!(number(&there), n + 1);
    }
}

/// A store that does not wait long, and a record in it. That this machine is busy is no fault of the store's.
async fn impatient(proxy: &Proxy) -> (RedisStore, Key, Arc<Record>) {
    let options = RedisStore::options().timeout(IMPATIENT);
    let url = format!("redis://{}", proxy.address());
    let (store, key) = (connect_to_redis(&options, &url).await, session_key());
    let created = record([]);
    repeat(&store, &key, None, &created).await;
    (store, key, created)
}

#[tokio::test]
async fn a_server_that_stands_still_is_waited_for_no_longer_than_told() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let proxy = proxy(&server);
    let (store, key, before) = impatient(&proxy).await;
    let after = next(&before, [slot("a", "1")]);
    for wire in [Wire::BlackHole, Wire::Refused] {
        proxy.set(wire);
        passing(&store.load(&key).await.expect_err("nobody answers"));
        let unanswered = store.swap(&key, Some(&before), &after).await;
        passing(&unanswered.expect_err("nobody answers"));
    }
    proxy.set(Wire::Open);
    repeat(&store, &key, Some(&before), &after).await;
}

#[tokio::test]
async fn a_connection_on_which_nobody_answers_is_given_up() {
    let (Some(silent), Some(other)) = (RedisServer::start(&[]), RedisServer::start(&[])) else {
        return;
    };
    let proxy = proxy(&silent);
    let (store, key, _) = impatient(&proxy).await;
    silent.freeze();
    proxy.lead_to(SocketAddr::from((Ipv4Addr::LOCALHOST, other.port())));
    // The other has no such record, and says so.
    wait_for("the other answers", async || {
        matches!(store.load(&key).await, Ok(None))
    })
    .await;
}

/// Breaks every connection but the one that asks for it.
fn disconnect(server: &RedisServer) {
    let _: u64 = server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
}

#[tokio::test]
async fn a_server_that_refuses_a_connection_is_asked_for_another() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let () = server.command(&["ACL", "SETUSER", "app", "on", ">right", "~*", "+@all"]);
    let url = format!("redis://app:right@127.0.0.1:{}", server.port());
    let store = super::connect(&url).await;
    let (key, _) = create(&store, []).await;

    let () = server.command(&["ACL", "SETUSER", "app", "resetpass", ">wrong"]);
    disconnect(&server);
    let error = store.load(&key).await.expect_err("it is not let in");
    let source = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(
        source.contains("does not accept the name and password"),
        "{source}"
    );
    let () = server.command(&["ACL", "SETUSER", "app", "resetpass", ">right"]);
    wait_for("it is let in again", async || {
        store.load(&key).await.is_ok()
    })
    .await;

    let () = server.command(&["CONFIG", "SET", "maxclients", "8"]);
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut crowd = vec![client.get_connection().expect("a place")];
    wait_for("no place is left", async || {
        let _: u64 = redis::cmd("CLIENT")
            .arg(&["KILL", "USER", "app"])
            .query(&mut crowd[0])
            .expect("it is killed");
        // The store may be faster, and have a place again; or somebody who has gone still has one.
        while let Ok(connection) = client.get_connection() {
            crowd.push(connection);
        }
        store.load(&key).await.is_err_and(|error| {
            passing(&error);
            true
        })
    })
    .await;
    crowd.clear();
    wait_for("there is a place again", async || {
        store.load(&key).await.is_ok()
    })
    .await;
}
