use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::id::SessionId;
use crate::record::Slot;
use crate::store::MemoryStore;

/// What is in a row's two columns.
type Row = Option<(Version, Vec<u8>)>;

/// A table of users.
#[derive(Default)]
struct Table {
    rows: Mutex<HashMap<UserId, Row>>,
    /// Whoever is asked for is a user.
    open: bool,
}

impl Table {
    fn of_everybody() -> Self {
        let rows = Mutex::default();
        Self { rows, open: true }
    }

    fn of(users: &[&str]) -> Self {
        let rows = users.iter().map(|user| (UserId::from(*user), None));
        Self {
            rows: Mutex::new(rows.collect()),
            open: false,
        }
    }

    fn put(&self, user: &str, row: Row) {
        let mut rows = self.rows.lock().expect("no panic");
        rows.insert(UserId::from(user), row);
    }

    fn beside(self, sessions: &MemoryStore) -> WithUsers<Self> {
        WithUsers {
            users: self,
            sessions: Arc::new(sessions.clone()),
        }
    }
}

impl UserStore for Table {
    async fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
        tokio::task::yield_now().await;
        let rows = self.rows.lock().expect("no panic");
        Ok(rows.get(user).cloned().flatten().map(|(_, record)| record))
    }

    async fn replace(
        &self,
        user: &UserId,
        before: Option<Version>,
        after: Version,
        record: Vec<u8>,
    ) -> Result<bool, StoreError> {
        tokio::task::yield_now().await;
        let mut rows = self.rows.lock().expect("no panic");
        if self.open {
            rows.entry(user.clone()).or_default();
        }
        let Some(row) = rows.get_mut(user) else {
            return Ok(false);
        };
        let fits = row.as_ref().map(|(version, _)| *version) == before;
        if fits {
            *row = Some((after, record));
        }
        Ok(fits)
    }
}

fn record(payload: &str) -> Arc<Record> {
    let now = SystemClock::default().now();
    let slot = Arc::new(Slot::new("n", payload.to_owned(), None));
    Arc::new(Record::new(now, now + Duration::from_secs(60)).with_slots([slot]))
}

fn ada() -> Key {
    Key::User(UserId::from("ada"))
}

#[tokio::test]
async fn a_user_s_record_is_in_the_row_and_a_session_in_the_session_store() {
    let sessions = MemoryStore::new();
    let store = Table::of(&["ada"]).beside(&sessions);
    let session = Key::from(&SessionId::generate().expect("random bytes"));
    for key in [ada(), session.clone()] {
        let first = record("1");
        let next = Arc::new(first.next());
        assert_eq!(
            Store::swap(&store, &key, None, &first).await.expect("done"),
            Swapped::Done
        );
        let swapped = Store::swap(&store, &key, Some(&first), &next).await;
        assert_eq!(swapped.expect("done"), Swapped::Done);
        let loaded = Store::load(&store, &key).await.expect("an answer");
        assert_eq!(loaded.as_ref(), Some(&next));
        let latest = Store::load_latest(&store, &key).await.expect("an answer");
        assert_eq!(latest, loaded);
    }
    assert_eq!(
        Store::load(&sessions, &ada()).await.expect("an answer"),
        None
    );
    let held = Store::load(&sessions, &session).await.expect("an answer");
    assert!(held.is_some());
}

#[tokio::test]
async fn a_stale_swap_brings_what_is_in_the_row() {
    let store = Table::of(&["ada"]).beside(&MemoryStore::new());
    let (first, other) = (record("1"), record("2"));
    let swap = async |before, after| Store::swap(&store, &ada(), before, after).await;
    assert_eq!(swap(None, &first).await.expect("done"), Swapped::Done);
    let stale = Swapped::Stale(Some(Arc::clone(&first)));
    assert_eq!(swap(None, &other).await.expect("an answer"), stale);
    let late = swap(Some(&other), &Arc::new(other.next())).await;
    assert_eq!(late.expect("an answer"), stale);
}

#[tokio::test]
async fn a_user_without_a_row_has_nothing_to_swap() {
    let store = Table::of(&["bob"]).beside(&MemoryStore::new());
    let first = record("1");
    for before in [None, Some(&first)] {
        let after = Arc::new(first.next());
        let swapped = Store::swap(&store, &ada(), before, &after).await;
        assert_eq!(swapped.expect("an answer"), Swapped::Stale(None));
    }
    assert_eq!(Store::load(&store, &ada()).await.expect("an answer"), None);
}

#[tokio::test]
async fn a_column_that_holds_something_else_is_an_error_and_is_kept() {
    let table = Table::of(&[]);
    let version = record("1").version();
    table.put("ada", Some((version, b"junk".to_vec())));
    let store = table.beside(&MemoryStore::new());
    let loaded = Store::load(&store, &ada()).await;
    assert!(!loaded.expect_err("it is no record").is_transient());
    let swapped = Store::swap(&store, &ada(), None, &record("1")).await;
    swapped.expect_err("what is there cannot be told");
    let column = store.users.load(&UserId::from("ada")).await;
    assert_eq!(column.expect("an answer"), Some(b"junk".to_vec()));
}

#[tokio::test]
async fn sweeping_is_for_sessions_alone() {
    let sessions = MemoryStore::new();
    let store = Table::of_everybody().beside(&sessions);
    let long_ago = Timestamp::from_millis(0);
    let expired = Arc::new(Record::new(SystemClock::default().now(), long_ago));
    let session = Key::from(&SessionId::generate().expect("random bytes"));
    for key in [&ada(), &session] {
        let swapped = Store::swap(&store, key, None, &expired).await;
        assert_eq!(swapped.expect("done"), Swapped::Done);
    }
    let swept = Store::sweep(&store, 10).await.expect("an answer");
    assert_eq!(swept.expired, [(session, None)]);
    let kept = Store::load(&store, &ada()).await.expect("an answer");
    assert_eq!(kept, Some(expired));
}

#[cfg(feature = "testing")]
mod suite {
    use super::*;
    use crate::testing::{CASES, SCANNER_CASES, SWEEPER_CASES, conformance_case};

    /// Takes every key for a user's.
    struct Columns(WithUsers<Table>);

    fn column_of(key: &Key) -> Key {
        Key::User(UserId::new(key.to_string()))
    }

    impl Store for Columns {
        async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
            Store::load(&self.0, &column_of(key)).await
        }

        async fn swap(
            &self,
            key: &Key,
            before: Option<&Arc<Record>>,
            after: &Arc<Record>,
        ) -> Result<Swapped, StoreError> {
            Store::swap(&self.0, &column_of(key), before, after).await
        }

        async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
            Store::sweep(&self.0, limit).await
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_column_keeps_every_promise_but_those_of_sweeping_and_scanning() {
        let is_of_columns =
            |case: &&&str| !SWEEPER_CASES.contains(case) && !SCANNER_CASES.contains(case);
        for case in CASES.iter().filter(is_of_columns) {
            let columns = async |_| Columns(Table::of_everybody().beside(&MemoryStore::new()));
            conformance_case(case, columns).await;
        }
    }

    /// Sweeps a user's record, too.
    const OF_USERS: &str = "sweeping_names_the_sessions_and_whose_they_were";

    #[tokio::test(flavor = "multi_thread")]
    async fn sessions_beside_a_table_of_users_keep_every_promise() {
        assert!(CASES.contains(&OF_USERS));
        for case in CASES.iter().filter(|case| **case != OF_USERS) {
            let beside =
                async |clock| Table::of_everybody().beside(&MemoryStore::new().with_clock(clock));
            conformance_case(case, beside).await;
        }
    }
}
