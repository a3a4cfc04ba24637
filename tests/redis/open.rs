//! Opening a store, and what it says of itself.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionManagerConfig;
use session_runtime::store::{RedisStore, Store};
use session_runtime::{Change, Expiry, Key, Kind, SlotChange, Timestamp, UserId};
use session_tests::{PATIENCE, Port, RedisCluster, RedisServer};

use super::common::{TTL, apply, create, creation, end, session_key, slot, update};
use super::{now, successive_keys, wait_for};

async fn refusal(url: &str) -> String {
    refusal_within(PATIENCE, url).await
}

async fn refusal_within(patience: Duration, url: &str) -> String {
    let options = RedisStore::options().timeout(patience);
    let error = options.connect(url).await.expect_err("a refusal");
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("hunter2"), "it tells the password: {text}");
    }
    error.to_string()
}

#[tokio::test]
async fn what_is_no_url_of_a_server_is_said_to_be_none() {
    for url in [
        "",
        "127.0.0.1",
        "http://hunter2@127.0.0.1",
        "redis://:hunter2@/x/y",
        "redis://h:hunter2",
    ] {
        assert_eq!(
            refusal(url).await,
            "this is no URL of a Redis server: write `redis://user:password@host:6379/0`",
            "{url}"
        );
    }
    let tls = refusal("rediss://:hunter2@127.0.0.1").await;
    assert!(tls.contains("tokio-rustls-comp"), "{tls}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let held = Port::free();
    let port = held.number();
    assert_eq!(
        refusal(&format!("redis://:hunter2@127.0.0.1:{port}")).await,
        format!(
            "cannot connect to the Redis server at 127.0.0.1:{port}: check that it runs and listens there"
        )
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    server.freeze();
    let refusal = refusal_within(Duration::from_secs(1), &server.url()).await;
    let expected = format!(
        "the Redis server at 127.0.0.1:{} does not answer",
        server.port()
    );
    assert!(refusal.starts_with(&expected), "{refusal}");
}

#[tokio::test]
async fn a_wrong_password_is_not_repeated() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let () = server.command(&["ACL", "SETUSER", "app", "on", ">hunter2", "~*", "+@all"]);
    let at = format!("app:hunter2@127.0.0.1:{}", server.port());
    let store = super::connect(&format!("redis://{at}")).await;
    create(&store, now(), &[]).await;
    let debug = format!("{store:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
    assert!(debug.contains(&server.port().to_string()), "{debug}");

    let () = server.command(&["ACL", "SETUSER", "app", "resetpass", ">other"]);
    let refusal = refusal(&format!("redis://{at}")).await;
    assert!(refusal.contains("denies access"), "{refusal}");
}

/// What `docs/stores.md` says a user must be allowed.
pub(super) fn documented_acl() -> Vec<&'static str> {
    quoted_after("**ACL.** ")
}

/// The words of `docs/stores.md` that stand in backticks after this.
pub(super) fn quoted_after(text: &str) -> Vec<&'static str> {
    let (_, rest) = include_str!("../../docs/stores.md")
        .split_once(text)
        .expect("the docs have it");
    let words = rest.strip_prefix('`').and_then(|rest| rest.split_once('`'));
    words
        .expect("they are quoted")
        .0
        .split_whitespace()
        .collect()
}

/// What a server has refused to let anybody do. That the client may not say its name does no harm.
pub(super) fn denied(server: &RedisServer) -> Vec<String> {
    let denied: Vec<redis::Value> = server.command(&["ACL", "LOG"]);
    let denied = denied.iter().map(|entry| format!("{entry:?}"));
    denied
        .filter(|entry| !entry.contains("client|setinfo"))
        .collect()
}

#[tokio::test]
async fn what_the_docs_have_a_user_allowed_is_all_that_is_needed() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let mut user = vec!["ACL", "SETUSER", "app", "on", ">right", "~shop:*"];
    user.extend(documented_acl());
    let () = server.command(&user);
    let url = format!("redis://app:right@127.0.0.1:{}", server.port());
    let connect = async |prefix: &str| {
        let options = RedisStore::options().prefix(prefix).timeout(PATIENCE);
        options.connect(&url).await.expect("it is let in")
    };
    let store = connect("shop:").await;
    let ada = UserId::new("ada");
    let owned = |now, change| Change {
        owner: Some(ada.clone()),
        expiry: Expiry::Set(now),
        ..change
    };
    let past = Timestamp::from_millis(0);
    let over: [Key; 3] = std::array::from_fn(|_| session_key());
    for key in &over {
        apply(&store, key, &owned(past + TTL, creation(past, &[]))).await;
    }
    apply(&store, &over[0], &end(past)).await;
    let _: u64 = server.command(&["DEL", &format!("shop:{}", over[1])]);
    // By now it may be time to forget commits.
    apply(&store, &over[2], &update(past + TTL / 2, [])).await;
    {
        let [from, to] = successive_keys();
        let slots = [slot("a", "1"), slot("b", "1")];
        apply(&store, &from, &creation(past, &slots)).await;
        let base = |name| Arc::new(slot(name, "1"));
        let changes = [
            SlotChange::drop(base("a")),
            SlotChange::retime(base("b"), Some(past + TTL)),
        ];
        let forever = Timestamp::from_millis(i64::MAX);
        apply(&store, &from, &owned(forever, update(past, changes))).await;
        let rotate = Change::new(Kind::Move(to.clone(), past + TTL), past);
        apply(&store, &from, &rotate).await;
        apply(&store, &to, &Change::new(Kind::Claim(ada.clone()), past)).await;
        apply(&store, &to, &Change::new(Kind::Release(past), past)).await;
        assert!(store.owned_by(&ada).await.unwrap().contains(&to));
        apply(&store, &to, &end(past)).await;
    }
    let listed = || server.command::<u64>(&["ZCOUNT", "shop:owned:{ada}", "-inf", "99999999"]);
    assert_eq!(listed(), 2);
    // A login of today has what is of the past looked at.
    let login = owned(now() + TTL, creation(now(), &[]));
    apply(&store, &session_key(), &login).await;
    wait_for("it is looked at", async || listed() == 0).await;
    assert_eq!(denied(&server), Vec::<String>::new());

    let other = connect("other:").await;
    let error = other.load(&session_key()).await.expect_err("not its keys");
    assert!(!error.is_transient());
    let source = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(source.contains("may not do this"), "{source}");
}

#[tokio::test]
async fn a_prefix_must_leave_the_hash_tag_alone() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let options = RedisStore::options().prefix("{shop}:");
    let error = options.connect(&server.url()).await.expect_err("a refusal");
    assert_eq!(
        error.to_string(),
        "the prefix of the keys must contain no brace: leave it out"
    );
}

#[tokio::test]
async fn two_prefixes_are_two_stores() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (one, other) = (server.store().await, server.store().await);
    let key = create(&one, now(), &[]).await;
    assert!(one.load(&key).await.unwrap().is_some());
    assert!(other.load(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn a_connection_of_the_app_serves_as_well() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let client = redis::Client::open(server.url()).expect("a URL");
    let patient = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let manager = client.get_connection_manager_with_config(patient).await;
    let options = RedisStore::options().prefix("over:").timeout(PATIENCE);
    let store = options.over(manager.expect("it answers")).unwrap();
    let key = create(&store, now(), &[]).await;
    assert!(store.load(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn so_does_one_to_a_cluster() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    let nodes = cluster.nodes().iter().map(RedisServer::url);
    let client = redis::cluster::ClusterClientBuilder::new(nodes)
        .connection_timeout(PATIENCE)
        .response_timeout(PATIENCE)
        .build();
    let client = client.expect("URLs");
    let connection = client.get_async_connection().await.expect("it answers");
    let options = RedisStore::options().prefix("over:").timeout(PATIENCE);
    let store = options.over_cluster(connection).unwrap();
    let key = create(&store, now(), &[]).await;
    assert!(store.load(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn a_key_of_another_program_is_left_alone() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = super::connect(&server.url()).await;
    let () = server.command(&["SET", "user:{ada}", "theirs"]);
    let user = Key::User(UserId::new("ada"));
    for error in [
        store.load(&user).await.expect_err("no record"),
        store
            .commit(&user, &creation(now(), &[]))
            .await
            .expect_err("no room for one"),
    ] {
        assert!(!error.is_transient());
        let source = std::error::Error::source(&error).expect("a cause");
        assert!(
            source.to_string().contains("RedisOptions::prefix"),
            "{source}"
        );
    }
    assert_eq!(server.command::<String>(&["GET", "user:{ada}"]), "theirs");

    // Even if it is a hash, as records are.
    let () = server.command(&["HSET", "user:{42}", "email", "ada@example.com"]);
    let user = Key::User(UserId::new("42"));
    let login = store.commit(&user, &creation(now(), &[])).await;
    let error = login.expect_err("no room for a record");
    assert!(!error.is_transient());
    let source = std::error::Error::source(&error).expect("a cause");
    assert!(
        source.to_string().contains("RedisOptions::prefix"),
        "{source}"
    );
    let fields: Vec<String> = server.command(&["HGETALL", "user:{42}"]);
    assert_eq!(fields, ["email", "ada@example.com"]);
}

#[tokio::test]
async fn a_node_of_a_cluster_is_told_from_a_server() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    let store = super::connect(&cluster.nodes()[0].url()).await;
    let mut moved = None;
    for _ in 0..100 {
        if let Err(error) = store.load(&session_key()).await {
            moved = std::error::Error::source(&error).map(ToString::to_string);
        }
    }
    let moved = moved.expect("two thirds of the keys are elsewhere");
    assert!(moved.contains("connect_cluster"), "{moved}");
}

#[tokio::test]
async fn a_record_of_a_newer_format_is_left_alone() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = super::connect(&server.url()).await;
    let user = Key::User(UserId::new("ada"));
    let newer = "2 L 9 9 9 and more";
    let () = server.command(&["HSET", "user:{ada}", "record", newer]);
    let errors = [
        store.load(&user).await.expect_err("unreadable"),
        store
            .commit(&user, &creation(now(), &[]))
            .await
            .expect_err("unreadable"),
    ];
    for error in errors {
        assert!(!error.is_transient());
        let source = std::error::Error::source(&error).expect("a cause");
        assert!(source.to_string().contains("version"), "{source}");
    }
    let kept: String = server.command(&["HGET", "user:{ada}", "record"]);
    assert_eq!(kept, newer);
}
