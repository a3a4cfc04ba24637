//! Our records in stores of theirs: what is kept of the promises, and what is lost.

use std::collections::{HashMap, VecDeque};
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use session_runtime::store::{Record, Slot, Store, Swapped, TowerSessionsStore};
use session_runtime::testing::{CASES, SCANNER_CASES, SWEEPER_CASES, conformance_case};
use session_runtime::{Clock, Key, SessionId, SystemClock, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;
use tower_sessions::session::{self, Id};
use tower_sessions::session_store::{self, SessionStore};

pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);

// ---- the suite of promises

async fn keeps_its_promises(make: fn() -> TowerSessionsStore) {
    for case in CASES {
        let run = tokio::spawn(conformance_case(case, move |_| async move { make() }));
        // Their store deletes what has expired, by its own clock, and lists nothing.
        let is_left_out = SWEEPER_CASES.contains(case) || SCANNER_CASES.contains(case);
        match (run.await, is_left_out) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => {
                panic!("`{case}` is kept by a store that expires by itself and lists nothing")
            }
            (Err(failed), false) => panic!("`{case}`: {failed}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn their_memory_store_of_0_15_keeps_all_promises_but_those_left_out() {
    keeps_its_promises(|| TowerSessionsStore::v0_15(tower_sessions::MemoryStore::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn their_memory_store_of_0_14_keeps_all_promises_but_those_left_out() {
    let make = || TowerSessionsStore::v0_14(tower_sessions_0_14::MemoryStore::default());
    keeps_its_promises(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_save_writes_over_something_alone_keeps_them_too() {
    keeps_its_promises(|| Troubled::default().store()).await;
}

// ---- faults of their store

/// What goes wrong with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// It has no effect.
    Before,
    /// It has its effect, and the answer is lost.
    After,
    /// It has its effect when the store is told to go on.
    Waits,
}

/// A store of theirs whose next writes go wrong as planned. As over Redis, a create writes nothing over anything, and a
/// save nothing over nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Troubled(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    records: Mutex<HashMap<Id, session::Record>>,
    planned: Mutex<VecDeque<Trouble>>,
    go_on: Notify,
    /// Loads find nothing, as if all had expired.
    hides: Mutex<bool>,
}

impl Troubled {
    /// Our store over it, as one process has it.
    pub(super) fn store(&self) -> TowerSessionsStore {
        TowerSessionsStore::v0_15(self.clone())
    }

    fn plan(&self, trouble: Trouble) {
        lock(&self.0.planned).push_back(trouble);
    }

    pub(super) fn records(&self) -> MutexGuard<'_, HashMap<Id, session::Record>> {
        lock(&self.0.records)
    }

    async fn write<T>(&self, write: impl FnOnce() -> T + Send) -> session_store::Result<T> {
        let trouble = lock(&self.0.planned).pop_front().unwrap_or(Trouble::None);
        match trouble {
            Trouble::None => return Ok(write()),
            Trouble::Before => {}
            Trouble::After => drop(write()),
            Trouble::Waits => {
                self.0.go_on.notified().await;
                return Ok(write());
            }
        }
        Err(session_store::Error::Backend(format!("{trouble:?}")))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl SessionStore for Troubled {
    async fn create(&self, record: &mut session::Record) -> session_store::Result<()> {
        self.write(|| {
            let mut records = self.records();
            while records.contains_key(&record.id) {
                record.id = Id::default();
            }
            records.insert(record.id, record.clone());
        })
        .await
    }

    async fn save(&self, record: &session::Record) -> session_store::Result<()> {
        self.write(|| {
            if let Some(held) = self.records().get_mut(&record.id) {
                *held = record.clone();
            }
        })
        .await
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<session::Record>> {
        let hides = *lock(&self.0.hides);
        Ok(self.records().get(id).filter(|_| !hides).cloned())
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.records().remove(id);
        Ok(())
    }
}

fn now() -> Timestamp {
    SystemClock::default().now()
}

fn session_key() -> Key {
    Key::from(&SessionId::generate().expect("random bytes"))
}

fn record(payload: &str) -> Arc<Record> {
    let slot = Arc::new(Slot::new("n", payload.to_owned(), None));
    Arc::new(Record::new(now(), now() + HOUR).with_slots([slot]))
}

/// The next version, with another slot.
fn with(record: &Record, name: &str) -> Arc<Record> {
    let mut next = record.next();
    next.set(Arc::new(Slot::new(name, "1", None)));
    Arc::new(next)
}

async fn swap(
    store: &impl Store,
    key: &Key,
    before: Option<&Arc<Record>>,
    after: &Arc<Record>,
) -> Swapped {
    store.swap(key, before, after).await.expect("an answer")
}

async fn load(store: &impl Store, key: &Key) -> Option<Arc<Record>> {
    store.load(key).await.expect("an answer")
}

/// A record that has been stored.
async fn stored(store: &impl Store) -> (Key, Arc<Record>) {
    let (key, record) = (session_key(), record("0"));
    assert_eq!(swap(store, &key, None, &record).await, Swapped::Done);
    (key, record)
}

#[tokio::test]
async fn a_swap_whose_answer_was_lost_is_told_from_one_that_did_nothing() {
    for creates in [true, false] {
        for trouble in [Trouble::Before, Trouble::After] {
            let theirs = Troubled::default();
            let store = theirs.store();
            let (stored, first) = stored(&store).await;
            let (key, before) = if creates {
                (session_key(), None)
            } else {
                (stored, Some(&first))
            };
            let after = with(&first, "a");
            theirs.plan(trouble);
            let lost = store.swap(&key, before, &after).await;
            assert!(lost.expect_err("no answer").is_unknown());
            let again = swap(&theirs.store(), &key, before, &after).await;
            let expected = match trouble {
                Trouble::After => Swapped::Stale(Some(Arc::clone(&after))),
                _ => Swapped::Done,
            };
            assert_eq!(again, expected, "{creates} {trouble:?}");
            assert_eq!(load(&store, &key).await, Some(after));
        }
    }
}

/// Paused time moves on when nothing can be done: so a task either has done what it can, or waits.
async fn all_wait() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_save_that_was_given_up_ends_before_the_next_begins() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let (key, first) = stored(&store).await;
    let (late, other) = (with(&first, "a"), with(&first, "b"));
    theirs.plan(Trouble::Waits);
    let given_up = store.swap(&key, Some(&first), &late);
    let given_up = tokio::time::timeout(HOUR / 3_600, given_up).await;
    given_up.expect_err("nobody waits for it any more");
    let next = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move { swap(&store, &key, Some(&first), &other).await }
    });
    all_wait().await;
    assert!(!next.is_finished());
    theirs.0.go_on.notify_one();
    let stale = Swapped::Stale(Some(Arc::clone(&late)));
    assert_eq!(next.await.expect("an answer"), stale);
    assert_eq!(load(&store, &key).await, Some(late));
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_was_given_up_before_its_turn_does_nothing() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let (key, first) = stored(&store).await;
    let (slow, given_up) = (with(&first, "a"), with(&first, "b"));
    theirs.plan(Trouble::Waits);
    let swapping = tokio::spawn({
        let (store, key, first) = (store.clone(), key.clone(), Arc::clone(&first));
        let slow = Arc::clone(&slow);
        async move { swap(&store, &key, Some(&first), &slow).await }
    });
    all_wait().await;
    let waiting = store.swap(&key, Some(&slow), &given_up);
    let waiting = tokio::time::timeout(HOUR / 3_600, waiting).await;
    waiting.expect_err("its turn does not come");
    theirs.0.go_on.notify_one();
    assert_eq!(swapping.await.expect("an answer"), Swapped::Done);
    all_wait().await;
    assert_eq!(load(&store, &key).await, Some(slow));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_holds_up_a_record_for_half_a_minute() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let (key, first) = stored(&store).await;
    theirs.plan(Trouble::Waits);
    let begun = Instant::now();
    let error = store.swap(&key, Some(&first), &with(&first, "a")).await;
    assert!(error.expect_err("no answer").is_unknown());
    let next = swap(&store, &key, Some(&first), &with(&first, "b")).await;
    assert_eq!(next, Swapped::Done);
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_at_once_the_later_writer_wins() {
    let theirs = Troubled::default();
    let (store, other) = (theirs.store(), theirs.store());
    let (key, first) = stored(&store).await;
    let (late, early) = (with(&first, "a"), with(&first, "b"));
    theirs.plan(Trouble::Waits);
    let later = tokio::spawn({
        let (key, first, late) = (key.clone(), Arc::clone(&first), Arc::clone(&late));
        async move { swap(&store, &key, Some(&first), &late).await }
    });
    all_wait().await;
    assert_eq!(
        swap(&other, &key, Some(&first), &early).await,
        Swapped::Done
    );
    theirs.0.go_on.notify_one();
    assert_eq!(later.await.expect("an answer"), Swapped::Done);
    let left = load(&other, &key).await;
    assert_eq!(left, Some(late), "the docs say what is lost");
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_that_create_at_once_one_is_told_what_the_other_made() {
    let theirs = Troubled::default();
    let (store, other) = (theirs.store(), theirs.store());
    let (key, late, early) = (session_key(), record("1"), record("2"));
    theirs.plan(Trouble::Waits);
    let later = tokio::spawn({
        let (key, late) = (key.clone(), Arc::clone(&late));
        async move { swap(&store, &key, None, &late).await }
    });
    all_wait().await;
    assert_eq!(swap(&other, &key, None, &early).await, Swapped::Done);
    theirs.0.go_on.notify_one();
    assert_eq!(later.await.expect("an answer"), Swapped::Stale(Some(early)));
    assert_eq!(
        theirs.records().len(),
        1,
        "nothing is left under another id"
    );
}

#[tokio::test]
async fn what_their_store_shows_no_more_is_written_over_under_its_own_id() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let (key, _) = stored(&store).await;
    *lock(&theirs.0.hides) = true;
    let next = record("8");
    assert_eq!(swap(&store, &key, None, &next).await, Swapped::Done);
    *lock(&theirs.0.hides) = false;
    assert_eq!(load(&store, &key).await, Some(next));
    assert_eq!(
        theirs.records().len(),
        1,
        "nothing is left under another id"
    );
}

/// A store that cannot read what it holds, and quotes it.
#[derive(Debug)]
struct Garbled;

#[async_trait]
impl SessionStore for Garbled {
    async fn save(&self, _: &session::Record) -> session_store::Result<()> {
        Err(session_store::Error::Encode("canary".to_owned()))
    }

    async fn load(&self, _: &Id) -> session_store::Result<Option<session::Record>> {
        Err(session_store::Error::Decode("canary".to_owned()))
    }

    async fn delete(&self, _: &Id) -> session_store::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_coded_is_not_quoted() {
    let store = TowerSessionsStore::v0_15(Garbled);
    let error = store.load(&session_key()).await.expect_err("it is garbled");
    assert!(!error.is_transient());
    let cause = error.source().expect("a cause").to_string();
    assert_eq!(cause, "it could not decode a record");
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn an_entry_of_somebody_else_is_an_error_that_says_what_to_do() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let (key, _) = stored(&store).await;
    let empty = |record: &mut session::Record| record.data.clear();
    theirs.records().values_mut().for_each(empty);
    let error = store.load(&key).await.expect_err("it is no record");
    let cause = error.source().expect("a cause").to_string();
    let advice = "a table or a prefix of their own";
    assert!(cause.contains(advice), "{cause}");
}

// ---- what their store holds

#[tokio::test]
async fn their_store_keeps_a_record_for_what_is_left_of_it_and_ten_minutes() {
    let forever = Timestamp::from_millis(i64::MAX);
    let years = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    // The last app lives in 1970.
    for (app, expires, left) in [
        (now(), now() + HOUR, HOUR),
        (now(), now() - HOUR, Duration::ZERO),
        (now(), forever, years),
        (Timestamp::default(), Timestamp::default() + HOUR, HOUR),
    ] {
        let theirs = Troubled::default();
        let record = Arc::new(Record::new(app, expires));
        let kept_from = |at: Timestamp| (at + left + HOUR / 6).as_millis() / 1_000;
        let earliest = kept_from(now());
        let swapped = swap(&theirs.store(), &session_key(), None, &record).await;
        assert_eq!(swapped, Swapped::Done);
        let latest = kept_from(now());
        let records = theirs.records();
        assert_eq!(records.len(), 1);
        for record in records.values() {
            let kept = record.expiry_date.unix_timestamp();
            assert!((earliest..=latest).contains(&kept), "{record:?}");
        }
    }
}
