//! A scratch file, and records to put there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use session_runtime::store::{Record, Slot, SqliteOptions, SqliteStore, Store, Swapped};
use session_runtime::testing::TestClock;
use session_runtime::{Clock, Key, SessionId, Timestamp};
use session_tests::{TempDir, wait_for};
use tokio::task::JoinHandle;

pub(crate) const TTL: Duration = Duration::from_secs(7_200);

/// How long a store keeps what has expired.
pub(crate) const KEPT: Duration = Duration::from_secs(600);

pub(crate) struct Scratch {
    /// Where the file is, if nobody else cares for it.
    _folder: Option<TempDir>,
    pub(crate) path: PathBuf,
    pub(crate) clock: TestClock,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        Self {
            path: folder.path().join("sessions.db"),
            _folder: Some(folder),
            clock: TestClock::new(),
        }
    }

    /// A file that another process has made.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self {
            path,
            _folder: None,
            clock: TestClock::new(),
        }
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        SqliteStore::options().clock(self.clock.clone())
    }

    pub(crate) fn store(&self) -> SqliteStore {
        self.options().open(&self.path).expect("a store")
    }

    /// A connection behind the store's back.
    pub(crate) fn sql(&self) -> Connection {
        Connection::open(&self.path).expect("a connection")
    }

    /// Returns how large the log of what was written is.
    pub(crate) fn log_bytes(&self) -> u64 {
        let log = format!("{}-wal", self.path.display());
        std::fs::metadata(log).map_or(0, |log| log.len())
    }

    pub(crate) fn record(&self, slots: impl IntoIterator<Item = Slot>) -> Arc<Record> {
        record(self.clock.now(), slots)
    }
}

pub(crate) fn record(now: Timestamp, slots: impl IntoIterator<Item = Slot>) -> Arc<Record> {
    Arc::new(Record::new(now, now + TTL).with_slots(slots.into_iter().map(Arc::new)))
}

pub(crate) fn session_key() -> Key {
    Key::from(&SessionId::generate().expect("random bytes"))
}

pub(crate) fn slot(name: &str, payload: impl Into<Vec<u8>>) -> Slot {
    Slot::new(name, payload.into(), None)
}

/// A number as a slot.
pub(crate) fn counter(n: usize) -> Slot {
    slot("n", n.to_string())
}

/// Returns the number that a record has.
pub(crate) fn number(record: &Record) -> usize {
    let payload = record.slot("n").expect("a number").payload();
    let text = std::str::from_utf8(payload).expect("a text");
    text.parse().expect("a number")
}

/// Returns the record that comes after `before`, with that slot.
pub(crate) fn with(before: &Record, slot: Slot) -> Arc<Record> {
    let mut after = before.next();
    after.set(Arc::new(slot));
    Arc::new(after)
}

pub(crate) async fn put(
    store: &SqliteStore,
    key: &Key,
    before: Option<&Arc<Record>>,
    after: &Arc<Record>,
) {
    let swapped = store.swap(key, before, after).await.expect("an answer");
    assert_eq!(swapped, Swapped::Done);
}

/// Puts a record under a key of its own.
pub(crate) async fn create(store: &SqliteStore, record: &Arc<Record>) -> Key {
    let key = session_key();
    put(store, &key, None, record).await;
    key
}

pub(crate) async fn load(store: &SqliteStore, key: &Key) -> Option<Arc<Record>> {
    store.load(key).await.expect("an answer")
}

/// Returns how many calls wait for the thread that writes to take them.
pub(crate) fn waiting_writes(store: &SqliteStore) -> usize {
    let state = format!("{store:?}");
    let (_, after) = state.split_once("waiting_writes: ").expect("it says so");
    let digits = after.split(|c: char| !c.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .expect("a number")
}

/// Another program that has the file locked, and a write of ours that waits for it: whatever is asked meanwhile gets
/// into one transaction.
pub(crate) struct Held {
    other: Connection,
    write: JoinHandle<()>,
}

impl Held {
    pub(crate) async fn new(scratch: &Scratch, store: &SqliteStore) -> Self {
        let other = scratch.sql();
        other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
        let (writing, record) = (store.clone(), scratch.record([]));
        let mut write = tokio::spawn(async move {
            // It may fail: that is another's matter.
            let _ = writing.swap(&session_key(), None, &record).await;
        });
        begin(&mut write).await;
        wait_for("the writer takes it", async || waiting_writes(store) == 0).await;
        Self { other, write }
    }

    pub(crate) async fn release(self) {
        self.other.execute_batch("ROLLBACK").expect("no lock");
        self.write.await.expect("no panic");
    }
}

/// Lets a call begin that cannot end yet.
pub(crate) async fn begin<F: Future + Unpin>(call: &mut F) {
    for _ in 0..3 {
        let ended = tokio::time::timeout(Duration::from_millis(1), &mut *call).await;
        assert!(ended.is_err(), "it has ended");
    }
}
