//! Our stores for code of the tower-sessions family: its trait, and its layer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use session_runtime::store::{MemoryStore, Record as Stored, Store, StoreError, Swapped, Swept};
use session_runtime::testing::TestClock;
use session_runtime::{Clock, ForTowerSessions, Key};
use tokio::task::{JoinSet, yield_now};
use tokio::time::Instant;

use super::Browser;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A store in memory that counts its calls and says whose they were, and whose swaps go wrong as told. Others get their
/// turn before each call.
#[derive(Debug, Default)]
struct Troubled {
    inner: MemoryStore,
    calls: AtomicUsize,
    keys: Mutex<Vec<Key>>,
    /// So many answers are lost.
    lost: AtomicUsize,
    hangs: bool,
    /// So many sweeps have more to delete.
    more: AtomicUsize,
}

impl Troubled {
    async fn called(&self, key: &Key) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.keys.lock().expect("no panic").push(key.clone());
        if self.hangs {
            std::future::pending::<()>().await;
        }
        yield_now().await;
    }

    /// The key that was asked for last.
    fn last_key(&self) -> Key {
        let keys = self.keys.lock().expect("no panic");
        keys.last().expect("a call").clone()
    }
}

impl Store for Troubled {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Stored>>, StoreError> {
        self.called(key).await;
        self.inner.load(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Stored>>,
        after: &Arc<Stored>,
    ) -> Result<Swapped, StoreError> {
        self.called(key).await;
        let swapped = self.inner.swap(key, before, after).await?;
        let less = |lost: usize| lost.checked_sub(1);
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        match self.lost.fetch_update(set, fetch, less) {
            Ok(_) => Err(StoreError::unavailable("the answer is lost")),
            Err(_) => Ok(swapped),
        }
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let less = |more: usize| more.checked_sub(1);
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        let mut swept = Swept::default();
        if self.more.fetch_update(set, fetch, less).is_ok() {
            swept.deleted = limit;
        }
        Ok(swept)
    }
}

/// What their trait promises, in either version.
macro_rules! version {
    ($version:ident, $theirs:ident) => {
        mod $version {
            use super::*;
            use $theirs::cookie::time::OffsetDateTime;
            use $theirs::session::{Id, Record};
            use $theirs::session_store::{Error, ExpiredDeletion, SessionStore};
            use serde_json::{Value, json};

            fn record<const N: usize>(data: [(&str, Value); N]) -> Record {
                Record {
                    id: Id::default(),
                    data: data.map(|(name, value)| (name.to_owned(), value)).into(),
                    // To the millisecond, as it comes back.
                    expiry_date: OffsetDateTime::from_unix_timestamp(4_000_000_000).expect("a date"),
                }
            }

            async fn loaded(store: &impl SessionStore, id: &Id) -> Option<Record> {
                store.load(id).await.expect("an answer")
            }

            #[tokio::test]
            async fn what_is_created_loads_as_it_was() {
                let store = ForTowerSessions::new(MemoryStore::new());
                let odd = "@created \u{0} {} ünusual";
                let value = json!({"b": [1, 2.5, null], "a": "ü\u{0}"});
                let mut record = record([("n", json!(1)), (odd, value), ("", json!(""))]);
                store.create(&mut record).await.expect("an answer");
                assert_eq!(loaded(&store, &record.id).await, Some(record));
                assert_eq!(loaded(&store, &Id::default()).await, None);
            }

            #[tokio::test]
            async fn a_create_whose_id_is_taken_is_given_another() {
                let store = ForTowerSessions::new(MemoryStore::new());
                let mut first = record([("n", json!(1))]);
                store.create(&mut first).await.expect("an answer");
                let mut second = Record { id: first.id, ..record([("n", json!(2))]) };
                store.create(&mut second).await.expect("an answer");
                assert_ne!(second.id, first.id);
                assert_eq!(loaded(&store, &first.id).await, Some(first));
                assert_eq!(loaded(&store, &second.id).await, Some(second));
            }

            #[tokio::test]
            async fn a_save_replaces_all_data() {
                let store = ForTowerSessions::new(MemoryStore::new());
                let mut saved = record([("a", json!(1)), ("b", json!(1)), ("c", json!(1))]);
                store.create(&mut saved).await.expect("an answer");
                saved.data.remove("a");
                saved.data.insert("b".to_owned(), json!(2));
                saved.data.insert("d".to_owned(), json!(1));
                saved.expiry_date -= HOUR;
                store.save(&saved).await.expect("an answer");
                assert_eq!(loaded(&store, &saved.id).await, Some(saved));
            }

            #[tokio::test]
            async fn a_create_and_a_load_take_one_call_a_save_and_a_deletion_two() {
                let inner = Arc::new(Troubled::default());
                let store = ForTowerSessions::new(Arc::clone(&inner));
                let calls = || inner.calls.swap(0, Ordering::SeqCst);
                let mut record = record([("n", json!(1))]);
                store.create(&mut record).await.expect("an answer");
                assert_eq!(calls(), 1);
                assert!(loaded(&store, &record.id).await.is_some());
                assert_eq!(calls(), 1);
                store.save(&record).await.expect("an answer");
                assert_eq!(calls(), 2);
                store.delete(&record.id).await.expect("an answer");
                assert_eq!(calls(), 2);
                assert_eq!(loaded(&store, &Id::default()).await, None);
                assert_eq!(calls(), 1);
            }

            #[tokio::test]
            async fn a_save_of_what_never_was_makes_it() {
                let store = ForTowerSessions::new(MemoryStore::new());
                let record = record([("n", json!(1))]);
                store.save(&record).await.expect("an answer");
                assert_eq!(loaded(&store, &record.id).await, Some(record));
            }

            #[tokio::test]
            async fn a_late_save_never_revives_a_deleted_session() {
                let store = ForTowerSessions::new(MemoryStore::new());
                let mut record = record([("user", json!("ada"))]);
                store.create(&mut record).await.expect("an answer");
                for _ in 0..2 {
                    store.delete(&record.id).await.expect("an answer");
                    assert_eq!(loaded(&store, &record.id).await, None);
                    store.save(&record).await.expect("an answer");
                    assert_eq!(loaded(&store, &record.id).await, None);
                }
            }

            #[tokio::test]
            async fn a_deletion_is_remembered_for_a_day() {
                let clock = TestClock::new();
                let store = ForTowerSessions::new(MemoryStore::new()).clock(clock.clone());
                let mut record = record([("user", json!("ada"))]);
                store.create(&mut record).await.expect("an answer");
                store.delete(&record.id).await.expect("an answer");
                clock.advance(24 * HOUR - Duration::from_millis(1));
                store.save(&record).await.expect("an answer");
                assert_eq!(loaded(&store, &record.id).await, None);
                clock.advance(Duration::from_millis(1));
                store.save(&record).await.expect("an answer");
                assert_eq!(loaded(&store, &record.id).await, Some(record));
            }

            #[tokio::test]
            async fn a_deletion_amid_saves_is_final() {
                for delay in 0..20 {
                    let store = ForTowerSessions::new(Troubled::default());
                    let mut record = record([("n", json!(1))]);
                    store.create(&mut record).await.expect("an answer");
                    let mut saves = JoinSet::new();
                    for n in 0..8 {
                        let (store, mut record) = (store.clone(), record.clone());
                        record.data.insert("n".to_owned(), json!(n));
                        saves.spawn(async move { store.save(&record).await.expect("an answer") });
                    }
                    for _ in 0..delay {
                        yield_now().await;
                    }
                    store.delete(&record.id).await.expect("an answer");
                    assert_eq!(loaded(&store, &record.id).await, None, "{delay}");
                    saves.join_all().await;
                    assert_eq!(loaded(&store, &record.id).await, None, "{delay}");
                }
            }

            #[tokio::test]
            async fn one_of_many_saves_at_once_wins_whole() {
                let store = ForTowerSessions::new(Troubled::default());
                let mut created = record([]);
                store.create(&mut created).await.expect("an answer");
                let mut saves = JoinSet::new();
                for n in 0..16 {
                    let store = store.clone();
                    let data = record([("a", json!(n)), ("b", json!(n))]);
                    let record = Record { id: created.id, ..data };
                    saves.spawn(async move { store.save(&record).await.expect("an answer") });
                }
                saves.join_all().await;
                let data = loaded(&store, &created.id).await.expect("a session").data;
                assert_eq!(data.len(), 2);
                assert_eq!(data["a"], data["b"]);
            }

            #[tokio::test]
            async fn an_id_with_the_key_of_another_session_opens_and_changes_nothing() {
                let inner = Arc::new(Troubled::default());
                let store = ForTowerSessions::new(Arc::clone(&inner));
                let mut record = record([("n", json!(1))]);
                let id = record.id;
                assert_eq!(loaded(&store, &id).await, None);
                let key = inner.last_key();
                let mut another = Record { id: Id::default(), ..record.clone() };
                store.create(&mut another).await.expect("an answer");
                let other = inner.load(&inner.last_key()).await.expect("an answer");
                let other = other.expect("a record");
                let swapped = inner.swap(&key, None, &other).await;
                assert_eq!(swapped.expect("an answer"), Swapped::Done);
                assert_eq!(loaded(&store, &id).await, None);
                let refused = store.save(&record).await.expect_err("it is taken");
                assert!(matches!(refused, Error::Backend(_)), "{refused}");
                store.delete(&id).await.expect("an answer");
                let left = inner.load(&key).await.expect("an answer");
                assert_eq!(left, Some(other));
                store.create(&mut record).await.expect("an answer");
                assert_ne!(record.id, id);
            }

            #[tokio::test]
            async fn a_session_is_gone_at_its_expiry_and_deleted_ten_minutes_later() {
                let clock = TestClock::new();
                let inner = MemoryStore::new().with_clock(clock.clone());
                let store = ForTowerSessions::new(inner.clone()).clock(clock.clone());
                let seconds = clock.now().as_millis() / 1_000 + 3_600;
                let expiry_date = OffsetDateTime::from_unix_timestamp(seconds).expect("a date");
                let mut record = Record { expiry_date, ..record([("n", json!(1))]) };
                store.create(&mut record).await.expect("an answer");
                clock.advance(HOUR - Duration::from_millis(1));
                assert!(loaded(&store, &record.id).await.is_some());
                clock.advance(Duration::from_millis(1));
                assert_eq!(loaded(&store, &record.id).await, None);
                clock.advance(HOUR / 6);
                store.delete_expired().await.expect("an answer");
                assert_eq!(inner.sweep(1).await.expect("an answer").deleted, 0);
                // Had it not been deleted, its id would be taken.
                let id = record.id;
                store.create(&mut record).await.expect("an answer");
                assert_eq!(record.id, id);
            }

            #[tokio::test]
            async fn a_save_brings_back_what_has_expired_and_was_not_deleted() {
                let clock = TestClock::new();
                let store = ForTowerSessions::new(MemoryStore::new()).clock(clock.clone());
                let date = |seconds: i64| {
                    let seconds = clock.now().as_millis() / 1_000 + seconds;
                    OffsetDateTime::from_unix_timestamp(seconds).expect("a date")
                };
                let mut record = Record { expiry_date: date(60), ..record([("n", json!(1))]) };
                store.create(&mut record).await.expect("an answer");
                clock.advance(HOUR);
                record.expiry_date = date(60);
                store.save(&record).await.expect("an answer");
                assert_eq!(loaded(&store, &record.id).await, Some(record));
            }

            #[tokio::test(start_paused = true)]
            async fn a_call_whose_answer_was_lost_has_its_effect_once() {
                let inner = Arc::new(Troubled::default());
                let store = ForTowerSessions::new(Arc::clone(&inner));
                let mut record = record([("n", json!(1))]);
                let id = record.id;
                let lose = || inner.lost.store(3, Ordering::SeqCst);
                lose();
                store.create(&mut record).await.expect("an answer");
                assert_eq!(record.id, id, "it did not find its own create in the way");
                lose();
                record.data.insert("n".to_owned(), json!(2));
                store.save(&record).await.expect("an answer");
                assert_eq!(loaded(&store, &id).await, Some(record));
                lose();
                store.delete(&id).await.expect("an answer");
                assert_eq!(loaded(&store, &id).await, None);
            }

            #[tokio::test(start_paused = true)]
            async fn a_save_whose_answer_was_lost_does_not_undo_a_later_one() {
                let inner = Arc::new(Troubled::default());
                let store = ForTowerSessions::new(Arc::clone(&inner));
                let mut first = record([("n", json!(1))]);
                store.create(&mut first).await.expect("an answer");
                inner.lost.store(1, Ordering::SeqCst);
                let saving = tokio::spawn({
                    let (store, first) = (store.clone(), first.clone());
                    async move { store.save(&first).await.expect("an answer") }
                });
                // Paused time moves on when nothing can be done: the answer is lost, and it waits.
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(!saving.is_finished());
                first.data.insert("n".to_owned(), json!(2));
                store.save(&first).await.expect("an answer");
                saving.await.expect("an answer");
                assert_eq!(loaded(&store, &first.id).await, Some(first));
            }

            #[tokio::test(start_paused = true)]
            async fn a_sweep_that_is_not_answered_is_an_error_after_a_while() {
                let troubled = Troubled { hangs: true, ..Troubled::default() };
                let store = ForTowerSessions::new(troubled);
                let swept = tokio::time::timeout(HOUR, store.delete_expired()).await;
                assert!(matches!(swept, Ok(Err(Error::Backend(_)))));
            }

            #[tokio::test]
            async fn a_long_sweep_leaves_others_a_turn() {
                let troubled = Troubled { more: AtomicUsize::new(100), ..Troubled::default() };
                let store = ForTowerSessions::new(troubled);
                let deleting = tokio::spawn(async move { store.delete_expired().await });
                let mut turns = 0;
                while !deleting.is_finished() {
                    turns += 1;
                    yield_now().await;
                }
                assert!(turns > 50, "{turns}");
            }

            #[tokio::test(start_paused = true)]
            async fn a_store_that_does_not_answer_is_an_error_at_the_deadline() {
                let hanging = Troubled { hangs: true, ..Troubled::default() };
                let store = ForTowerSessions::new(hanging).deadline(HOUR);
                let begun = Instant::now();
                let error = store.load(&Id::default()).await.expect_err("no answer");
                assert!(matches!(error, Error::Backend(_)), "{error}");
                assert_eq!(begun.elapsed(), HOUR);
            }

            #[tokio::test]
            async fn a_store_sees_nothing_that_an_id_can_be_told_from() {
                let inner = Arc::new(Troubled::default());
                let store = ForTowerSessions::new(Arc::clone(&inner));
                let mut record = record([("canary", json!("seen"))]);
                store.create(&mut record).await.expect("an answer");
                let (key, id) = (inner.last_key(), record.id.0);
                let held = inner.load(&key).await.expect("an answer");
                let bytes = held.expect("a record").to_bytes();
                let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
                assert!(holds(b"canary") && holds(b"seen"), "it is looked for in the right place");
                for id in [id, id.swap_bytes()] {
                    let digits = format!("{id:032x}");
                    for half in 0..2 {
                        assert!(!holds(&id.to_be_bytes()[8 * half..][..8]));
                        assert!(!key.to_string().contains(&digits[16 * half..][..16]));
                    }
                }
            }

            /// A counter behind their layer.
            #[tokio::test]
            async fn their_layer_serves_sessions_from_our_stores() {
                use $theirs::{Session, SessionManagerLayer};

                async fn count(session: Session) -> String {
                    let count: u32 = session.get("count").await.expect("an answer").unwrap_or(0);
                    session.insert("count", count + 1).await.expect("an answer");
                    count.to_string()
                }
                async fn rotate(session: Session) {
                    session.cycle_id().await.expect("an answer");
                }
                async fn flush(session: Session) {
                    session.flush().await.expect("an answer");
                }

                let store = ForTowerSessions::new(MemoryStore::new());
                let app = Router::new()
                    .route("/", get(count))
                    .route("/rotate", get(rotate))
                    .route("/flush", get(flush))
                    .layer(SessionManagerLayer::new(store));
                let mut browser = Browser::new(app);
                for expected in ["0", "1", "2"] {
                    assert_eq!(browser.get("/").await.1, expected);
                }
                let mut before = browser.clone();
                browser.get("/rotate").await;
                assert_ne!(browser.cookies, before.cookies);
                assert_eq!(browser.get("/").await.1, "3");
                assert_eq!(before.get("/").await.1, "0", "the old id opens nothing");
                let mut before = browser.clone();
                browser.get("/flush").await;
                assert_eq!(before.get("/").await.1, "0");
                assert_eq!(browser.get("/").await.1, "0");
            }
        }
    };
}

version!(v0_14, tower_sessions_0_14);
version!(v0_15, tower_sessions);
