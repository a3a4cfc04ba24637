//! Connections: few for many, lent and given back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};
use session_runtime::SystemClock;
use session_runtime::store::{MysqlOptions, MysqlStore, Store, Swapped};
use session_tests::{MysqlServer, PATIENCE, Proxy, Tries, Wire};
use tokio::time::{Instant, timeout};

use super::{count, create, loaded, pause, put, race, session_key, slot, text_of, through_a_proxy};
use crate::records::{assert_leaving_is_free, most_while_asked, put_on_top};

#[tokio::test(flavor = "multi_thread")]
async fn connections_whose_clients_have_left_are_free_for_others_though_a_lock_is_held() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let options = server.options(SystemClock::default());
    let store = options.database("left").pool_size(2);
    let store = store.connect(&server.url()).expect("the URL is fine");
    MysqlServer::make_tables(&store).await;
    let (locked, before) = create(&store, []).await;
    let (free, mut of_free) = create(&store, []).await;
    let mut held = server.client().await;
    held.query_drop("START TRANSACTION").await.unwrap();
    let lock = format!("SELECT 1 FROM `left`.sessions WHERE `key` = '{locked}' FOR UPDATE");
    held.query_drop(lock).await.unwrap();
    // Both connections wait for the lock, and then nobody waits for them.
    let (tries, mut within_a_second) = (Tries::begin(), 0);
    while within_a_second < 2 {
        tries.go_on("within a second");
        let afters = [(); 2].map(|()| Arc::new(before.next()));
        let both = async {
            tokio::join!(
                store.swap(&locked, Some(&before), &afters[0]),
                store.swap(&locked, Some(&before), &afters[1])
            )
        };
        assert!(timeout(Duration::from_millis(100), both).await.is_err());
        let after = Arc::new(of_free.next());
        let begun = Instant::now();
        put(&store, &free, Some(&of_free), &after).await;
        of_free = after;
        within_a_second += usize::from(begun.elapsed() < Duration::from_secs(1));
    }
    // The server is told to end them. Whoever got the lock before that would write.
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
        WHERE db = 'left' AND command = 'Query'";
    while held.query_first::<usize, _>(waiting).await.unwrap() != Some(0) {
        pause().await;
    }
    held.query_drop("ROLLBACK").await.unwrap();
    put_on_top(&store, &locked, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_does_not_cost_the_server_its_connections() {
    const SIZE: usize = 2;
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let mut client = server.client().await;
    client.query_drop("CREATE DATABASE walled").await.unwrap();
    let url = server.url().replace("/test", "/walled");
    let options = MysqlStore::options().pool_size(SIZE).wait(PATIENCE);
    let store = options.connect(&url).expect("the URL is fine");
    MysqlServer::make_tables(&store).await;
    let mut held = server.client().await;
    let connections = "SELECT count(*) FROM information_schema.processlist WHERE db = 'walled'";
    // A busy server still shows one that has ended, or is told too late to end it.
    let (tries, mut found) = (Tries::begin(), Vec::new());
    while found.last().is_none_or(|most| *most > 2 * SIZE) {
        tries.go_on(&found);
        // As `ALTER TABLE` does, for minutes.
        let lock = "LOCK TABLES walled.sessions WRITE";
        held.query_drop(lock).await.unwrap();
        let counted = async || count(&mut client, connections).await;
        found.push(most_while_asked(&store, counted).await);
        held.query_drop("UNLOCK TABLES").await.unwrap();
        assert_eq!(loaded(&store, &session_key()).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_costs_no_connection() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let (store, proxy) = through_a_proxy(server).await;
    let (key, _) = create(&store, [slot("a", "1")]).await;
    store.load(&key).await.expect("an answer");
    assert_leaving_is_free(&store, &key, &proxy).await;
}

#[tokio::test]
async fn whoever_waits_for_a_connection_in_vain_is_told_why() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let options = || {
        let options = server.options(SystemClock::default());
        options.pool_size(1).database("vain")
    };
    let patient = options().connect(&server.url()).unwrap();
    patient.migrate().await.unwrap();
    let (key, before) = create(&patient, []).await;
    let hasty = options().wait(Duration::from_millis(200));
    let store = hasty.connect(&server.url()).unwrap();
    assert!(loaded(&store, &key).await.is_some());
    let mut held = server.client().await;
    let lock = "START TRANSACTION; SELECT 1 FROM vain.sessions FOR UPDATE";
    held.query_drop(lock).await.unwrap();
    let after = Arc::new(before.next());
    let mut first = std::pin::pin!(store.swap(&key, Some(&before), &after));
    let error = tokio::select! {
        biased;
        load = async { pause().await; store.load(&key).await } => load.expect_err("the connection is in use"),
        _ = &mut first => panic!("the record is locked"),
    };
    assert!(error.is_transient() && !error.is_unknown(), "{error:?}");
    assert!(text_of(&error).contains("raise `pool_size`"), "{error:?}");
    held.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(first.await.expect("nobody is in the way"), Swapped::Done);

    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    proxy.set(Wire::BlackHole);
    let options = MysqlStore::options().wait(Duration::from_millis(200));
    let url = server.url_at(proxy.address().port());
    let store = options.connect(&url).unwrap();
    let error = store
        .load(&session_key())
        .await
        .expect_err("nobody answers");
    assert!(
        error.is_transient() && text_of(&error).contains("can be reached"),
        "{error:?}"
    );
}

/// The app's own pool, with whatever it tells its connections.
fn pool_of(server: &MysqlServer, setup: &[&str]) -> Pool {
    let size = PoolOpts::new().with_constraints(PoolConstraints::new(2, 2).expect("some"));
    let opts = Opts::from_url(&server.url()).expect("the URL is fine");
    let opts = OptsBuilder::from_opts(opts).prefer_socket(false);
    Pool::new(opts.setup(setup.to_vec()).pool_opts(size))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_s_own_pool_will_do_whatever_it_tells_its_connections() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let odd = "SET autocommit = 0, tx_isolation = 'READ-UNCOMMITTED'";
    for setup in [
        &[][..],
        &[MysqlOptions::SETUP],
        &[odd],
        &["SET tx_isolation = 'SERIALIZABLE'"],
    ] {
        let pool = pool_of(server, setup);
        let options = server.options(SystemClock::default());
        let store = options.pool(pool.clone()).expect("the names are fine");
        MysqlServer::make_tables(&store).await;
        race(&store, 8, 5).await;
        // The app's own statements are as it has set them.
        let mut conn = pool.get_conn().await.expect("a connection");
        let now: Option<(String, u8)> = conn
            .query_first("SELECT @@tx_isolation, @@autocommit")
            .await
            .expect("an answer");
        let expected = match setup {
            [MysqlOptions::SETUP] => ("READ-COMMITTED", 1),
            [setup] if *setup == odd => ("READ-UNCOMMITTED", 0),
            [_] => ("SERIALIZABLE", 1),
            _ => ("REPEATABLE-READ", 1),
        };
        let (isolation, autocommit) = now.expect("a row");
        assert_eq!((isolation.as_str(), autocommit), expected);
    }
    let closed = pool_of(server, &[]);
    let options = server.options(SystemClock::default());
    let store = options.pool(closed.clone()).expect("the names are fine");
    closed.disconnect().await.expect("it closes");
    let error = store.load(&session_key()).await.expect_err("it is closed");
    assert!(
        !error.is_transient() && text_of(&error).contains("disconnected"),
        "{error:?}"
    );
}
