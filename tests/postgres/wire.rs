//! What goes over the wire, and what the server has to write for it.

use std::net::{Ipv4Addr, SocketAddr};

use session_runtime::store::{PostgresStore, Store};
use session_runtime::{Change, Ended, Key, Kind, SystemClock};
use session_tests::{PostgresServer, Proxy, wait_for};

use super::{HOUR, apply, create, creation, now, session_key, set, slot, update};

/// A store behind a proxy that counts, with one connection that knows the statements.
async fn counted(server: &PostgresServer, prepare: bool) -> (PostgresStore, Proxy) {
    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let options = server
        .options(SystemClock::default())
        .prepare(prepare)
        .pool_size(1);
    let url = server.url_at(proxy.address().port());
    let store = options.connect(&url).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let key = create(&store, &[slot("a", "1")]).await;
    store.load(&key).await.expect("an answer");
    store.owned_by(&"ada".into()).await.expect("an answer");
    proxy.traffic();
    (store, proxy)
}

#[tokio::test]
async fn every_call_is_one_round_trip() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    for prepare in [true, false] {
        let (store, proxy) = counted(server, prepare).await;
        let key = session_key();
        let one = |call: &str| assert_eq!(proxy.traffic().round_trips, 1, "{call}");
        store.load(&key).await.unwrap();
        one("loading nothing");
        apply(&store, &key, &creation(&[slot("a", "1"), slot("b", "2")])).await;
        one("a create");
        store.load(&key).await.unwrap();
        one("a load");
        apply(
            &store,
            &key,
            &update([set(Some(&slot("a", "1")), &slot("a", "2"))]),
        )
        .await;
        one("an update");
        store
            .commit(&key, &update([set(None, &slot("a", "3"))]))
            .await
            .unwrap();
        one("a conflict");
        let to = session_key();
        apply(
            &store,
            &key,
            &Change::new(Kind::Move(to.clone(), now() + HOUR), now()),
        )
        .await;
        one("a move");
        apply(&store, &to, &Change::new(Kind::End(Ended::Revoked), now())).await;
        one("an end");
        store.owned_by(&"ada".into()).await.unwrap();
        one("the owner index");
    }
}

/// A session of 64 KiB that compression makes nothing of, with one small field.
async fn large_session(store: &PostgresStore) -> Key {
    let noise = |_| rand::random::<u8>();
    let large: Vec<u8> = (0..64 << 10).map(noise).collect();
    create(store, &[slot("large", large), slot("small", "1")]).await
}

#[tokio::test]
async fn a_small_change_of_a_large_session_sends_little() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (store, proxy) = counted(server, true).await;
    let key = large_session(&store).await;
    proxy.traffic();
    apply(
        &store,
        &key,
        &update([set(Some(&slot("small", "1")), &slot("small", "2"))]),
    )
    .await;
    let sent = proxy.traffic();
    assert!(sent.up < 1024, "{sent:?}");
    assert!(sent.down < 1024, "{sent:?}");
}

#[tokio::test]
async fn a_small_change_of_a_large_session_writes_little() {
    // By itself, and without whole pages after a checkpoint: what is counted is this change's.
    let Some(server) = PostgresServer::start() else {
        return;
    };
    let (client, store) = (
        server.client().await,
        server.store(SystemClock::default()).await,
    );
    let key = large_session(&store).await;
    let written = async || -> i64 {
        let position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
        client.query_one(position, &[]).await.unwrap().get(0)
    };
    let before = written().await;
    for n in 1..=10 {
        let [base, next] = [n, n + 1].map(|n| slot("small", n.to_string()));
        apply(&store, &key, &update([set(Some(&base), &next)])).await;
    }
    let each = (written().await - before) / 10;
    assert!(each < 2048, "each change made the server log {each} bytes");
    let before = written().await;
    let to = session_key();
    apply(
        &store,
        &key,
        &Change::new(Kind::Move(to, now() + HOUR), now()),
    )
    .await;
    let moved = written().await - before;
    assert!(moved < 4096, "a move made the server log {moved} bytes");
}

#[tokio::test]
async fn extending_a_session_writes_no_index() {
    use session_runtime::Expiry;

    let Some(server) = PostgresServer::start() else {
        return;
    };
    let store = server.store(SystemClock::default()).await;
    let key = create(&store, &[slot("a", "0")]).await;
    for n in 0..100 {
        let [base, next] = [n, n + 1].map(|n| slot("a", n.to_string()));
        let change = Change {
            expiry: Expiry::Extend(now() + HOUR * (n + 2)),
            ..update([set(Some(&base), &next)])
        };
        apply(&store, &key, &change).await;
    }
    // Statistics are handed in when a connection closes.
    drop(store);
    let client = server.client().await;
    let counts = "SELECT relname::text, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE n_tup_upd > 0";
    let mut found = Vec::new();
    wait_for("both tables have all their updates", async || {
        let rows = client.query(counts, &[]).await.unwrap();
        found = rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect::<Vec<(String, i64, i64)>>();
        found.iter().map(|(_, all, _)| *all).eq([100, 100])
    })
    .await;
    for (table, all, hot) in found {
        assert!(
            hot >= 90,
            "{table}: {hot} of {all} updates left the indexes alone"
        );
    }
}
