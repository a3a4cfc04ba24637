//! A primary that sentinels name, and another after a failover.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use session_runtime::Key;
use session_runtime::store::{RedisStore, Store, Swapped};
use session_tests::{
    PATIENCE, Port, Proxy, RedisSentinels, RedisServer, connect_to_redis, wait_for,
};

use super::{calls, create, load, next, number, passing, put, record, repeat, session_key, slot};

/// Adds one to slot `n` of a record of its own again and again, whatever fails, and checks that each swap is applied once at
/// most.
#[derive(Clone)]
struct Counter {
    store: RedisStore,
    key: Key,
    counted: Arc<AtomicUsize>,
    /// What is never lost: the replica has it.
    floor: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Counter {
    fn new(store: &RedisStore, stop: &Arc<AtomicBool>) -> Self {
        Self {
            store: store.clone(),
            key: session_key(),
            counted: Arc::default(),
            floor: Arc::default(),
            stop: Arc::clone(stop),
        }
    }

    async fn run(self) {
        let mut before = record([slot("n", "0")]);
        repeat(&self.store, &self.key, None, &before).await;
        while !self.stop.load(Ordering::SeqCst) {
            let after = next(&before, [slot("n", (number(&before) + 1).to_string())]);
            before = match self.store.swap(&self.key, Some(&before), &after).await {
                Ok(Swapped::Done) => {
                    self.counted.fetch_add(1, Ordering::SeqCst);
                    after
                }
                // It was applied before its answer was lost, or the last few are lost with the former primary.
                Ok(Swapped::Stale(found)) => {
                    let found = found.expect("the replica had the record");
                    assert!(number(&found) <= number(&after), "it is applied twice");
                    assert!(number(&found) >= self.floor.load(Ordering::SeqCst));
                    found
                }
                Err(error) => {
                    assert!(error.is_transient() || error.is_refused(), "{error:?}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    before
                }
            };
        }
    }

    fn counted(&self) -> usize {
        self.counted.load(Ordering::SeqCst)
    }

    /// Notes how far it has come, as the replica has it.
    async fn replicated(&self, replica: &RedisServer) {
        let replica = super::connect(&replica.url()).await;
        let goal = self.counted();
        wait_for("the replica has it", async || {
            let found = replica.load(&self.key).await.expect("an answer");
            let found = found.as_ref().map_or(0, number);
            self.floor.store(found, Ordering::SeqCst);
            found >= goal && goal > 0
        })
        .await;
    }
}

/// Counters that go on while `fail` makes another server the primary, and have counted on by then.
async fn goes_on(sentinels: &RedisSentinels, fail: impl AsyncFnOnce()) {
    let (store, stop) = (super::connect(&sentinels.url()).await, Arc::default());
    let counters: Vec<_> = (0..8).map(|_| Counter::new(&store, &stop)).collect();
    let runs: Vec<_> = counters
        .iter()
        .cloned()
        .map(|counter| tokio::spawn(counter.run()))
        .collect();
    let [_, replica] = sentinels.servers();
    for counter in &counters {
        wait_for("it counts", async || counter.counted() > 10).await;
        counter.replicated(replica).await;
    }
    fail().await;
    let new_primary = super::connect(&replica.url()).await;
    for counter in &counters {
        let seen = number(&load(&new_primary, &counter.key).await);
        assert!(seen >= counter.floor.load(Ordering::SeqCst));
        wait_for("it counts on, there", async || {
            number(&load(&new_primary, &counter.key).await) > seen + 10
        })
        .await;
    }
    stop.store(true, Ordering::SeqCst);
    for run in runs {
        run.await.expect("it counts to the end");
    }
    for counter in counters {
        assert_eq!(
            load(&store, &counter.key).await,
            load(&new_primary, &counter.key).await
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_writes_go_on_where_the_replica_was() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    goes_on(&sentinels, async || sentinels.fail_over()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_killed_and_comes_back_empty_is_not_written_to() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let [old, _] = sentinels.servers();
    goes_on(&sentinels, async || {
        old.kill();
        sentinels.hurry();
        // It keeps nothing on its disk, and takes itself for a primary until the sentinels tell it otherwise.
        old.restart();
    })
    .await;
    assert_eq!(calls(old, "evalsha") + calls(old, "eval"), 0);
}

#[tokio::test]
async fn a_primary_that_stands_still_is_left_for_the_next() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let store = connect_to_redis(&RedisStore::options(), &sentinels.url()).await;
    let [old, new_primary] = sentinels.servers();
    let (key, created) = {
        let patient = super::connect(&sentinels.url()).await;
        create(&patient, [slot("n", "0")]).await
    };
    wait_for("the replica has it", async || {
        new_primary.command::<u64>(&["DBSIZE"]) == 1
    })
    .await;
    old.freeze();
    passing(&store.load(&key).await.expect_err("nobody answers"));
    sentinels.hurry();
    let after = next(&created, [slot("n", "1")]);
    repeat(&store, &key, Some(&created), &after).await;
    assert_eq!(
        load(&super::connect(&new_primary.url()).await, &key).await,
        after
    );
    old.thaw();
}

fn address(server: &RedisServer) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))
}

/// Connects by the sentinel at that port a store that waits a second for whatever it asks.
async fn impatient(sentinel: u16) -> RedisStore {
    let url = format!("redis+sentinel://127.0.0.1:{sentinel}/shop");
    let options = RedisStore::options().timeout(Duration::from_secs(1));
    connect_to_redis(&options, &url).await
}

/// The sentinels have no say in it: to them the server is well, and the same as before.
#[tokio::test]
async fn a_connection_to_the_primary_on_which_nobody_answers_is_given_up() {
    let (Some(silent), Some(other)) = (RedisServer::start(&[]), RedisServer::start(&[])) else {
        return;
    };
    let proxy = Proxy::open(address(&silent));
    let sentinel = RedisSentinels::one(proxy.address().port(), &[]);
    let sentinel = sentinel.expect("what has a server has a sentinel");
    let (store, key) = (impatient(sentinel.port()).await, session_key());
    repeat(&store, &key, None, &record([])).await;
    silent.freeze();
    proxy.lead_to(address(&other));
    // The other has no such record, and says so.
    wait_for("the other answers", async || {
        matches!(store.load(&key).await, Ok(None))
    })
    .await;
    silent.thaw();
}

#[tokio::test]
async fn a_connection_to_a_sentinel_on_which_nobody_answers_is_given_up() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let sentinel = || RedisSentinels::one(server.port(), &[]).expect("what has a server has one");
    let (silent, other) = (sentinel(), sentinel());
    let proxy = Proxy::open(address(&silent));
    let store = impatient(proxy.address().port()).await;
    silent.freeze();
    proxy.lead_to(address(&other));
    let _: u64 = server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait_for("the other is asked", async || {
        store.load(&session_key()).await.is_ok()
    })
    .await;
    silent.thaw();
}

#[tokio::test]
async fn another_primary_is_gone_over_to_though_the_former_one_still_answers() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let store = super::connect(&sentinels.url()).await;
    let [old, new_primary] = sentinels.servers();
    let (key, created) = create(&store, []).await;
    wait_for("the replica has it", async || {
        new_primary.command::<u64>(&["DBSIZE"]) == 1
    })
    .await;
    new_primary.promote();
    sentinels.name(new_primary);
    let () = old.command(&["DEL", &key.to_string()]);
    wait_for("it is asked there", async || {
        store.load(&key).await.unwrap() == Some(created.clone())
    })
    .await;
}

#[tokio::test]
async fn a_primary_that_has_become_a_replica_is_asked_for_nothing() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let store = super::connect(&sentinels.url()).await;
    let [old, new_primary] = sentinels.servers();
    let (key, created) = create(&store, [slot("n", "0")]).await;
    wait_for("the replica has it", async || {
        new_primary.command::<u64>(&["DBSIZE"]) == 1
    })
    .await;
    // The connection stays, and the sentinels do not know yet.
    new_primary.promote();
    old.follow(new_primary);
    let after = next(&created, [slot("n", "1")]);
    passing(
        &store
            .swap(&key, Some(&created), &after)
            .await
            .expect_err("READONLY"),
    );
    passing(&store.load(&key).await.expect_err("it is a replica"));
    sentinels.name(new_primary);
    repeat(&store, &key, Some(&created), &after).await;
    assert_eq!(load(&store, &key).await, after);
}

/// Returns `true` if a script has come and waits until it may write.
fn is_waiting(server: &RedisServer) -> bool {
    let clients: String = server.command(&["CLIENT", "LIST"]);
    let mut clients = clients.lines();
    clients.any(|client| client.contains("flags=b") && client.contains("cmd=evalsha"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_whose_connection_to_the_primary_breaks_is_not_repeated_unseen() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let store = super::connect(&sentinels.url()).await;
    let [primary, _] = sentinels.servers();
    let (key, before) = create(&store, [slot("n", "0")]).await;
    let after = next(&before, [slot("n", "1")]);
    let () = primary.command(&["CLIENT", "PAUSE", "1000000", "WRITE"]);
    let swap = {
        let (store, key, before, after) =
            (store.clone(), key.clone(), before.clone(), after.clone());
        tokio::spawn(async move { store.swap(&key, Some(&before), &after).await })
    };
    wait_for("it has come", async || is_waiting(primary)).await;
    let _: u64 = primary.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait_for("it is answered", async || {
        assert!(!is_waiting(primary), "it has come again");
        swap.is_finished()
    })
    .await;
    let error = swap.await.unwrap().expect_err("nobody knows");
    assert!(error.is_unknown(), "{error:?}");
    let () = primary.command(&["CLIENT", "UNPAUSE"]);
    repeat(&store, &key, Some(&before), &after).await;
}

#[tokio::test]
async fn a_connection_that_has_broken_costs_no_load() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let store = super::connect(&sentinels.url()).await;
    let (key, created) = create(&store, []).await;
    for _ in 0..10 {
        let servers = sentinels.servers().into_iter().chain(sentinels.sentinels());
        for server in servers {
            let _: u64 = server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
        assert_eq!(load(&store, &key).await, created);
    }
}

#[tokio::test]
async fn one_sentinel_of_three_is_enough() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let [killed, frozen, _] = sentinels.sentinels() else {
        panic!("three sentinels");
    };
    let store = super::connect(&sentinels.url()).await;
    let (key, created) = create(&store, []).await;
    killed.kill();
    frozen.freeze();
    let patient = RedisStore::options().timeout(Duration::from_secs(20));
    let another = patient
        .connect(&sentinels.url())
        .await
        .expect("one answers");
    assert_eq!(load(&another, &key).await, created);
    let [primary, _] = sentinels.servers();
    let _: u64 = primary.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait_for("it is found again", async || store.load(&key).await.is_ok()).await;
    frozen.thaw();
}

#[tokio::test]
async fn a_sentinel_that_was_cut_off_from_the_others_does_not_decide() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    sentinels.fail_over();
    let [others @ .., cut_off] = sentinels.sentinels() else {
        panic!("three sentinels");
    };
    others.iter().for_each(RedisServer::freeze);
    let [former, now] = sentinels.servers();
    let former = former.port().to_string();
    let () = cut_off.command(&["SENTINEL", "REMOVE", "shop"]);
    let () = cut_off.command(&["SENTINEL", "MONITOR", "shop", "127.0.0.1", &former, "2"]);
    let url = sentinels.url();
    let connecting = tokio::spawn(async move { super::connect(&url).await });
    wait_for("it has answered", async || {
        let clients: String = cut_off.command(&["CLIENT", "LIST"]);
        clients.contains("cmd=sentinel|get-master-addr-by-name")
    })
    .await;
    others.iter().for_each(RedisServer::thaw);
    let store = connecting.await.expect("the others name the primary");
    create(&store, []).await;
    assert_eq!(calls(now, "evalsha"), 1);
}

/// Returns what `connect` says of this URL.
async fn refusal(url: &str) -> String {
    let error = RedisStore::options().timeout(PATIENCE).connect(url).await;
    let error = error.expect_err("a refusal");
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("hunter2"), "it tells the password: {text}");
    }
    error.to_string()
}

#[tokio::test]
async fn what_is_no_url_of_sentinels_is_said_to_be_none() {
    for url in [
        "redis+sentinel://127.0.0.1",
        "redis+sentinel://:hunter2@127.0.0.1,/shop",
        "redis+sentinel://:hunter2@127.0.0.1/shop/x",
        "redis-sentinel://:hunter2@127.0.0.1/shop",
    ] {
        assert_eq!(
            refusal(url).await,
            "this is no URL of Redis sentinels: write `redis+sentinel://user:password@host:26379,host:26379/service/0`",
            "{url}"
        );
    }
}

#[tokio::test]
async fn sentinels_that_are_not_there_are_named() {
    let (one, other) = (Port::free(), Port::free());
    let (one, other) = (one.address(), other.address());
    assert_eq!(
        refusal(&format!("redis+sentinel://:hunter2@{one},{other}/shop")).await,
        format!(
            "cannot ask for the primary of `shop` by the sentinels at {one}, {other}: check that the sentinels run and listen there"
        ),
    );
}

#[tokio::test]
async fn a_service_that_no_sentinel_knows_is_named() {
    let Some(sentinels) = RedisSentinels::shared() else {
        return;
    };
    let refusal = refusal(&sentinels.url().replace("/shop", "/chop")).await;
    assert!(
        refusal.starts_with("no service is called `chop`"),
        "{refusal}"
    );
    assert!(refusal.contains("`sentinel monitor`"), "{refusal}");
}

#[tokio::test]
async fn a_server_that_is_no_sentinel_is_told_from_one() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let refusal = refusal(&format!(
        "redis+sentinel://127.0.0.1:{}/shop",
        server.port()
    ))
    .await;
    assert!(
        refusal.contains("sentinels run and listen there"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_primary_that_is_away_is_named_with_its_sentinels() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let [primary, replica] = sentinels.servers();
    let port = primary.port();
    primary.kill();
    let away = refusal(&sentinels.url()).await;
    let expected = format!(
        "cannot connect to the Redis server at 127.0.0.1:{port}, the primary of `shop` by the sentinels at "
    );
    assert!(away.starts_with(&expected), "{away}");
    sentinels.name(replica);
    let replica = refusal(&sentinels.url()).await;
    assert!(replica.contains("is a replica"), "{replica}");
}

#[tokio::test]
async fn passwords_of_the_sentinels_and_of_the_primary_are_two() {
    let Some(sentinels) = RedisSentinels::start(&[]) else {
        return;
    };
    let [primary, _] = sentinels.servers();
    let mut app = vec!["ACL", "SETUSER", "app", "on", ">p@ss", "~*"];
    app.extend(super::open::documented_acl());
    app.extend(super::open::quoted_after("Behind sentinels "));
    let () = primary.command(&app);
    let mut user = vec!["ACL", "SETUSER", "watch", "on", ">hunter2", "resetchannels"];
    user.extend(super::open::quoted_after(
        "Its user on the sentinels needs ",
    ));
    for sentinel in sentinels.sentinels() {
        let () = sentinel.command(&user);
    }
    let url = sentinels.url().replace("://", "://app:p%40ss@");
    let let_in = format!("{url}?sentinel_username=watch&sentinel_password=hunter2");
    let store = super::connect(&let_in).await;
    let (key, created) = create(&store, []).await;
    let changed = next(&created, [slot("a", "1")]);
    put(&store, &key, Some(&created), &changed).await;
    assert_eq!(super::open::denied(primary), Vec::<String>::new());
    for sentinel in sentinels.sentinels() {
        assert_eq!(super::open::denied(sentinel), Vec::<String>::new());
    }
    let debug = format!("{store:?} {}", Store::name(&store));
    assert!(
        !debug.contains("hunter2") && !debug.contains("p@ss"),
        "{debug}"
    );
    assert!(debug.contains("`shop`"), "{debug}");

    let wrong = refusal(&let_in.replace("=hunter2", "=hunter2hunter2")).await;
    assert!(wrong.contains("`sentinel_password`"), "{wrong}");
    let wrong = refusal(&let_in.replace("p%40ss", "hunter2")).await;
    assert!(wrong.contains("denies access"), "{wrong}");
}
