//! What fuzzing has found, and where it began, replayed. `fuzz/README.md` says how to fuzz.

use std::fs;
use std::path::Path;

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use session_runtime::SystemClock;
use session_runtime::store::Store;
use session_tests::{MysqlServer, PostgresServer};

use stored::{Held, check, key, written};

#[path = "../../fuzz/src/targets.rs"]
#[expect(unreachable_pub, reason = "it is a module of another crate")]
mod targets;

#[path = "../../fuzz/src/stored.rs"]
#[expect(unreachable_pub, reason = "it is a module of another crate")]
mod stored;

/// Each file of a target's corpus.
fn corpus(target: &str) -> impl Iterator<Item = Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(folder).expect("a corpus");
    let paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(paths.len() > 3, "{target}: {paths:?}");
    paths.into_iter().map(|path| {
        eprintln!("{}", path.display());
        fs::read(path).expect("bytes")
    })
}

fn replay(target: &str, run: fn(&[u8])) {
    corpus(target).for_each(|bytes| run(&bytes));
}

#[test]
fn any_frame_is_written_as_it_was_read() {
    replay("frame", targets::frame);
}

#[test]
fn whatever_rows_are_made_of_a_record_it_becomes_no_other() {
    replay("rows", stored::rows);
}

/// The name of a head among the rows of a server.
const HEAD: &[u8] = b"\xff";

/// Tells a record's head from what stands beside it.
fn held(rows: Vec<(Vec<u8>, Vec<u8>)>) -> Held {
    let mut held = Held {
        beside: rows.into_iter().collect(),
        ..Held::default()
    };
    held.head = held.beside.remove(HEAD).expect("a head");
    assert!(!held.beside.is_empty());
    held
}

#[tokio::test]
async fn whatever_rows_of_postgres_are_made_of_a_record_it_becomes_no_other() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let options = server.options(SystemClock::default()).schema("edited");
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let (client, key) = (server.client().await, key());
    let stored_key = key.to_string().into_bytes();
    for bytes in corpus("rows") {
        let clear = "DELETE FROM edited.sessions";
        client.execute(clear, &[]).await.expect("an answer");
        let written = written();
        store.swap(&key, None, &written).await.expect("a swap");
        let select = "SELECT name, payload FROM edited.sessions";
        let rows = client.query(select, &[]).await.expect("rows").into_iter();
        let mut held = held(rows.map(|row| (row.get(0), row.get(1))).collect());
        let is_head_kept = held.edit(&bytes);
        let update = "UPDATE edited.sessions SET payload = $1 WHERE name = $2";
        let updated = client.execute(update, &[&held.head, &HEAD]).await;
        assert_eq!(updated.expect("an answer"), 1);
        let delete = "DELETE FROM edited.sessions WHERE name <> $1";
        client.execute(delete, &[&HEAD]).await.expect("an answer");
        for (name, payload) in &held.beside {
            let insert = "INSERT INTO edited.sessions (key, name, payload) VALUES ($1, $2, $3)";
            let inserted = client.execute(insert, &[&stored_key, name, payload]).await;
            inserted.expect("an answer");
        }
        check(store.load(&key).await, &written, is_head_kept);
    }
}

#[tokio::test]
async fn whatever_rows_of_mysql_are_made_of_a_record_it_becomes_no_other() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let options = server.options(SystemClock::default()).database("edited");
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let (mut client, key) = (server.client().await, key());
    let stored_key = key.to_string().into_bytes();
    for bytes in corpus("rows") {
        let cleared = client.query_drop("DELETE FROM edited.sessions").await;
        cleared.expect("an answer");
        let written = written();
        store.swap(&key, None, &written).await.expect("a swap");
        let select = "SELECT name, payload FROM edited.sessions";
        let rows: Vec<Row> = client.query(select).await.expect("rows");
        let mut held = held(rows.into_iter().map(mysql_async::from_row).collect());
        let is_head_kept = held.edit(&bytes);
        let update = "UPDATE edited.sessions SET payload = ? WHERE name = ?";
        let updated = client.exec_drop(update, (&held.head, HEAD)).await;
        updated.expect("an answer");
        let delete = "DELETE FROM edited.sessions WHERE name <> ?";
        let deleted = client.exec_drop(delete, (HEAD,)).await;
        deleted.expect("an answer");
        for (name, payload) in &held.beside {
            let insert = "INSERT INTO edited.sessions (`key`, name, payload) VALUES (?, ?, ?)";
            let inserted = client.exec_drop(insert, (&stored_key, name, payload)).await;
            inserted.expect("an answer");
        }
        check(store.load(&key).await, &written, is_head_kept);
    }
}

#[test]
fn whatever_fields_redis_answers_with_a_record_becomes_no_other() {
    replay("redis", stored::redis);
}

#[test]
fn any_id_is_written_as_it_was_read() {
    replay("id", targets::id);
}

#[test]
fn whatever_stands_beside_a_cookie_its_session_is_found() {
    replay("cookie", targets::cookie);
}

#[test]
fn whatever_is_put_into_a_session_is_what_is_read() {
    replay("json", targets::json);
}

#[test]
fn two_requests_at_once_keep_to_the_laws_of_merging() {
    replay("merge", targets::merge);
}
