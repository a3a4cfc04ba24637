//! What the SQLite store does with its file: what the suite of promises does not ask of every store.

#![cfg(all(feature = "sqlite", feature = "testing"))]

mod common;

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{TTL, apply, create, creation, end, increment, number, session_key, slot, update};
use rusqlite::Connection;
use session_runtime::store::{Durability, SqliteStore, Store};
use session_runtime::testing::TestClock;
use session_runtime::{Change, Clock, Committed, Ended, Key, Kind, SlotChange, State, UserId};
use tempfile::TempDir;

struct Scratch {
    _folder: TempDir,
    path: PathBuf,
    clock: TestClock,
}

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("sessions.db");
        Self {
            _folder: folder,
            path,
            clock: TestClock::new(),
        }
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::options()
            .clock(self.clock.clone())
            .open(&self.path)
            .expect("a store")
    }

    /// Why the file cannot be opened. The message has to name it.
    fn refusal(&self) -> String {
        refusal(&self.path)
    }

    fn sql(&self) -> Connection {
        Connection::open(&self.path).expect("a connection")
    }
}

fn refusal(path: &Path) -> String {
    let message = SqliteStore::open(path).expect_err("a refusal").to_string();
    let named = format!("cannot open `{}`: ", path.display());
    assert!(message.starts_with(&named), "no file is named: {message}");
    message[named.len()..].to_owned()
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let scratch = Scratch::new();
    let now = scratch.clock.now();
    let ada = UserId::new("ada");
    let owned = Change {
        owner: Some(ada.clone()),
        ..creation(now, &[slot("cart", [0, 255, 1])])
    };
    let (live, ended) = (session_key(), session_key());
    let before = {
        let store = scratch.store();
        apply(&store, &live, &owned).await;
        apply(&store, &ended, &creation(now, &[])).await;
        apply(
            &store,
            &ended,
            &Change::new(Kind::End(Ended::Deleted("done".to_owned())), now),
        )
        .await;
        store.load(&live).await.unwrap()
    };
    let store = scratch.store();
    assert_eq!(store.load(&live).await.unwrap(), before);
    let tombstone = store.load(&ended).await.unwrap().unwrap();
    assert_eq!(
        tombstone.state,
        State::Ended(Ended::Deleted("done".to_owned()))
    );
    assert_eq!(
        store.owned_by(&ada).await.unwrap(),
        std::slice::from_ref(&live)
    );
    // A repeat is known too.
    apply(&store, &live, &owned).await;
}

#[tokio::test]
async fn a_repeat_through_another_handle_is_known() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.store(), scratch.store());
    let now = scratch.clock.now();
    let key = create(&one, now, &[]).await;
    for n in 0..20 {
        let change = update(
            now,
            [SlotChange::set(None, Arc::new(slot(&n.to_string(), "1")))],
        );
        let (first, second) = if n % 2 == 0 {
            (&one, &two)
        } else {
            (&two, &one)
        };
        apply(first, &key, &change).await;
        apply(second, &key, &change).await;
    }
}

#[tokio::test]
async fn remembered_commits_leave_the_file_after_a_minute_or_two() {
    let scratch = Scratch::new();
    let store = scratch.store();
    for _ in 0..200 {
        create(&store, scratch.clock.now(), &[]).await;
    }
    let batches = || -> i64 {
        scratch
            .sql()
            .query_row("SELECT count(*) FROM commits", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(batches(), 200);
    for _ in 0..20 {
        scratch.clock.advance(Duration::from_secs(61));
        create(&store, scratch.clock.now(), &[]).await;
    }
    assert!(batches() < 10, "{} batches are kept", batches());
}

#[test]
fn a_file_of_something_else_is_named_and_left_alone() {
    let scratch = Scratch::new();
    let text = "Not a database, but somebody's notes. ".repeat(100);
    fs::write(&scratch.path, &text).unwrap();
    assert_eq!(
        scratch.refusal(),
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
        scratch.refusal(),
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
        scratch.refusal(),
        "a newer version of this library has written it (schema 7): use that version, or name another file"
    );
}

#[test]
fn a_missing_folder_is_named() {
    let scratch = Scratch::new();
    let path = scratch.path.join("deeper/sessions.db");
    let access = "check that its folder exists and that this process may read and write both";
    assert_eq!(refusal(&path), access);
    assert!(SqliteStore::open(&path).unwrap_err().source().is_some());
    fs::create_dir(&scratch.path).unwrap();
    assert_eq!(scratch.refusal(), access);
}

#[tokio::test]
async fn a_name_that_sqlite_has_a_meaning_for_is_a_file() {
    let scratch = Scratch::new();
    let folder = scratch.path.parent().unwrap();
    for name in [":memory:", "file:a?mode=memory"] {
        let store = SqliteStore::open(folder.join(name)).expect("a store");
        create(&store, scratch.clock.now(), &[]).await;
        assert!(folder.join(name).exists());
    }
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let scratch = Scratch::new();
    fs::write(&scratch.path, "").unwrap();
    create(&scratch.store(), scratch.clock.now(), &[]).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new();
    let store = scratch.store();
    create(&store, scratch.clock.now(), &[]).await;
    for end in ["", "-wal", "-shm"] {
        let file = format!("{}{end}", scratch.path.display());
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600,
            "{file}"
        );
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
        create(&store.await.unwrap(), scratch.clock.now(), &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_come_together_share_a_transaction() {
    const TASKS: i64 = 64;
    const EACH: i64 = 20;
    let scratch = Scratch::new();
    let (store, now) = (scratch.store(), scratch.clock.now());
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    create(&store, now, &[slot("a", "1")]).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (batches, commits): (i64, i64) = scratch
        .sql()
        .query_row(
            "SELECT count(*), sum(length(tokens)) / 16 FROM commits",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(commits, TASKS * EACH);
    assert!(
        batches * 4 < commits,
        "{commits} commits took {batches} transactions"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_on_one_file_lose_no_increment() {
    const TASKS: usize = 64;
    const EACH: usize = 4;
    let scratch = Scratch::new();
    let (stores, now) = ([scratch.store(), scratch.store()], scratch.clock.now());
    let key = create(&stores[0], now, &[slot("n", "0")]).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|n| {
            let (store, key) = (stores[n % 2].clone(), key.clone());
            tokio::spawn(async move {
                for _ in 0..EACH {
                    increment(&store, &key, now).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let record = stores[0].load(&key).await.unwrap().unwrap();
    assert_eq!(number(record.slot("n").unwrap()), TASKS * EACH);
}

#[tokio::test]
async fn a_file_locked_by_another_holds_up_no_thread_of_the_app() {
    let scratch = Scratch::new();
    let (store, now) = (scratch.store(), scratch.clock.now());
    let key = create(&store, now, &[]).await;
    let other = scratch.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (change, late) = (update(now, []), Duration::from_millis(50));
    // The only thread of this runtime goes on: it loads, and its timer fires.
    let mut commit = std::pin::pin!(store.commit(&key, &change));
    assert!(tokio::time::timeout(late, &mut commit).await.is_err());
    assert!(store.load(&key).await.unwrap().is_some());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(commit.await.unwrap(), Committed::Applied);
}

/// Whether a commit is made that is given up while the one before it waits for a lock.
async fn is_made_though_given_up() -> bool {
    let scratch = Scratch::new();
    let (store, now) = (scratch.store(), scratch.clock.now());
    let key = create(&store, now, &[]).await;
    let other = scratch.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let [first, given_up] =
        ["a", "b"].map(|name| update(now, [SlotChange::set(None, Arc::new(slot(name, "1")))]));
    let mut commit = std::pin::pin!(store.commit(&key, &first));
    let late = Duration::from_millis(50);
    // The writer waits for the lock with the first; the second waits in the queue.
    assert!(tokio::time::timeout(late, &mut commit).await.is_err());
    assert!(
        tokio::time::timeout(late, store.commit(&key, &given_up))
            .await
            .is_err()
    );
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(commit.await.unwrap(), Committed::Applied);
    apply(&store, &key, &update(now, [])).await;
    let record = store.load(&key).await.unwrap().unwrap();
    assert!(record.slot("a").is_some());
    record.slot("b").is_some()
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_any_more_is_not_made() {
    // If the writer does not get to run for so long, it takes both at once; but not each time.
    for _ in 0..20 {
        if !is_made_though_given_up().await {
            return;
        }
    }
    panic!("it is made each time");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_no_other() {
    let scratch = Scratch::new();
    let (store, now) = (scratch.store(), scratch.clock.now());
    let (broken, sound) = (
        create(&store, now, &[]).await,
        create(&store, now, &[]).await,
    );
    let damage = "UPDATE records SET frame = x'ff00' WHERE key = ?1";
    scratch.sql().execute(damage, [broken.to_string()]).unwrap();
    let error = store.load(&broken).await.unwrap_err();
    assert!(!error.is_transient() && !error.is_full());
    let changes = [update(now, []), update(now, [])];
    // Both are in the queue before either is written, so they share a transaction.
    let (one, two) = tokio::join!(
        store.commit(&broken, &changes[0]),
        store.commit(&sound, &changes[1])
    );
    assert!(!one.unwrap_err().is_transient());
    assert_eq!(two.unwrap(), Committed::Applied);
}

#[tokio::test]
async fn a_full_file_refuses_new_sessions_and_keeps_the_live_ones() {
    let scratch = Scratch::new();
    let store = SqliteStore::options()
        .clock(scratch.clock.clone())
        .durability(Durability::Fast)
        .max_bytes(256 << 10)
        .open(&scratch.path)
        .expect("a store");
    let large = [slot("a", vec![b'.'; 4 << 10])];
    let mut keys: Vec<Key> = Vec::new();
    let error = loop {
        let key = session_key();
        match store
            .commit(&key, &creation(scratch.clock.now(), &large))
            .await
        {
            Ok(committed) => assert_eq!(committed, Committed::Applied),
            Err(error) => break error,
        }
        keys.push(key);
    };
    assert!(error.is_full() && !error.is_transient(), "{error:?}");
    assert!(keys.len() > 20, "{} sessions of 4 KiB fit 256", keys.len());
    for key in &keys {
        assert!(store.load(key).await.unwrap().is_some());
    }
    for key in &keys[..4] {
        apply(&store, key, &end(scratch.clock.now())).await;
    }
    scratch.clock.advance(TTL);
    assert_eq!(store.sweep(1_000).await.unwrap().deleted, keys.len() - 4);
    create(&store, scratch.clock.now(), &large).await;
}

#[tokio::test]
async fn a_full_file_lets_a_change_through_that_came_with_one_too_large() {
    let scratch = Scratch::new();
    let store = SqliteStore::options()
        .max_bytes(256 << 10)
        .open(&scratch.path)
        .expect("a store");
    let now = scratch.clock.now();
    let (large, small) = (
        creation(now, &[slot("a", vec![0; 1 << 20])]),
        creation(now, &[]),
    );
    let keys = [session_key(), session_key()];
    let (one, two) = tokio::join!(
        store.commit(&keys[0], &large),
        store.commit(&keys[1], &small)
    );
    assert!(one.unwrap_err().is_full());
    assert_eq!(two.unwrap(), Committed::Applied);
    assert!(store.load(&keys[0]).await.unwrap().is_none());
}
