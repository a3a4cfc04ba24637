//! Connections: few for many, lent and given back.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool, Runtime};
use session_runtime::SystemClock;
use session_runtime::store::{PostgresStore, Store, Swapped};
use session_tests::{PATIENCE, PostgresServer, Proxy, Tries, Wire, wait_for};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_postgres::{Client, Config, Error, NoTls};

use super::{create, loaded, put, race, session_key, slot, text_of};
use crate::records::{assert_leaving_is_free, most_while_asked, put_on_top};

const CLIENTS: usize = 200;

/// Opens a store of two connections, behind a proxy.
async fn two_connections(server: &PostgresServer, wait: Duration) -> (PostgresStore, Proxy) {
    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let options = server
        .options(SystemClock::default())
        .pool_size(2)
        .wait(wait);
    let store = options
        .connect(&server.url_at(proxy.address().port()))
        .expect("the URL is fine");
    wait_for("the tables can be made", async || {
        store.migrate().await.is_ok()
    })
    .await;
    (store, proxy)
}

/// Loads from as many tasks as there are clients; each says whether it was answered.
fn load_all(store: &PostgresStore) -> JoinSet<bool> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let store = store.clone();
        clients.spawn(async move {
            match store.load(&session_key()).await {
                Ok(found) => found.is_none(),
                Err(error) => {
                    assert!(error.is_transient(), "{error:?}");
                    false
                }
            }
        });
    }
    clients
}

async fn all_are_answered(clients: JoinSet<bool>) -> bool {
    clients
        .join_all()
        .await
        .into_iter()
        .all(|answered| answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_connections_serve_two_hundred_clients() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (store, proxy) = two_connections(server, PATIENCE).await;
    let loads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { create(&store, [slot("a", "1")]).await })
        })
        .collect();
    for load in loads {
        let (key, record) = load.await.expect("it is created");
        assert_eq!(store.load(&key).await.unwrap(), Some(record));
    }
    assert!(proxy.traffic().connections <= 2);
}

/// Loads until all are answered.
async fn insist_on_all(store: &PostgresStore) {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let store = store.clone();
        clients.spawn(async move { loaded(&store, &session_key()).await });
    }
    let answers = timeout(PATIENCE, clients.join_all()).await;
    assert!(
        answers
            .expect("some are never answered")
            .iter()
            .all(Option::is_none)
    );
}

/// Measures how long a store takes to be back, once its server speaks again.
async fn back_after_silence(store: &PostgresStore, proxy: &Proxy) -> Duration {
    insist_on_all(store).await;
    proxy.set(Wire::BlackHole);
    // But for the two who have asked, all are sent away, though nobody sets them a deadline.
    let mut clients = load_all(store);
    while clients.len() > 2 {
        let answered = clients.join_next().await.expect("some are left");
        assert!(
            !answered.expect("a passing error"),
            "nobody is answered by silence"
        );
    }
    // And these leave, as the layer does at its deadline.
    clients.shutdown().await;
    proxy.set(Wire::Open);
    let begun = Instant::now();
    assert_eq!(loaded(store, &session_key()).await, None);
    let back = begun.elapsed();
    insist_on_all(store).await;
    back
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_hangs_no_client_and_is_back_within_a_second() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (store, proxy) = two_connections(server, Duration::from_secs(2)).await;
    let (tries, mut back) = (Tries::begin(), Vec::new());
    while !back.iter().any(|back| *back < Duration::from_secs(1)) {
        tries.go_on(&back);
        back.push(back_after_silence(&store, &proxy).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_whose_clients_have_left_are_free_for_others_though_a_lock_is_held() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let clients = [server.client().await, server.client().await];
    assert_free_for_others(server, &server.url(), clients).await;
}

/// Who is told to stop a call is told so over TLS, too, where the URL requires it.
#[tokio::test(flavor = "multi_thread")]
async fn connections_with_tls_whose_clients_have_left_are_free_for_others_though_a_lock_is_held() {
    let Some(server) = PostgresServer::start_with_tls() else {
        return;
    };
    let clients = [server.watcher().await, server.watcher().await];
    let url = server.url() + "?sslmode=require";
    assert_free_for_others(&server, &url, clients).await;
}

/// Checks that calls which wait for a lock, and whose clients have left, keep connections from nobody.
async fn assert_free_for_others(
    server: &PostgresServer,
    url: &str,
    [mut client, watcher]: [Client; 2],
) {
    let options = server
        .options(SystemClock::default())
        .schema("left")
        .pool_size(2);
    let store = options.connect(url).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let (locked, before) = create(&store, []).await;
    let (free, mut of_free) = create(&store, []).await;
    let held = client.transaction().await.unwrap();
    let lock = "SELECT FROM \"left\".sessions WHERE key = $1 FOR UPDATE";
    held.execute(lock, &[&locked.to_string().into_bytes()])
        .await
        .unwrap();
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
    // The server is told to stop them. Whoever got the lock before that would write.
    let waiting = "SELECT count(*) FROM pg_stat_activity \
        WHERE wait_event_type = 'Lock' AND query LIKE '%\"left\"%'";
    let waiting = async || {
        watcher
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
    };
    while waiting().await > 0 {
        super::pause().await;
    }
    held.rollback().await.unwrap();
    put_on_top(&store, &locked, before).await;
}

/// Opens connections of which the client does not know where they lead, so that it can tell nobody to stop a call.
struct Blindly(u16);

type Connected<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl Connect for Blindly {
    fn connect(&self, config: &Config) -> Connected<'_> {
        let config = config.clone();
        Box::pin(async move {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.0)).await;
            let stream = stream.expect("the server is up");
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            Ok((client, tokio::spawn(async { drop(connection.await) })))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_does_not_cost_the_server_its_connections() {
    const SIZE: usize = 2;
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let watcher = server.client().await;
    for (schema, is_told) in [("told", true), ("untold", false)] {
        let url = server.url() + "?application_name=" + schema;
        let options = server.options(SystemClock::default()).schema(schema);
        let store = if is_told {
            options.pool_size(SIZE).connect(&url)
        } else {
            let config = url.parse().expect("the URL is fine");
            let connect = Blindly(server.port());
            let manager = Manager::from_connect(config, connect, ManagerConfig::default());
            let pool = Pool::builder(manager).max_size(SIZE);
            options.pool(pool.runtime(Runtime::Tokio1).build().expect("a pool"))
        };
        let store = store.expect("the URL and the names are fine");
        store.migrate().await.expect("the tables can be made");
        let mut client = server.client().await;
        // A busy server still shows one that has ended, or is told too late to end it.
        let (tries, mut found, mut within_a_second) = (Tries::begin(), Vec::new(), false);
        while !within_a_second || found.last().is_none_or(|most| *most > 2 * SIZE) {
            tries.go_on((schema, &found));
            let held = client.transaction().await.unwrap();
            // As `VACUUM FULL` does, for minutes.
            let lock = format!("LOCK TABLE {schema}.sessions IN ACCESS EXCLUSIVE MODE");
            held.batch_execute(&lock).await.unwrap();
            let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
            let counted = async || {
                let counted: i64 = watcher.query_one(count, &[&schema]).await.unwrap().get(0);
                usize::try_from(counted).unwrap()
            };
            found.push(most_while_asked(&store, counted).await);
            held.rollback().await.unwrap();
            let free = Instant::now();
            assert_eq!(loaded(&store, &session_key()).await, None);
            within_a_second = free.elapsed() < Duration::from_secs(1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_costs_no_connection() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (store, proxy) = two_connections(server, PATIENCE).await;
    let (key, _) = create(&store, [slot("a", "1")]).await;
    assert!(all_are_answered(load_all(&store)).await);
    assert_leaving_is_free(&store, &key, &proxy).await;
}

#[tokio::test]
async fn whoever_waits_for_a_connection_in_vain_is_told_why() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let options = || {
        let options = server.options(SystemClock::default());
        options.pool_size(1).schema("vain")
    };
    let patient = options().connect(&server.url()).unwrap();
    patient.migrate().await.unwrap();
    let (key, before) = create(&patient, []).await;
    let hasty = options().wait(Duration::from_millis(200));
    let store = hasty.connect(&server.url()).unwrap();
    assert!(loaded(&store, &key).await.is_some());
    let mut client = server.client().await;
    let held = client.transaction().await.unwrap();
    held.execute("SELECT FROM vain.sessions FOR UPDATE", &[])
        .await
        .unwrap();
    let after = Arc::new(before.next());
    let mut first = std::pin::pin!(store.swap(&key, Some(&before), &after));
    let error = tokio::select! {
        biased;
        load = async { super::pause().await; store.load(&key).await } => load.expect_err("the connection is in use"),
        _ = &mut first => panic!("the record is locked"),
    };
    assert!(error.is_transient() && !error.is_unknown(), "{error:?}");
    assert!(text_of(&error).contains("raise `pool_size`"), "{error:?}");
    held.rollback().await.unwrap();
    assert_eq!(first.await.expect("nobody is in the way"), Swapped::Done);

    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    proxy.set(Wire::BlackHole);
    let options = PostgresStore::options().wait(Duration::from_millis(200));
    let store = options
        .connect(&server.url_at(proxy.address().port()))
        .unwrap();
    let error = store.load(&key).await.expect_err("nobody answers");
    assert!(
        error.is_transient() && text_of(&error).contains("can be reached"),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_s_own_pool_will_do() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let pool = |runtime| {
        let manager = Manager::new(server.url().parse().expect("the URL is fine"), NoTls);
        let pool = Pool::builder(manager).max_size(2);
        let pool = match runtime {
            Some(runtime) => pool.runtime(runtime),
            None => pool,
        };
        pool.build().expect("a pool")
    };
    let shared = pool(Some(Runtime::Tokio1));
    let store = server
        .options(SystemClock::default())
        .pool(shared.clone())
        .expect("the names are fine");
    store.migrate().await.expect("the tables can be made");
    race(&store, 8, 5).await;
    assert!(shared.status().size <= 2);

    let without = server
        .options(SystemClock::default())
        .pool(pool(None))
        .expect("the names are fine");
    let error = without
        .load(&session_key())
        .await
        .expect_err("it cannot wait");
    assert!(
        !error.is_transient() && text_of(&error).contains("Runtime::Tokio1"),
        "{error:?}"
    );
    shared.close();
    let closed = server
        .options(SystemClock::default())
        .pool(shared)
        .expect("the names are fine");
    let error = closed.load(&session_key()).await.expect_err("it is closed");
    assert!(
        !error.is_transient() && text_of(&error).contains("closed"),
        "{error:?}"
    );
}
