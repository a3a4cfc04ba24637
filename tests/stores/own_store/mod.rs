//! The example of a store of one's own keeps every promise, in memory and as two processes over one file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use session_runtime::store::{Record, Scanned, Store, StoreError, Swapped, Swept};
use session_runtime::testing::{CASES, TestClock, conformance, conformance_case};
use session_runtime::{Clock, Key, SessionId};
use session_tests::TempDir;

#[path = "../../../examples/own_store/store.rs"]
mod store;

use store::OwnStore;

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_every_promise() {
    conformance(async |clock| {
        let connection = Connection::open_in_memory().expect("a database");
        OwnStore::new(connection, clock).expect("a table")
    })
    .await;
}

/// Two stores over one file, of which each call takes the other one.
struct Two {
    stores: [OwnStore; 2],
    calls: AtomicUsize,
}

impl Two {
    fn open(file: &Path, clock: &TestClock) -> Self {
        Self {
            stores: [(); 2].map(|()| open(file, clock)),
            calls: AtomicUsize::new(0),
        }
    }

    fn next(&self) -> &OwnStore {
        &self.stores[self.calls.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

fn open(file: &Path, clock: &TestClock) -> OwnStore {
    let connection = Connection::open(file).expect("a file");
    // Nothing here is to survive a power cut.
    let fast = "PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL";
    connection.execute_batch(fast).expect("a setting");
    OwnStore::new(connection, clock.clone()).expect("a table")
}

impl Store for Two {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.next().load(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.next().swap(key, before, after).await
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        self.next().scan(after, limit).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.next().sweep(limit).await
    }
}

/// A store knows the clock of its own app alone: what the other one's carries does not hold it up.
const OF_ONE_APP: &str = "sweeping_stands_still_while_the_clocks_disagree";

#[tokio::test(flavor = "multi_thread")]
async fn two_over_one_file_keep_every_promise() {
    let folder = TempDir::new().expect("a scratch folder");
    for case in CASES.iter().filter(|case| **case != OF_ONE_APP) {
        conformance_case(case, async |clock| {
            Two::open(&folder.path().join(case), &clock)
        })
        .await;
    }
}

#[tokio::test]
async fn what_was_swapped_is_there_when_the_file_is_opened_again() {
    let (folder, clock) = (TempDir::new().expect("a scratch folder"), TestClock::new());
    let file = folder.path().join("sessions");
    let key = Key::from(&SessionId::generate().expect("random bytes"));
    let record = Arc::new(Record::new(clock.now(), clock.now()));
    let swapped = open(&file, &clock).swap(&key, None, &record).await;
    assert_eq!(swapped.expect("an answer"), Swapped::Done);
    let there = open(&file, &clock).load(&key).await.expect("an answer");
    assert_eq!(there, Some(record));
}

#[tokio::test]
async fn a_locked_file_is_an_error_after_which_nothing_was_written() {
    let (folder, clock) = (TempDir::new().expect("a scratch folder"), TestClock::new());
    let file = folder.path().join("sessions");
    let other = Connection::open(&file).expect("a file");
    let connection = Connection::open(&file).expect("a file");
    connection
        .busy_timeout(std::time::Duration::ZERO)
        .expect("a setting");
    let store = OwnStore::new(connection, clock.clone()).expect("a table");
    let key = Key::from(&SessionId::generate().expect("random bytes"));
    let record = Arc::new(Record::new(clock.now(), clock.now()));
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    let error = store.swap(&key, None, &record).await.expect_err("locked");
    assert!(error.is_transient() && !error.is_unknown(), "{error:?}");
    other.execute_batch("COMMIT").expect("no lock");
    assert_eq!(store.load(&key).await.expect("an answer"), None);
}

#[tokio::test]
async fn a_table_that_is_gone_is_no_fault_that_a_repeat_mends() {
    let (folder, clock) = (TempDir::new().expect("a scratch folder"), TestClock::new());
    let file = folder.path().join("sessions");
    let store = open(&file, &clock);
    let other = Connection::open(&file).expect("a file");
    other.execute_batch("DROP TABLE sessions").expect("a table");
    let key = Key::from(&SessionId::generate().expect("random bytes"));
    let error = store.load(&key).await.expect_err("no table");
    assert!(!error.is_transient(), "{error:?}");
}
