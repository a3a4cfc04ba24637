//! Setting a store up: tables, names, and who may make them.

use std::error::Error;
use std::sync::Arc;

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use session_runtime::SystemClock;
use session_runtime::store::{MysqlStore, Store};
use session_tests::{MYSQL_PASSWORD, MysqlServer, PATIENCE};
use tokio::sync::Barrier;

use super::{count, create, noise, race, record, session_key, slot, store_in, text_of};
use crate::records::{create_user, documented_sql, nobody_waits_for_what_was_given_up};

#[tokio::test]
async fn what_follows_a_user_is_read_as_the_docs_say() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    create_user(&store_in(server, "by_hand").await).await;
    let mut client = server.client().await;
    client.query_drop("USE `by_hand`").await.unwrap();
    let rows: Vec<Row> = client.query(documented_sql("## MySQL")).await.unwrap();
    assert_eq!(rows.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_may_migrate_at_once() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let open = || {
        let options = server.options(SystemClock::default()).database("ten");
        options.connect(&server.url()).expect("the URL is fine")
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
        let (key, record) = instance.await.expect("it starts");
        assert_eq!(store.load(&key).await.unwrap(), Some(record));
    }
}

#[tokio::test]
async fn a_migration_waits_for_nobody_s_lock_and_nobody_for_one_that_was_given_up() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let options = MysqlStore::options().database("waiting").pool_size(1);
    let options = options.wait(PATIENCE);
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let mut held = server.client().await;
    let lock = "LOCK TABLES waiting.sessions_versions WRITE";
    held.query_drop(lock).await.unwrap();
    nobody_waits_for_what_was_given_up(&store, async || store.migrate().await).await;
    let error = store.migrate().await.expect_err("the table is locked");
    assert!(error.to_string().starts_with(&store.name()), "{error}");
    let cause = error.source().and_then(Error::source).expect("a cause");
    assert!(cause.to_string().contains("1205"), "{cause}");
    held.query_drop("UNLOCK TABLES").await.unwrap();
    store.migrate().await.expect("the tables can be made");
}

#[tokio::test]
async fn any_plain_name_will_do_and_no_other() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let long = ("s".repeat(64), "t".repeat(55));
    for (database, table) in [
        ("Shop-2", "select"),
        ("user", "Sessions"),
        (&long.0, &long.1),
    ] {
        let options = server.options(SystemClock::default());
        let options = options.database(database).table(table);
        let store = options.connect(&server.url()).expect("the name is fine");
        store.migrate().await.expect("the tables can be made");
        let (key, record) = create(&store, [slot("a", "1"), slot("b", noise(300))]).await;
        assert_eq!(store.load(&key).await.unwrap(), Some(record));
        store.sweep(10).await.expect("an answer");
    }
    let too_long = "n".repeat(65);
    for name in ["", "a`b", "a b", "a.b", "a'b", "ß", "a\0", &too_long] {
        let options = MysqlStore::options();
        for options in [options.database(name), MysqlStore::options().table(name)] {
            let error = options.connect(&server.url()).expect_err("no such name");
            assert!(error.to_string().contains("letters, digits"), "{error}");
        }
    }
}

#[tokio::test]
async fn stores_of_different_names_share_a_database_and_nothing_else() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    // That of the URL.
    let open = async |table: &str| {
        let options = MysqlStore::options().table(table).wait(PATIENCE);
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
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let mut client = server.client().await;
    let options = server.options(SystemClock::default());
    let store = options.connect(&server.url()).expect("a store");
    for _ in 0..2 {
        let run = client.query_drop(store.schema_sql()).await;
        run.expect("the text can be run");
    }
    store.migrate().await.expect("nothing is to be done");
    race(&store, 2, 2).await;
}

#[tokio::test]
async fn who_may_not_make_tables_can_use_those_that_are_there() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let mut client = server.client().await;
    let options = |database| server.options(SystemClock::default()).database(database);
    let store = options("guarded").connect(&server.url()).unwrap();
    store.migrate().await.unwrap();
    let grants = format!(
        "CREATE USER clerk@'127.0.0.1' IDENTIFIED BY '{MYSQL_PASSWORD}';
         GRANT SELECT, INSERT, UPDATE, DELETE ON guarded.* TO clerk@'127.0.0.1';
         GRANT SELECT ON test.* TO clerk@'127.0.0.1'"
    );
    client.query_drop(grants).await.unwrap();
    let url = server.url().replace("shop:", "clerk:");
    let clerk = options("guarded").connect(&url).unwrap();
    clerk.migrate().await.expect("nothing is to be done");
    let (key, record) = create(&clerk, [slot("a", "1"), slot("b", noise(300))]).await;
    clerk.sweep(10).await.unwrap();
    assert_eq!(clerk.load(&key).await.unwrap(), Some(record));

    let elsewhere = options("forbidden").connect(&url).unwrap();
    let error = elsewhere.migrate().await.expect_err("no right");
    let cause = error.source().and_then(Error::source).expect("a cause");
    let cause = cause.to_string();
    assert!(
        cause.contains("denied") && cause.contains("grant"),
        "{cause}"
    );
}

#[tokio::test]
async fn without_its_tables_a_store_says_what_to_do() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let mut client = server.client().await;
    client.query_drop("CREATE DATABASE bare").await.unwrap();
    // Without the database, and without tables in it.
    for database in ["nowhere", "bare"] {
        let options = server.options(SystemClock::default()).database(database);
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
            assert!(!error.is_transient() && !error.is_full(), "{error:?}");
            let text = text_of(&error);
            assert!(text.contains("call `MysqlStore::migrate`"), "{text}");
        }
        // It need not be opened anew.
        store.migrate().await.expect("the tables can be made");
        create(&store, []).await;
    }
}

#[tokio::test]
async fn a_newer_version_s_tables_are_left_as_they_are() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let mut client = server.client().await;
    let options = server.options(SystemClock::default()).database("newer");
    let store = options.connect(&server.url()).unwrap();
    store.migrate().await.unwrap();
    let newer = "INSERT INTO newer.sessions_versions VALUES (2);
        DELETE FROM newer.sessions_versions WHERE version = 1";
    client.query_drop(newer).await.unwrap();
    store.migrate().await.expect("nothing is to be done");
    let versions = "SELECT count(*) FROM newer.sessions_versions";
    assert_eq!(count(&mut client, versions).await, 1);
    create(&store, []).await;
}

#[tokio::test]
async fn neither_errors_nor_debug_tell_the_password() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let nobody_there = server.url_at(1);
    let stranger = server.url().replace("shop:", "stranger:");
    let no_such = server.url() + "_that_is_not_there";
    for (url, is_transient) in [(&nobody_there, true), (&stranger, false), (&no_such, false)] {
        let options = server.options(SystemClock::default());
        let store = options.connect(url).expect("the URL is fine");
        let said = [format!("{store:?}"), format!("{:?}", MysqlStore::options())];
        let error = store.load(&session_key()).await.expect_err("no server");
        assert_eq!(error.is_transient(), is_transient, "{error:?}");
        let failed = store.migrate().await.expect_err("no server");
        let all = format!("{said:?} {error:?} {} {failed:?} {failed}", text_of(&error));
        assert!(!all.contains(MYSQL_PASSWORD), "{all}");
    }
    let refused = [
        (
            format!("mysql://shop:{MYSQL_PASSWORD}@/@db:port/shop"),
            "no URL",
        ),
        (format!("mysql://shop:{MYSQL_PASSWORD}@db"), "no database"),
        (format!("mysql://{MYSQL_PASSWORD}"), "no database"),
        (
            format!("mysql://shop:x@db/shop?{MYSQL_PASSWORD}=1"),
            "no URL",
        ),
        (
            format!("mysql://shop:{MYSQL_PASSWORD}@db/shop?sslmode=require"),
            "ssl-mode",
        ),
        (
            format!("mysql://shop:{MYSQL_PASSWORD}@db/shop?ssl-mode=PREFERRED"),
            "VERIFY_IDENTITY",
        ),
        (
            format!("mysql://shop:{MYSQL_PASSWORD}@db/shop?charset=utf8mb4"),
            "bytes",
        ),
        (
            format!("mysql://shop:{MYSQL_PASSWORD}@db/shop?connection_limit=5"),
            "pool_size",
        ),
        (
            format!("postgres://shop:{MYSQL_PASSWORD}@db/shop"),
            "no URL",
        ),
        (MYSQL_PASSWORD.to_owned(), "no URL"),
        (String::new(), "no URL"),
    ];
    for (url, why) in refused {
        let error = MysqlStore::connect(&url).expect_err("it cannot be used");
        let said = format!("{error:?} {error}");
        assert!(!said.contains(MYSQL_PASSWORD), "{said}");
        assert!(said.contains(why), "{said}");
    }
    let none = MysqlStore::options().pool_size(0).connect(&server.url());
    assert!(
        none.expect_err("nobody is served")
            .to_string()
            .contains("`pool_size`")
    );
}
