//! What goes over the wire, and what the server has to write for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use session_runtime::store::{PostgresStore, Record, Store, Swapped};
use session_runtime::{Key, SystemClock};
use session_tests::{PostgresServer, Proxy, wait_for};
use tokio_postgres::Client;

use super::{HOUR, create, noise, now, put, record, session_key, slot, with};

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
    create(&store, [slot("a", "1")]).await;
    let (key, before) = create(&store, [slot("b", noise(300))]).await;
    let small = with(&before, slot("a", "1"));
    put(&store, &key, Some(&before), &small).await;
    put(
        &store,
        &key,
        Some(&small),
        &with(&small, slot("b", noise(300))),
    )
    .await;
    store.load(&key).await.expect("an answer");
    proxy.traffic();
    (store, proxy)
}

#[tokio::test]
async fn every_call_is_one_round_trip_and_a_stale_swap_two() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    for prepare in [true, false] {
        let (store, proxy) = counted(server, prepare).await;
        let is = |trips: usize, call: &str| {
            assert_eq!(proxy.traffic().round_trips, trips, "{call}");
        };
        let key = session_key();
        store.load(&key).await.unwrap();
        is(1, "loading nothing");
        let mut before = record([slot("a", "1")]);
        put(&store, &key, None, &before).await;
        is(1, "a create");
        let (_, large) = create(&store, [slot("a", "1"), slot("b", noise(300))]).await;
        is(1, "a create with something beside");
        let afters = [
            with(&before, slot("a", "2")),
            with(&before, slot("b", noise(300))),
            record([slot("b", noise(300)), slot("c", noise(300))]),
            record([slot("c", noise(300))]),
        ];
        for after in afters {
            put(&store, &key, Some(&before), &after).await;
            is(1, "a swap");
            assert_eq!(store.load(&key).await.unwrap(), Some(after.clone()));
            is(1, "a load");
            before = after;
        }
        let stale = store.swap(&key, Some(&large), &record([])).await.unwrap();
        assert_eq!(stale, Swapped::Stale(Some(before.clone())));
        is(2, "a stale swap");
        let stale = store.swap(&key, None, &record([])).await.unwrap();
        assert_eq!(stale, Swapped::Stale(Some(before)));
        is(2, "a stale create");
        store.sweep(10).await.unwrap();
        is(1, "a sweep");
    }
}

/// A session of 64 KiB that compression makes nothing of, with one small field.
async fn large_session(store: &PostgresStore) -> (Key, Arc<Record>) {
    create(store, [slot("large", noise(64 << 10)), slot("small", "1")]).await
}

#[tokio::test]
async fn a_small_change_of_a_large_session_sends_little() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (store, proxy) = counted(server, true).await;
    let (key, before) = large_session(&store).await;
    proxy.traffic();
    let after = with(&before, slot("small", "2"));
    put(&store, &key, Some(&before), &after).await;
    let sent = proxy.traffic();
    assert!(sent.up < 1024, "{sent:?}");
    assert!(sent.down < 1024, "{sent:?}");
}

/// Returns how much the server has logged, in bytes.
async fn logged(client: &Client) -> i64 {
    let position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    client.query_one(position, &[]).await.unwrap().get(0)
}

/// Changes the slot `small` a hundred times, and returns how much the server has logged each time.
async fn logged_by_each(
    client: &Client,
    store: &PostgresStore,
    (key, mut record): (Key, Arc<Record>),
) -> i64 {
    let begun = logged(client).await;
    for n in 0..100 {
        let after = with(&record, slot("small", n.to_string()));
        put(store, &key, Some(&record), &after).await;
        record = after;
    }
    (logged(client).await - begun) / 100
}

#[tokio::test]
async fn a_small_change_has_the_server_log_little() {
    // By itself, and without whole pages after a checkpoint: what is counted is these changes'.
    let Some(server) = PostgresServer::start() else {
        return;
    };
    let (client, store) = (
        server.client().await,
        server.store(SystemClock::default()).await,
    );
    let cart = r#"{"anchor-lamp":1,"tide-mug":2,"heron-teapot":1,"samphire-vase":3}"#;
    let small = create(&store, [slot("cart", cart), slot("small", "1")]).await;
    let each = logged_by_each(&client, &store, small).await;
    assert!(each < 450, "of a small session: {each} bytes");
    let large = large_session(&store).await;
    let each = logged_by_each(&client, &store, large).await;
    assert!(each < 450, "of a large session: {each} bytes");
    // As many small fields as the record's own row takes.
    let many = (0..40).map(|n| slot(&format!("field-{n}"), noise(50)));
    let large = [slot("large", noise(64 << 10)), slot("small", "1")];
    let full = create(&store, many.chain(large)).await;
    let each = logged_by_each(&client, &store, full).await;
    assert!(
        each < 4096,
        "of a large session of many fields: {each} bytes"
    );
}

#[tokio::test]
async fn extending_a_session_writes_no_index() {
    let Some(server) = PostgresServer::start() else {
        return;
    };
    let store = server.store(SystemClock::default()).await;
    let (key, mut before) = create(&store, [slot("a", "0")]).await;
    for n in 1..=100 {
        let after = Record::new(now(), now() + HOUR * (n + 1));
        let after = Arc::new(after.with_slots([slot("a", n.to_string())]));
        put(&store, &key, Some(&before), &after).await;
        before = after;
    }
    // Statistics are handed in when a connection closes.
    drop(store);
    let client = server.client().await;
    let counts = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE n_tup_upd > 0";
    let mut hot: i64 = 0;
    wait_for("the table has all its updates", async || {
        let rows = client.query(counts, &[]).await.unwrap();
        hot = rows.first().map_or(0, |row| row.get(1));
        rows.iter().map(|row| row.get::<_, i64>(0)).eq([100])
    })
    .await;
    assert!(hot >= 90, "{hot} of 100 updates left the indexes alone");
}
