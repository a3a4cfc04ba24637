//! Setting a store up: tables, names, and who may make them.

use std::error::Error;
use std::sync::Arc;

use session_runtime::SystemClock;
use session_runtime::store::{PostgresStore, Store};
use session_tests::{PATIENCE, POSTGRES_PASSWORD, PostgresServer};
use tokio::sync::Barrier;
use tokio_postgres::SimpleQueryMessage;

use super::{
    ISOLATIONS, create, loaded, noise, race, record, session_key, slot, store_in, text_of,
};
use crate::records::{create_user, documented_sql, nobody_waits_for_what_was_given_up};

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_may_migrate_at_once_whatever_the_isolation() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    for isolation in ISOLATIONS {
        let url = format!(
            "{}?options=-c%20default_transaction_isolation%3D{isolation}",
            server.url()
        );
        let open = || {
            let options = server.options(SystemClock::default());
            let options = options.schema(format!("ten-{}", &isolation[..4]));
            options.connect(&url).expect("the URL is fine")
        };
        let all = Arc::new(Barrier::new(10));
        let starting: Vec<_> = (0..10)
            .map(|_| {
                let (store, all) = (open(), all.clone());
                tokio::spawn(async move {
                    all.wait().await;
                    store.migrate().await.expect("the tables are made");
                    create(&store, [slot("a", "1")]).await
                })
            })
            .collect();
        let store = open();
        for instance in starting {
            let (key, record) = instance.await.expect(isolation);
            assert_eq!(store.load(&key).await.unwrap(), Some(record));
        }
    }
}

#[tokio::test]
async fn what_follows_a_user_is_read_as_the_docs_say() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    create_user(&store_in(server, "by_hand").await).await;
    let client = server.client().await;
    let there = "SET search_path = 'by_hand'";
    client.batch_execute(there).await.unwrap();
    let answer = client.simple_query(documented_sql("## PostgreSQL")).await;
    let is_row = |message: &&SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
    assert_eq!(answer.unwrap().iter().filter(is_row).count(), 2);
}

#[tokio::test]
async fn a_migration_waits_for_nobody_s_lock_and_nobody_for_one_that_was_given_up() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let options = PostgresStore::options().schema("waiting").pool_size(1);
    let options = options.wait(PATIENCE);
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let mut client = server.client().await;
    let older = "DELETE FROM waiting.sessions_versions";
    client.batch_execute(older).await.unwrap();
    let held = client.transaction().await.unwrap();
    // Who holds this lets others read, and make no index.
    let lock = "LOCK TABLE waiting.sessions IN SHARE ROW EXCLUSIVE MODE";
    held.batch_execute(lock).await.unwrap();
    nobody_waits_for_what_was_given_up(&store, async || store.migrate().await).await;
    let error = store.migrate().await.expect_err("the table is locked");
    assert!(error.to_string().starts_with(&store.name()), "{error}");
    let cause = error.source().and_then(Error::source).expect("a cause");
    assert!(cause.to_string().contains("55P03"), "{cause}");
    held.rollback().await.unwrap();
    store.migrate().await.expect("the tables can be made");
}

#[tokio::test]
async fn any_plain_name_will_do_and_no_other() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let long = ("s".repeat(63), "t".repeat(54));
    for (schema, table) in [
        ("Shop-2", "select"),
        ("user", "Sessions"),
        (&long.0, &long.1),
    ] {
        let options = server.options(SystemClock::default());
        let options = options.schema(schema).table(table);
        let store = options.connect(&server.url()).expect("the name is fine");
        store.migrate().await.expect("the tables can be made");
        let (key, record) = create(&store, [slot("a", "1"), slot("b", noise(300))]).await;
        assert_eq!(store.load(&key).await.unwrap(), Some(record));
        store.sweep(10).await.expect("an answer");
    }
    for name in [
        "",
        "a\"b",
        "a b",
        "a.b",
        "a'b",
        "$function$",
        "ß",
        "a\0",
        &"n".repeat(64),
    ] {
        let options = PostgresStore::options();
        let refused = [options.schema(name), PostgresStore::options().table(name)];
        for options in refused {
            let error = options.connect(&server.url()).expect_err("no such name");
            assert!(error.to_string().contains("letters, digits"), "{error}");
        }
    }
}

#[tokio::test]
async fn stores_of_different_names_share_a_schema_and_nothing_else() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let open = async |table: &str| {
        let options = server.options(SystemClock::default());
        let options = options.schema("shared").table(table);
        let store = options.connect(&server.url()).expect("the name is fine");
        store.migrate().await.expect("the tables can be made");
        store
    };
    let (shop, blog) = (open("shop").await, open("blog").await);
    let (key, _) = create(&shop, [slot("a", "1")]).await;
    assert!(blog.load(&key).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_for_other_tools_makes_the_same_and_may_be_run_again() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let client = server.client().await;
    let options = server.options(SystemClock::default());
    let store = options.connect(&server.url()).expect("a store");
    for _ in 0..2 {
        let run = client.batch_execute(&store.schema_sql()).await;
        run.expect("the text can be run");
    }
    store.migrate().await.expect("nothing is to be done");
    race(&store, 2, 2).await;
}

#[tokio::test]
async fn who_may_not_make_tables_can_use_those_that_are_there() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let client = server.client().await;
    let options = |schema| server.options(SystemClock::default()).schema(schema);
    let store = options("guarded");
    store
        .connect(&server.url())
        .unwrap()
        .migrate()
        .await
        .unwrap();
    let grants = "CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA guarded TO clerk;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA guarded TO clerk";
    client.batch_execute(grants).await.unwrap();
    let url = server
        .url()
        .replace("postgres:", "clerk:")
        .replace("clerk://", "postgres://");
    let clerk = options("guarded").connect(&url).unwrap();
    clerk.migrate().await.expect("nothing is to be done");
    let (key, record) = create(&clerk, [slot("a", "1"), slot("b", noise(300))]).await;
    clerk.sweep(10).await.unwrap();
    assert_eq!(clerk.load(&key).await.unwrap(), Some(record));

    let elsewhere = options("forbidden").connect(&url).unwrap();
    let error = elsewhere
        .migrate()
        .await
        .expect_err("no right to make a schema");
    let cause = error
        .source()
        .and_then(Error::source)
        .expect("a cause")
        .to_string();
    assert!(
        cause.contains("permission denied") && cause.contains("grant"),
        "{cause}"
    );
}

#[tokio::test]
async fn without_its_tables_a_store_says_what_to_do() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    for prepare in [true, false] {
        let options = server.options(SystemClock::default()).prepare(prepare);
        let store = options.connect(&server.url()).expect("the URL is fine");
        let errors = [
            store.load(&session_key()).await.expect_err("no table"),
            store
                .swap(&session_key(), None, &record([]))
                .await
                .expect_err("no table"),
            store.sweep(10).await.expect_err("no table"),
        ];
        for error in errors {
            assert!(!error.is_transient() && !error.is_full());
            assert!(
                text_of(&error).contains("call `PostgresStore::migrate`"),
                "{error:?}"
            );
        }
        // It need not be opened anew.
        store.migrate().await.expect("the tables can be made");
        create(&store, []).await;
    }
}

#[tokio::test]
async fn a_newer_version_s_tables_are_left_as_they_are() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let client = server.client().await;
    let options = server.options(SystemClock::default()).schema("newer");
    let store = options.connect(&server.url()).unwrap();
    store.migrate().await.unwrap();
    let newer = "INSERT INTO newer.sessions_versions VALUES (2);
        DROP INDEX newer.sessions_by_due";
    client.batch_execute(newer).await.unwrap();
    store.migrate().await.expect("nothing is to be done");
    let index = "SELECT to_regclass('newer.sessions_by_due') IS NULL";
    let is_gone: bool = client.query_one(index, &[]).await.unwrap().get(0);
    assert!(is_gone, "it is left as it is");
    create(&store, []).await;
}

#[tokio::test]
async fn neither_errors_nor_debug_tell_the_password() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let client = server.client().await;
    client
        .batch_execute("CREATE DATABASE walled ALLOW_CONNECTIONS false")
        .await
        .unwrap();
    let nobody_there = server.url_at(1);
    let no_such = server.url() + "_that_is_not_there";
    let walled = server.url().rsplit_once('/').expect("a path").0.to_owned() + "/walled";
    for (url, is_transient) in [(&nobody_there, true), (&no_such, false), (&walled, false)] {
        let options = server.options(SystemClock::default());
        let store = options.connect(url).expect("the URL is fine");
        let said = [
            format!("{store:?}"),
            format!("{:?}", PostgresStore::options()),
        ];
        let error = store.load(&session_key()).await.expect_err("no server");
        assert_eq!(error.is_transient(), is_transient, "{error:?}");
        let failed = store.migrate().await.expect_err("no server");
        let all = format!("{said:?} {error:?} {} {failed:?} {failed}", text_of(&error));
        assert!(!all.contains(POSTGRES_PASSWORD), "{all}");
    }
    let mistaken = [
        format!("postgres://shop:{POSTGRES_PASSWORD}@/@db:port/shop"),
        format!("postgres://shop:{POSTGRES_PASSWORD}?x@db/shop"),
        format!("postgres://{POSTGRES_PASSWORD}"),
        format!("{POSTGRES_PASSWORD}=1"),
        format!("mysql://shop:{POSTGRES_PASSWORD}@db"),
        POSTGRES_PASSWORD.to_owned(),
        String::new(),
    ];
    for url in mistaken {
        if let Err(error) = PostgresStore::connect(&url) {
            let said = format!("{error:?} {error}");
            assert!(!said.contains(POSTGRES_PASSWORD), "{said}");
        }
    }
}

#[tokio::test]
async fn of_several_hosts_the_one_that_takes_writes_is_asked() {
    let standby = PostgresServer::start_with("fsync = off\ndefault_transaction_read_only = on\n");
    let (Some(standby), Some(primary)) = (standby, PostgresServer::shared()) else {
        return;
    };
    let hosts = [standby.port(), primary.port()].map(|port| format!("127.0.0.1:{port}"));
    let url = primary.url().replace(&hosts[1], &hosts.join(","));
    let options = primary.options(SystemClock::default()).schema("primary");
    let store = options.connect(&url).expect("the URL is fine");
    store.migrate().await.expect("it takes writes");
    let (key, record) = create(&store, [slot("a", "1")]).await;
    assert_eq!(loaded(&store, &key).await, Some(record));
}
