//! Our records in stores of the tower-sessions family: what is kept of the promises, and what is lost.

#![cfg(all(feature = "tower-sessions", feature = "testing"))]

mod common;

use std::collections::{HashMap, VecDeque};
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::get;
use common::{apply, create, creation, end, increment, number, session_key, slot, update};
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, StatusCode};
use session_runtime::store::{Store, TowerSessionsStore};
use session_runtime::testing::{CASES, SWEEPER_CASES, conformance_case};
use session_runtime::{
    Change, Clock, Committed, Error, Expiry, Key, Kind, Session, SessionId, SessionLayer,
    SlotChange, State, SystemClock, Timestamp, UserId,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower::ServiceExt;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{self, SessionStore};

const HOUR: Duration = Duration::from_secs(60 * 60);

// ---- the suite of promises

async fn keeps_its_promises(make: fn() -> TowerSessionsStore) {
    for case in CASES {
        let run = tokio::spawn(conformance_case(case, move |_| async move { make() }));
        // Their store deletes what has expired, by its own clock.
        match (run.await, SWEEPER_CASES.contains(case)) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => panic!("`{case}` is kept by a store that expires by itself"),
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
    keeps_its_promises(|| TowerSessionsStore::v0_15(Troubled::default())).await;
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

/// A store of theirs whose next writes go wrong as planned. As over Redis, a create writes nothing over
/// anything, and a save nothing over nothing.
#[derive(Clone, Debug, Default)]
struct Troubled(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    records: Mutex<HashMap<Id, Record>>,
    planned: Mutex<VecDeque<Trouble>>,
    go_on: Notify,
    /// Loads find nothing, as if all had expired.
    hides: Mutex<bool>,
}

impl Troubled {
    fn store(&self) -> TowerSessionsStore {
        TowerSessionsStore::v0_15(self.clone())
    }

    fn plan<const N: usize>(&self, troubles: [Trouble; N]) {
        lock(&self.0.planned).extend(troubles);
    }

    fn records(&self) -> MutexGuard<'_, HashMap<Id, Record>> {
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
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        self.write(|| {
            let mut records = self.records();
            while records.contains_key(&record.id) {
                record.id = Id::default();
            }
            records.insert(record.id, record.clone());
        })
        .await
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        self.write(|| {
            if let Some(held) = self.records().get_mut(&record.id) {
                *held = record.clone();
            }
        })
        .await
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
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

/// Sets a slot that is not there yet.
fn setting(name: &str) -> Change {
    update(now(), [SlotChange::set(None, Arc::new(slot(name, "1")))])
}

async fn payload(store: &impl Store, key: &Key, name: &str) -> Option<usize> {
    let record = store.load(key).await.expect("an answer")?;
    record.slot(name).map(|slot| number(slot))
}

/// A session and a key that it can move to.
async fn session(store: &impl Store) -> (Key, Key) {
    let id = SessionId::generate().expect("random bytes");
    let next = id.successor().expect("random bytes");
    let key = Key::from(&id);
    apply(store, &key, &creation(now(), &[slot("n", "0")])).await;
    (key, Key::from(&next))
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_applied_once() {
    use Trouble::{After, Before, None};
    for troubles in [[Before, None], [After, None], [None, Before], [None, After]] {
        let theirs = Troubled::default();
        let store = theirs.store();
        let (key, next) = session(&store).await;
        let (fresh, add) = (session_key(), Arc::new(slot("n", "1")));
        let base = Some(Arc::new(slot("n", "0")));
        let changes = [
            (&fresh, creation(now(), &[slot("n", "0")])),
            (&key, update(now(), [SlotChange::set(base, add)])),
            (
                &key,
                Change::new(Kind::Move(next.clone(), now() + HOUR), now()),
            ),
            (&next, end(now())),
        ];
        for (key, change) in &changes {
            theirs.plan(troubles);
            while let Err(error) = store.commit(key, change).await {
                assert!(error.is_transient(), "{error:?}");
            }
            lock(&theirs.0.planned).clear();
            // Had it been applied twice, or not known, this would be answered otherwise.
            apply(&theirs.store(), key, change).await;
        }
        assert_eq!(payload(&store, &fresh, "n").await, Some(0));
        let state = async |key| {
            store
                .load(key)
                .await
                .expect("an answer")
                .expect("a record")
                .state
                .clone()
        };
        assert_eq!(
            state(&key).await,
            State::Moved(next.clone()),
            "{troubles:?}"
        );
        assert!(
            matches!(state(&next).await, State::Ended(_)),
            "{troubles:?}"
        );
    }
}

#[tokio::test]
async fn what_was_not_answered_is_not_added_twice() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let (key, _) = session(&store).await;
    theirs.plan([Trouble::After]);
    let one = SlotChange::set(Some(Arc::new(slot("n", "0"))), Arc::new(slot("n", "1")));
    let lost = update(now(), [one]);
    store
        .commit(&key, &lost)
        .await
        .expect_err("the answer is lost");
    increment(&store, &key, now()).await;
    apply(&store, &key, &lost).await;
    assert_eq!(payload(&store, &key, "n").await, Some(2));
}

#[tokio::test]
async fn a_move_whose_second_step_failed_is_ended_by_its_repeat() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let (from, to) = session(&store).await;
    let relocation = Change::new(Kind::Move(to.clone(), now() + HOUR), now());
    theirs.plan([Trouble::None, Trouble::Before]);
    store
        .commit(&from, &relocation)
        .await
        .expect_err("half of it");
    let another = Change::new(Kind::Move(to.clone(), now() + HOUR), now());
    let other = store.commit(&from, &another).await.expect("an answer");
    assert_eq!(other, Committed::Exists, "another move finds the key taken");
    apply(&store, &from, &relocation).await;
    assert_eq!(payload(&store, &to, "n").await, Some(0));
}

/// Paused time moves on when nothing can be done: so a task either has done what it can, or waits.
async fn all_wait() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_save_that_was_given_up_ends_before_the_next_begins() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let (key, _) = session(&store).await;
    theirs.plan([Trouble::Waits]);
    let first = setting("a");
    let given_up = tokio::time::timeout(HOUR / 3_600, store.commit(&key, &first)).await;
    given_up.expect_err("nobody waits for it any more");
    let next = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move { apply(&store, &key, &setting("b")).await }
    });
    all_wait().await;
    assert!(!next.is_finished());
    theirs.0.go_on.notify_one();
    next.await.expect("it is applied");
    for name in ["a", "b"] {
        assert_eq!(payload(&store, &key, name).await, Some(1), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_holds_up_a_record_for_half_a_minute() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let (key, _) = session(&store).await;
    theirs.plan([Trouble::Waits]);
    let begun = tokio::time::Instant::now();
    let error = store.commit(&key, &setting("a")).await;
    assert!(error.expect_err("no answer").is_transient());
    apply(&store, &key, &setting("b")).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_at_once_the_later_writer_wins() {
    let theirs = Troubled::default();
    let (store, other) = (theirs.store(), theirs.store());
    let (key, _) = session(&store).await;
    theirs.plan([Trouble::Waits]);
    let same = key.clone();
    let later = tokio::spawn(async move { apply(&store, &same, &setting("a")).await });
    all_wait().await;
    apply(&other, &key, &setting("b")).await;
    theirs.0.go_on.notify_one();
    later.await.expect("it is applied");
    let left = [
        payload(&other, &key, "a").await,
        payload(&other, &key, "b").await,
    ];
    assert_eq!(left, [Some(1), None], "the docs say what is lost");
}

#[tokio::test]
async fn what_their_store_shows_no_more_is_written_over_under_its_own_id() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let key = create(&store, now(), &[slot("n", "7")]).await;
    *lock(&theirs.0.hides) = true;
    apply(&store, &key, &creation(now(), &[slot("n", "8")])).await;
    *lock(&theirs.0.hides) = false;
    assert_eq!(payload(&store, &key, "n").await, Some(8));
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
    async fn save(&self, _: &Record) -> session_store::Result<()> {
        Err(session_store::Error::Encode("canary".to_owned()))
    }

    async fn load(&self, _: &Id) -> session_store::Result<Option<Record>> {
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
    let key = create(&store, now(), &[]).await;
    theirs
        .records()
        .values_mut()
        .for_each(|record| record.data.clear());
    let error = store.load(&key).await.expect_err("it is no record");
    let cause = error.source().expect("a cause").to_string();
    assert!(
        cause.contains("a table or a prefix of their own"),
        "{cause}"
    );
}

// ---- what their store holds

#[tokio::test]
async fn what_their_store_keeps_lives_a_minute_longer_than_the_record() {
    let theirs = Troubled::default();
    let store = theirs.store();
    let forever = Timestamp::from_millis(i64::MAX);
    let years = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    for (expires, lifetime) in [(now() + HOUR, HOUR), (forever, years)] {
        let change = Change {
            expiry: Expiry::Set(expires),
            ..creation(now(), &[])
        };
        theirs.records().clear();
        apply(&store, &session_key(), &change).await;
        let kept: Vec<i64> = theirs
            .records()
            .values()
            .map(|record| record.expiry_date.unix_timestamp())
            .collect();
        let expected = (now() + lifetime + HOUR / 60).as_millis() / 1_000;
        assert!(
            kept.len() == 1 && (expected - 2..=expected).contains(&kept[0]),
            "{kept:?} {expected}"
        );
    }
}

fn owned(owner: &UserId, at: Timestamp) -> Change {
    Change {
        owner: Some(owner.clone()),
        ..creation(at, &[])
    }
}

#[tokio::test]
async fn an_owner_s_sessions_are_listed_by_another_process() {
    let (theirs, ada) = (Troubled::default(), UserId::new("ada"));
    let key = session_key();
    apply(&theirs.store(), &key, &owned(&ada, now())).await;
    let listed = theirs.store().owned_by(&ada).await.expect("an answer");
    assert_eq!(listed, [key]);
}

#[tokio::test]
async fn what_has_ended_goes_off_the_list_at_the_next_login() {
    let (theirs, ada) = (Troubled::default(), UserId::new("ada"));
    let store = theirs.store();
    let listed = || -> usize {
        let records = theirs.records();
        let lists = records
            .values()
            .filter_map(|record| record.data.get("listed"));
        lists
            .map(|list| list.as_object().expect("a list").len())
            .sum()
    };
    let long_ago = now() - 2 * HOUR;
    for _ in 0..3 {
        let key = session_key();
        apply(&store, &key, &owned(&ada, long_ago)).await;
        apply(&store, &key, &end(long_ago)).await;
    }
    assert_eq!(listed(), 3);
    for count in [1, 2] {
        apply(&store, &session_key(), &owned(&ada, now())).await;
        assert_eq!(listed(), count);
    }
}

// ---- under the layer

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
    theme: String,
}

fn app(theirs: &Troubled) -> Router {
    let add = async |mut session: Session<Shop>| {
        *session.points.get_mut() += 1;
        session.theme.set("dark".to_owned());
    };
    let login = async |mut session: Session<Shop>| session.login("ada").await;
    let rotate = async |mut session: Session<Shop>| session.rotate().await;
    let logout = async |mut session: Session<Shop>| session.logout().await;
    let show = async |session: Session<Shop>| {
        Ok::<_, Error>(format!("{} {}", session.points.get(), session.theme.get()))
    };
    Router::new()
        .route("/", get(show))
        .route("/add", get(add))
        .route("/login", get(login))
        .route("/rotate", get(rotate))
        .route("/logout", get(logout))
        .layer(SessionLayer::new(theirs.store()).deadline(HOUR))
}

/// Visits a page, and keeps the cookie up to date.
async fn visit(app: &Router, cookie: &mut String, page: &str) -> String {
    let request = Request::get(page).header(COOKIE, cookie.as_str());
    let request = request.body(Body::empty()).expect("a request");
    let response = app.clone().oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK, "{page}");
    if let Some(set) = response.headers().get(SET_COOKIE) {
        let set = set.to_str().expect("text");
        set.split(';').next().unwrap_or_default().clone_into(cookie);
    }
    let body = to_bytes(response.into_body(), 1_000).await.expect("a body");
    String::from_utf8(body.to_vec()).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_serves_guests_and_users_from_a_store_of_theirs() {
    let theirs = Troubled::default();
    let app = app(&theirs);
    let mut cookie = String::new();
    visit(&app, &mut cookie, "/add").await;
    let mut ids = vec![cookie.clone()];
    let mut requests = JoinSet::new();
    for _ in 0..64 {
        let (app, mut cookie) = (app.clone(), cookie.clone());
        requests.spawn(async move { visit(&app, &mut cookie, "/add").await });
    }
    requests.join_all().await;
    for page in ["/rotate", "/login", "/add"] {
        visit(&app, &mut cookie, page).await;
        ids.push(cookie.clone());
    }
    // Another process, and another device of the same user.
    let app = self::app(&theirs);
    assert_eq!(visit(&app, &mut cookie, "/").await, "66 dark");
    let mut phone = String::new();
    visit(&app, &mut phone, "/login").await;
    assert_eq!(visit(&app, &mut phone, "/").await, "66 ");
    visit(&app, &mut cookie, "/logout").await;
    assert_eq!(visit(&app, &mut ids[3], "/").await, "0 ");

    let stored = format!("{:?}", theirs.records());
    for id in &ids {
        let (_, id) = id.split_once('=').expect("a cookie");
        assert!(SessionId::parse(id.as_bytes()).is_some());
        assert!(!stored.contains(id), "a stolen database holds no id");
    }
}
