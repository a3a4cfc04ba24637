//! Opening a store, and what it says of itself.

use std::time::Duration;

use redis::aio::ConnectionManagerConfig;
use session_runtime::store::{RedisStore, Store, Swapped};
use session_runtime::{Key, Timestamp, UserId};
use session_tests::{PATIENCE, Port, RedisCluster, RedisServer};

use super::{
    TTL, create, expiring, load, next, now, put, record, session_key, slot, tombstone, without,
};

async fn refusal(url: &str) -> String {
    refusal_within(PATIENCE, url).await
}

async fn refusal_within(patience: Duration, url: &str) -> String {
    let options = RedisStore::options().timeout(patience);
    let error = options.connect(url).await.expect_err("a refusal");
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("hunter2"), "it tells the password: {text}");
        let said: Vec<&str> = text.split(": ").collect();
        assert!(said.windows(2).all(|pair| pair[0] != pair[1]), "{text}");
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
    create(&store, []).await;
    let debug = format!("{store:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
    assert!(debug.contains(&server.port().to_string()), "{debug}");

    let () = server.command(&["ACL", "SETUSER", "app", "resetpass", ">other"]);
    let refusal = refusal(&format!("redis://{at}")).await;
    assert!(refusal.contains("denies access"), "{refusal}");
}

/// Reads what `docs/stores.md` says a user must be allowed.
pub(super) fn documented_acl() -> Vec<&'static str> {
    quoted_after("**ACL.** ")
}

/// The words of `docs/stores.md` that stand in backticks after this.
pub(super) fn quoted_after(text: &str) -> Vec<&'static str> {
    let (_, rest) = include_str!("../../../docs/stores.md")
        .split_once(text)
        .expect("the docs have it");
    let words = rest.strip_prefix('`').and_then(|rest| rest.split_once('`'));
    words
        .expect("they are quoted")
        .0
        .split_whitespace()
        .collect()
}

/// Returns what a server has refused to let anybody do. That the client may not say its name does no harm.
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
    let key = session_key();
    let created = record([slot("a", "1"), slot("large", vec![b'x'; 4 << 10])]);
    let smaller = without(&created, "large");
    let forever = expiring(&smaller, Timestamp::from_millis(i64::MAX));
    let mortal = expiring(&forever, now() + TTL);
    let ended = tombstone(&mortal);
    let mut before = None;
    for after in [&created, &smaller, &forever, &mortal, &ended] {
        put(&store, &key, before, after).await;
        assert_eq!(load(&store, &key).await, *after);
        before = Some(after);
    }
    let late = next(&created, [slot("b", "1")]);
    store
        .swap(&key, Some(&created), &late)
        .await
        .expect("it is stale");
    store
        .swap(&key, None, &record([]))
        .await
        .expect("it is stale");
    let scanned = store.scan(None, 10).await.expect("it may look");
    assert_eq!(scanned.keys, [key]);
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
async fn two_prefixes_are_two_stores() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (one, other) = (server.store().await, server.store().await);
    let (key, _) = create(&one, []).await;
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
    let store = options.over(manager.expect("it answers"));
    let (key, _) = create(&store, []).await;
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
    let store = options.over_cluster(connection);
    let (key, _) = create(&store, []).await;
    assert!(store.load(&key).await.unwrap().is_some());
}

/// Checks that neither a load nor a creation of this user's record succeeds, and that both say so.
async fn is_in_the_way(store: &RedisStore, user: &Key, words: &str) {
    for error in [
        store.load(user).await.expect_err("no record"),
        store
            .swap(user, None, &record([]))
            .await
            .expect_err("no room for one"),
    ] {
        assert!(!error.is_transient());
        let source = std::error::Error::source(&error).expect("a cause");
        assert!(source.to_string().contains(words), "{source}");
    }
}

#[tokio::test]
async fn a_key_of_another_program_is_left_alone() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = super::connect(&server.url()).await;
    let () = server.command(&["SET", "user:ada", "theirs"]);
    let user = Key::User(UserId::new("ada"));
    is_in_the_way(&store, &user, "RedisOptions::prefix").await;
    assert_eq!(server.command::<String>(&["GET", "user:ada"]), "theirs");

    // Even if it is a hash, as records are.
    let () = server.command(&["HSET", "user:42", "email", "ada@example.com"]);
    let user = Key::User(UserId::new("42"));
    is_in_the_way(&store, &user, "RedisOptions::prefix").await;
    let fields: Vec<String> = server.command(&["HGETALL", "user:42"]);
    assert_eq!(fields, ["email", "ada@example.com"]);
}

#[tokio::test]
async fn a_record_of_a_newer_format_is_left_alone() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = super::connect(&server.url()).await;
    let newer = "\u{7f} and more";
    let () = server.command(&["HSET", "user:ada", "v", "12345678", "head", newer]);
    is_in_the_way(
        &store,
        &Key::User(UserId::new("ada")),
        "this version of the library",
    )
    .await;
    let kept: String = server.command(&["HGET", "user:ada", "head"]);
    assert_eq!(kept, newer);
}

#[tokio::test]
async fn users_of_any_name_have_records_of_their_own() {
    let (Some(server), Some(cluster)) = (RedisServer::shared(), RedisCluster::shared()) else {
        return;
    };
    for store in [server.store().await, cluster.store().await] {
        let mut users = Vec::new();
        for name in [
            "", "{", "}{", "{a}", "a\0b", "a\r\nb", "*", "ä", "session:", " ",
        ] {
            let user = Key::User(UserId::new(name));
            let created = record([slot("name", name)]);
            put(&store, &user, None, &created).await;
            users.push((user, created));
        }
        for (user, created) in users {
            assert_eq!(load(&store, &user).await, created);
        }
    }
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
async fn what_a_user_may_not_do_writes_nothing_half() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let url = format!("redis://app:right@127.0.0.1:{}", server.port());
    for denied in ["-pttl", "-pexpire", "-hdel"] {
        let mut user = vec![
            "ACL", "SETUSER", "app", "reset", "on", ">right", "~*", "&*", "+@all",
        ];
        let () = server.command(&user);
        let options = RedisStore::options().timeout(PATIENCE);
        let store = options.connect(&url).await.expect("it is let in");
        let slots = [slot("a", "1"), slot("large", vec![b'x'; 4 << 10])];
        let ((key, created), new) = (create(&store, slots).await, session_key());
        user.push(denied);
        let () = server.command(&user);
        let after = expiring(&without(&created, "large"), now() + TTL * 2);
        for (key, before) in [(&key, Some(&created)), (&new, None)] {
            let error = match store.swap(key, before, &after).await {
                // It needs no more than it may.
                Ok(swapped) => {
                    assert_eq!((swapped, before), (Swapped::Done, None), "{denied}");
                    continue;
                }
                Err(error) => error,
            };
            assert!(
                !error.is_unknown() && !error.is_transient(),
                "{denied}: {error:?}"
            );
            let there = store.load(key).await.expect("it may read");
            assert_eq!(there.as_ref(), before, "{denied}");
        }
    }
}
