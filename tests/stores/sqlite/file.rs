//! Opening: which files become stores, and what is said of the others.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use session_runtime::store::SqliteStore;

use super::scratch::{Scratch, create, load, put, session_key, slot};

const ACCESS: &str = "check that its folder exists and that this process may read and write both";

/// Returns why the file cannot be opened. The message has to name it.
fn refusal(path: &Path) -> String {
    let message = SqliteStore::open(path).expect_err("a refusal").to_string();
    let named = format!("cannot open `{}`: ", path.display());
    assert!(message.starts_with(&named), "no file is named: {message}");
    message[named.len()..].to_owned()
}

#[tokio::test]
async fn what_was_swapped_is_there_after_reopening() {
    let scratch = Scratch::new();
    let key = session_key();
    let first = scratch.record([slot("cart", [0, 255, 1]), slot("large", vec![7; 100_000])]);
    let second = Arc::new(first.next());
    {
        let store = scratch.store();
        put(&store, &key, None, &first).await;
        put(&store, &key, Some(&first), &second).await;
    }
    assert_eq!(load(&scratch.store(), &key).await, Some(second));
}

#[test]
fn a_file_of_something_else_is_named_and_left_alone() {
    let scratch = Scratch::new();
    let text = "Not a database, but somebody's notes. ".repeat(100);
    fs::write(&scratch.path, &text).unwrap();
    assert_eq!(
        refusal(&scratch.path),
        "it is no SQLite file, or a damaged one: move it away, or name another file"
    );
    assert_eq!(fs::read_to_string(&scratch.path).unwrap(), text);
}

#[test]
fn the_database_of_another_program_is_named_and_left_alone() {
    let scratch = Scratch::new();
    scratch
        .sql()
        .execute_batch("CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')")
        .unwrap();
    let before = fs::read(&scratch.path).unwrap();
    assert_eq!(
        refusal(&scratch.path),
        "it holds the data of another program: name a file for the sessions alone"
    );
    assert_eq!(fs::read(&scratch.path).unwrap(), before);
}

#[test]
fn the_file_of_a_newer_version_is_named_and_left_alone() {
    let scratch = Scratch::new();
    drop(scratch.store());
    scratch
        .sql()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    assert_eq!(
        refusal(&scratch.path),
        "a newer version of this library has written it (schema 7): use that version, or name another file"
    );
}

#[test]
fn a_missing_folder_is_named() {
    let scratch = Scratch::new();
    let path = scratch.path.join("deeper/sessions.db");
    assert_eq!(refusal(&path), ACCESS);
    assert!(SqliteStore::open(&path).unwrap_err().source().is_some());
    fs::create_dir(&scratch.path).unwrap();
    assert_eq!(refusal(&scratch.path), ACCESS);
}

#[tokio::test]
async fn a_name_that_sqlite_has_a_meaning_for_is_a_file() {
    let scratch = Scratch::new();
    let folder = scratch.path.parent().unwrap();
    for name in [":memory:", "file:a?mode=memory"] {
        let store = SqliteStore::open(folder.join(name)).expect("a store");
        create(&store, &scratch.record([])).await;
        assert!(folder.join(name).exists());
    }
}

#[test]
fn what_is_no_path_makes_no_file_and_is_told_what_to_write() {
    for (name, instead) in [
        (":memory:", "`MemoryStore`"),
        ("sqlite::memory:", "`MemoryStore`"),
        ("sqlite://:memory:", "`MemoryStore`"),
        ("file::memory:?cache=shared", "`MemoryStore`"),
        ("file:shop?mode=memory&cache=shared", "`MemoryStore`"),
        ("sqlite:app.db?mode=rwc", "`app.db`"),
        ("app.db?mode=rwc", "`app.db`"),
        ("sqlite://data/app.db", "`data/app.db`"),
        ("sqlite:///srv/app.db", "`/srv/app.db`"),
        ("file:app.db", "`app.db`"),
    ] {
        let said = refusal(Path::new(name));
        assert!(said.contains(instead), "{said}");
        assert!(!Path::new(name).exists());
    }
}

#[test]
fn an_error_at_the_start_shows_its_sentence_where_main_returns_it() {
    let error = SqliteStore::open("/no/such/folder/sessions.db").unwrap_err();
    let shown = format!("{:?}", Box::<dyn Error>::from(error));
    assert!(
        shown.starts_with("cannot open `/no/such/folder/sessions.db`: check"),
        "{shown}"
    );
    assert!(
        shown.ends_with("No such file or directory (os error 2)"),
        "{shown}"
    );
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let scratch = Scratch::new();
    fs::write(&scratch.path, "").unwrap();
    create(&scratch.store(), &scratch.record([])).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new();
    let store = scratch.store();
    create(&store, &scratch.record([])).await;
    for end in ["", "-wal", "-shm"] {
        let file = format!("{}{end}", scratch.path.display());
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_a_new_file_at_once() {
    let scratch = Arc::new(Scratch::new());
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let scratch = Arc::clone(&scratch);
            tokio::task::spawn_blocking(move || scratch.store())
        })
        .collect();
    for store in opening {
        create(&store.await.unwrap(), &scratch.record([])).await;
    }
}
