//! Faults of the store, of values and of set-ups: what the client is told, and what is written.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{MethodRouter, any, get};
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use session_runtime::store::{MemoryStore, Record, SqliteStore, Store, StoreError, Swapped, Swept};
use session_runtime::{
    Error, Key, PassiveSession, Saved, Session, SessionId, SessionLayer, Sessions, UserId,
};
use session_tests::{Browser, Fault, Handles, Logs, Reply, Site, Visitor, on_each_store};
use tokio::time::Instant;
use tracing::trace;

/// How long the layer waits for the store here: the default.
const DEADLINE: Duration = Duration::from_secs(2);

/// The client waits for the deadline and what else the request takes.
const PATIENCE: Duration = Duration::from_millis(2_100);

const BUSY: &str = "The session is not available just now. Please try again.";

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
    text: String,
    more: String,
    even_more: String,
    yet_more: String,
    #[expire("1h")]
    lapsing: String,
    ratio: f64,
    #[merge(reject)]
    seat: u32,
}

async fn add_one(mut session: Session<Shop>) {
    *session.points.get_mut() += 1;
}

async fn read(session: Session<Shop>) -> String {
    session.points.get().to_string()
}

/// A site whose layer waits no longer than by default, and a visitor who has ten points.
async fn shop() -> (Site, Visitor) {
    let site = patient_no_longer(Site::in_memory());
    let visitor = customer(&site).await;
    (site, visitor)
}

fn patient_no_longer(site: Site) -> Site {
    site.with(|layer| layer.deadline(DEADLINE))
}

async fn customer(site: &Site) -> Visitor {
    let mut visitor = site.visitor();
    visitor
        .visit(async |mut session: Session<Shop>| session.points.set(10))
        .await;
    site.store.round_trips();
    visitor
}

async fn points(site: &Site, visitor: &Visitor) -> Option<String> {
    site.payload(visitor, "points").await
}

/// The session is not available: the client is told so, and nothing else.
fn assert_busy(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.body, BUSY);
    assert!(reply.set_cookies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_response_carries_the_error_that_it_tells_of_and_a_503_says_when_to_come_back() {
    let (site, mut visitor) = shop().await;
    assert!(visitor.visit(read).await.error.is_none());
    site.store.at_swaps(Some(Fault::Full));
    let at_commit = visitor.visit(add_one).await;
    site.store.always(Some(Fault::Slow(10 * DEADLINE)));
    let at_load = visitor.visit(add_one).await;
    for (reply, is_timeout) in [(at_commit, false), (at_load, true)] {
        assert_busy(&reply);
        assert_eq!(reply.headers[RETRY_AFTER], "1");
        let error = reply.error.expect("the response carries it");
        assert!(error.is_unavailable());
        assert_eq!(error.is_timeout(), is_timeout);
    }

    site.store.always(None);
    let grow = async |mut session: Session<Shop>| session.text.set("x".repeat(1 << 20));
    let reply = visitor.visit(grow).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(reply.error.is_some_and(|error| error.is_too_large()));
    assert!(!reply.headers.contains_key(RETRY_AFTER));
}

// ---- the store fails

#[tokio::test(start_paused = true)]
async fn a_sweep_that_is_never_answered_is_given_up_and_the_next_one_sweeps() {
    let (site, visitor) = shop().await;
    let layer = site
        .layer
        .clone()
        .sweep_every(Some(Duration::from_secs(60)));
    let mut visitor = visitor.moved_to(&layer);
    visitor.visit(async || "it begins to sweep").await;
    site.store.plan([Fault::Held]);
    site.clock.advance(Duration::from_secs(3 * 60 * 60));
    site.store.until_held(1).await;
    assert!(site.record(&visitor).await.is_some());
    tokio::time::sleep(Duration::from_secs(5 * 60)).await;
    let left = site.store.inner().sweep(10).await.expect("an answer");
    assert_eq!(left.deleted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_load_is_503_within_the_deadline_and_costs_nothing() {
    for fault in [
        Fault::Before,
        Fault::After,
        Fault::Full,
        Fault::Slow(10 * DEADLINE),
    ] {
        let (site, mut visitor) = shop().await;
        let id = visitor.id();
        site.store.always(Some(fault));
        let begun = Instant::now();
        assert_busy(&visitor.visit(add_one).await);
        assert!(
            begun.elapsed() < PATIENCE,
            "{fault:?}: {:?}",
            begun.elapsed()
        );
        let optional = async |session: Option<Session<Shop>>| session.is_none().to_string();
        assert_busy(&visitor.visit(optional).await);
        assert_eq!(
            visitor.visit(async || "unaffected").await.body,
            "unaffected"
        );
        site.store.always(None);
        assert_eq!(visitor.id(), id);
        assert_eq!(visitor.visit(read).await.body, "10");
    }
}

/// The faults of a commit, and by how much it raises the points in the end; `None` for a 503.
const AT_COMMIT: &[(&[Fault], Option<u32>)] = &[
    (&[Fault::Before], Some(1)),
    (&[Fault::After], Some(1)),
    (&[Fault::After, Fault::Before, Fault::After], Some(1)),
    (
        &[Fault::Slow(Duration::from_millis(500)), Fault::None],
        Some(1),
    ),
    (&[Fault::After, Fault::Slow(Duration::from_secs(20))], None),
    (&[Fault::Full], None),
];

async fn a_commit_that_fails_is_repeated_and_applied_once(site: Site) {
    for (faults, more) in AT_COMMIT {
        // Whatever is to succeed has all the time it takes.
        let layer = match more {
            Some(_) => site.layer.clone(),
            None => site.layer.clone().deadline(DEADLINE),
        };
        let mut visitor = customer(&site).await.moved_to(&layer);
        let store = Arc::clone(&site.store);
        let handler = async move |session: Session<Shop>| {
            store.plan(faults.iter().copied());
            add_one(session).await;
        };
        let reply = visitor.visit(handler).await;
        match more {
            Some(more) => {
                assert_eq!(reply.status, StatusCode::OK, "{faults:?}");
                assert_eq!(points(&site, &visitor).await, Some((10 + more).to_string()));
            }
            None => assert_busy(&reply),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_commit_is_503_within_the_deadline() {
    for fault in [
        Fault::Before,
        Fault::After,
        Fault::Slow(10 * DEADLINE),
        Fault::Late(10 * DEADLINE),
    ] {
        let (site, mut visitor) = shop().await;
        let mut guest = site.visitor();
        for visitor in [&mut visitor, &mut guest] {
            let store = Arc::clone(&site.store);
            let handler = async move |session: Session<Shop>| {
                store.always(Some(fault));
                add_one(session).await;
            };
            let begun = Instant::now();
            assert_busy(&visitor.visit(handler).await);
            assert!(
                begun.elapsed() < PATIENCE,
                "{fault:?}: {:?}",
                begun.elapsed()
            );
            site.store.always(None);
        }
        assert_eq!(guest.browser.id(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_is_never_answered_is_not_applied_twice() {
    let lost = [
        Fault::After,
        Fault::Late(10 * DEADLINE),
        Fault::Before,
        Fault::Slow(10 * DEADLINE),
    ];
    for fault in lost {
        for between in [0, 1] {
            let (site, mut visitor) = shop().await;
            let (store, other) = (Arc::clone(&site.store), visitor.clone());
            let handler = async move |mut session: Session<Shop>| {
                *session.points.get_mut() += 1;
                store.always(Some(fault));
                assert!(
                    session
                        .save()
                        .await
                        .is_err_and(|error| error.is_unavailable())
                );
                store.always(None);
                if between == 1 {
                    other.clone().visit(add_one).await;
                }
                *session.points.get_mut() += 1;
            };
            assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
            let expected = Some((12 + between).to_string());
            assert_eq!(points(&site, &visitor).await, expected, "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_is_never_answered_is_not_credited_twice_at_login() {
    for fault in [Fault::After, Fault::Before] {
        let (site, mut visitor) = shop().await;
        let store = Arc::clone(&site.store);
        let handler = async move |mut session: Session<Shop>| {
            *session.points.get_mut() += 1;
            store.always(Some(fault));
            assert!(
                session
                    .save()
                    .await
                    .is_err_and(|error| error.is_unavailable())
            );
            store.always(None);
            session.login("ada").await
        };
        assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
        assert_eq!(visitor.visit(read).await.body, "11", "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_never_answered_leaves_the_old_id_good() {
    for fault in [Fault::After, Fault::Before, Fault::Late(10 * DEADLINE)] {
        let (site, mut visitor) = shop().await;
        let store = Arc::clone(&site.store);
        let handler = async move |mut session: Session<Shop>| {
            *session.points.get_mut() += 1;
            store.always(Some(fault));
            session.rotate().await
        };
        assert_busy(&visitor.visit(handler).await);
        site.store.always(None);
        let now = visitor.visit(read).await.body;
        assert_eq!(
            now,
            if fault == Fault::Before { "10" } else { "11" },
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_issued_is_sent_though_a_later_commit_fails() {
    let (site, mut customer) = shop().await;
    let mut guest = site.visitor();
    let before = customer.id();
    for visitor in [&mut customer, &mut guest] {
        let store = Arc::clone(&site.store);
        let handler = async move |mut session: Session<Shop>| {
            session.text.set("saved".to_owned());
            assert_eq!(session.save().await?, Saved::Written);
            session.rotate().await?;
            session.text.set("lost".to_owned());
            store.always(Some(Fault::Before));
            Ok::<_, Error>(())
        };
        let reply = visitor.visit(handler).await;
        site.store.always(None);
        assert_eq!(
            (reply.status, reply.set_cookies().len()),
            (StatusCode::SERVICE_UNAVAILABLE, 1)
        );
        assert_eq!(
            site.payload(visitor, "text").await.as_deref(),
            Some("\"saved\"")
        );
    }
    assert_ne!(customer.id(), before);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_never_settles_is_503_within_the_deadline() {
    let (site, mut visitor) = shop().await;
    let logs = Logs::capture();
    site.store.at_swaps(Some(Fault::Contested));
    let begun = Instant::now();
    assert_busy(&visitor.visit(add_one).await);
    assert!(
        (DEADLINE..PATIENCE).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        logs.lines(
            "ERROR",
            "a conflict could not be settled before the deadline"
        ),
        1
    );
}

/// Fills the store with sessions until one is refused, and says what each was.
async fn fill(site: &Site) -> Vec<Visitor> {
    let mut visitors = Vec::new();
    loop {
        let mut visitor = site.visitor();
        let large = async |mut session: Session<Shop>| session.text.set("x".repeat(20_000));
        let reply = visitor.visit(large).await;
        if reply.status != StatusCode::OK {
            assert_busy(&reply);
            return visitors;
        }
        let comes_back = async |session: Session<Shop>| session.text.get().len().to_string();
        visitor.visit(comes_back).await;
        visitors.push(visitor);
    }
}

async fn a_full_store_refuses_what_is_new_and_keeps_what_it_has(site: Site) {
    async fn size(session: Session<Shop>) -> String {
        session.text.get().len().to_string()
    }
    let mut visitors = fill(&site).await;
    assert!(visitors.len() > 10, "{}", visitors.len());
    for visitor in &mut visitors {
        assert_eq!(visitor.visit(size).await.body, "20000");
    }
    let delete = async |mut session: Session<Shop>| session.delete("done").await;
    for visitor in &mut visitors {
        assert_eq!(visitor.visit(delete).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_session_that_is_larger_than_may_be_by_now_may_shrink() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let fill = async |mut session: Session<Shop>| {
        session.text.set("a".repeat(500));
        session.more.set("a".repeat(500));
    };
    visitor.visit(fill).await;
    let mut visitor = visitor.moved_to(&site.layer.clone().max_record(100));
    let shrink = async |mut session: Session<Shop>| session.text.set("a".repeat(400));
    assert_eq!(visitor.visit(shrink).await.status, StatusCode::OK);
    let grow = async |mut session: Session<Shop>| session.text.set("a".repeat(401));
    let reply = visitor.visit(grow).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_full_store_in_memory() {
    let store = |clock| {
        MemoryStore::new()
            .with_clock(clock)
            .with_capacity_bytes(400_000)
    };
    a_full_store_refuses_what_is_new_and_keeps_what_it_has(Site::new(store)).await;
}

#[tokio::test]
async fn a_full_store_in_a_file() {
    let folder = session_tests::TempDir::new().expect("a scratch folder");
    let options = |clock| SqliteStore::options().clock(clock).max_bytes(1 << 20);
    let site = Site::new(|clock| {
        options(clock)
            .open(folder.path().join("db"))
            .expect("a fresh file")
    });
    a_full_store_refuses_what_is_new_and_keeps_what_it_has(site).await;
}

// ---- the app fails

#[tokio::test]
async fn without_the_layer_it_is_500_and_the_log_says_what_to_write() {
    let logs = Logs::capture();
    let reply = Browser::new(Router::new().route("/", get(read)))
        .get("/")
        .await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        reply.body,
        "Something went wrong with the session: see the log."
    );
    assert_eq!(
        logs.lines(
            "ERROR",
            "add `.layer(SessionLayer::new(store))` to the router"
        ),
        1
    );
}

type Act = fn(&mut ShopSession);

/// Two handlers that set values which cannot be stored: at the end of the request, and on `save`.
fn setting(act: Act) -> [MethodRouter; 2] {
    [
        any(async move |mut session: Session<Shop>| act(&mut session)),
        any(async move |mut session: Session<Shop>| {
            act(&mut session);
            session.save().await.map(|_| ())
        }),
    ]
}

/// The largest value that a field holds.
const KIB_256: usize = 256 << 10;

/// Text that takes so many bytes as JSON.
fn text(bytes: usize) -> String {
    "x".repeat(bytes - 2)
}

/// What is set, and the status.
const TOO_MUCH: &[(Act, StatusCode)] = &[
    (|s| s.text.set(text(KIB_256)), StatusCode::OK),
    (
        |s| s.text.set(text(KIB_256 + 1)),
        StatusCode::PAYLOAD_TOO_LARGE,
    ),
    (|s| fill_up(s, 0), StatusCode::OK),
    (|s| fill_up(s, 1), StatusCode::PAYLOAD_TOO_LARGE),
    (|s| s.ratio.set(f64::NAN), StatusCode::INTERNAL_SERVER_ERROR),
];

/// Fills a session that has nothing but ten points to 1 MiB and so many bytes more.
fn fill_up(s: &mut ShopSession, beyond: usize) {
    let names = "textmoreeven_moreyet_more".len();
    let points = "points".len() + 2;
    s.text.set(text(KIB_256));
    s.more.set(text(KIB_256));
    s.even_more.set(text(KIB_256));
    s.yet_more.set(text(KIB_256 - names - points + beyond));
}

async fn what_is_too_large_or_has_no_form_is_refused_and_nothing_is_written(site: Site) {
    for (act, status) in TOO_MUCH {
        for handler in setting(*act) {
            let mut visitor = customer(&site).await;
            let before = site.record(&visitor).await;
            let reply = visitor.visit(handler.clone()).await;
            assert_eq!(reply.status, *status, "{}", reply.body);
            assert!(reply.set_cookies().is_empty());
            assert_eq!(
                site.record(&visitor).await == before,
                *status != StatusCode::OK
            );
            let reply = site.visitor().visit(handler).await;
            assert_eq!(
                reply.set_cookies().is_empty(),
                reply.status != StatusCode::OK
            );
        }
    }
}

async fn what_is_refused_of_a_session_is_not_written_of_its_user_either(site: Site) {
    let (too_large, changed) = (StatusCode::PAYLOAD_TOO_LARGE, StatusCode::CONFLICT);
    for (status, conflicts) in [(too_large, false), (changed, true)] {
        let mut visitor = customer(&site).await;
        visitor
            .visit(async |mut session: Session<Shop>| session.login("ada").await)
            .await;
        let before = visitor.visit(read).await.body;
        let tab = visitor.clone();
        let handler = async move |mut session: Session<Shop>| {
            *session.points.get_mut() += 1;
            if conflicts {
                let reserve = async |mut session: Session<Shop>| session.seat.set(1);
                tab.clone().visit(reserve).await;
                session.seat.set(2);
            } else {
                session.text.set(text(KIB_256 + 1));
            }
        };
        assert_eq!(visitor.visit(handler).await.status, status);
        assert_eq!(visitor.visit(read).await.body, before, "{status}");
    }
}

async fn a_handle_that_cannot_be_saved_keeps_its_changes_to_be_mended(site: Site) {
    let mut visitor = customer(&site).await;
    let handler = async |mut session: Session<Shop>| {
        session.more.set("kept".to_owned());
        session.text.set(text(KIB_256 + 1));
        assert!(
            session
                .save()
                .await
                .is_err_and(|error| error.is_too_large())
        );
        assert_eq!(session.text.get().len(), KIB_256 - 1);
        session.text.set("mended".to_owned());
        assert_eq!(session.save().await?, Saved::Written);

        fill_up(&mut session, 1);
        assert!(
            session
                .save()
                .await
                .is_err_and(|error| error.is_too_large())
        );
        session.more.set("kept".to_owned());
        assert_eq!(session.save().await?, Saved::Written);

        session.ratio.set(f64::INFINITY);
        session.lapsing.set("kept".to_owned());
        assert!(session.save().await.is_err_and(|error| error.is_encode()));
        session.ratio.set(0.5);
        Ok::<_, Error>(())
    };
    assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
    for (field, expected) in [
        ("more", "\"kept\""),
        ("lapsing", "\"kept\""),
        ("ratio", "0.5"),
    ] {
        assert_eq!(
            site.payload(&visitor, field).await.as_deref(),
            Some(expected)
        );
    }
}

/// The cap is on what there is after the change: what goes makes room, and what has lapsed.
async fn a_session_that_is_full_takes_one_thing_in_place_of_another(site: Site) {
    let mut visitor = site.visitor();
    let full = async |mut session: Session<Shop>| {
        fill_up(&mut session, 0);
        session.text.clear();
        session.lapsing.set(text(KIB_256 - 100));
    };
    assert_eq!(visitor.visit(full).await.status, StatusCode::OK);
    let swap = async |mut session: Session<Shop>| {
        session.more.clear();
        session.text.set(text(KIB_256));
    };
    assert_eq!(visitor.visit(swap).await.status, StatusCode::OK);
    site.clock.advance(Duration::from_secs(60 * 60));
    let again = async |mut session: Session<Shop>| session.lapsing.set(text(KIB_256 - 100));
    assert_eq!(visitor.visit(again).await.status, StatusCode::OK);
}

/// Another version of the app has stored more in a field than it may hold here.
async fn what_was_stored_under_a_larger_limit_is_refused_only_where_it_changes(site: Site) {
    let mut visitor = customer(&site).await;
    let fill = async |mut session: Session<Shop>| session.text.set(text(100));
    visitor.visit(fill).await;
    let here = site.layer.clone().max_field(50);
    let mut visitor = visitor.moved_to(&here);
    let borrow = async |mut session: Session<Shop>| {
        session.text.get_mut().push('y');
        session.text.get_mut().pop();
        add_one(session).await;
    };
    assert_eq!(visitor.visit(borrow).await.status, StatusCode::OK);
    for (length, status) in [
        (101, StatusCode::PAYLOAD_TOO_LARGE),
        (99, StatusCode::PAYLOAD_TOO_LARGE),
        (50, StatusCode::OK),
    ] {
        let set = async move |mut session: Session<Shop>| session.text.set(text(length));
        assert_eq!(visitor.visit(set).await.status, status, "{length}");
    }
    assert_eq!(points(&site, &visitor).await.as_deref(), Some("11"));
}

/// Each of two requests has room for what it adds.
async fn what_two_requests_make_too_large_together_is_refused_to_the_later(site: Site) {
    #[derive(Session)]
    struct Notes {
        #[merge(append, browser)]
        notes: Vec<u32>,
        #[merge(append)]
        lasting: Vec<u32>,
    }
    let site = site.with(|layer| layer.max_field(50));
    for logs_in in [false, true] {
        let mut visitor = site.visitor();
        let begin = async move |mut session: Session<Notes>| {
            session.notes.set(vec![1]);
            if logs_in {
                session.login("ada").await?;
            }
            Ok::<_, Error>(())
        };
        assert_eq!(visitor.visit(begin).await.status, StatusCode::OK);
        let add = move |session: &mut Session<Notes>| {
            let notes = if logs_in {
                session.lasting.get_mut()
            } else {
                session.notes.get_mut()
            };
            notes.extend([100_000; 5]);
        };
        let mut tab = visitor.clone();
        let both = async move |mut session: Session<Notes>| {
            let other = async move |mut session: Session<Notes>| add(&mut session);
            assert_eq!(tab.visit(other).await.status, StatusCode::OK);
            add(&mut session);
        };
        let reply = visitor.visit(both).await;
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE, "{logs_in}");
        let count = async |session: Session<Notes>| {
            (session.notes.get().len() + session.lasting.get().len()).to_string()
        };
        assert_eq!(visitor.visit(count).await.body, "6");
    }
}

/// It is set apart, and nobody could be credited with it.
async fn what_a_late_request_sets_of_its_guest_is_refused_if_it_is_too_large(site: Site) {
    #[derive(Session)]
    struct Notes {
        #[merge(append)]
        notes: Vec<u32>,
    }
    let site = site.with(|layer| layer.max_field(50));
    let mut visitor = site.visitor();
    let begin = async |mut session: Session<Notes>| session.notes.set(vec![1]);
    visitor.visit(begin).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Notes>| {
        let login = async |mut session: Session<Notes>| session.login("ada").await;
        assert_eq!(tab.visit(login).await.status, StatusCode::OK);
        session.notes.get_mut().extend([100_000; 10]);
    };
    let reply = visitor.visit(late).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
}

// ---- nothing leaks

/// Part of every value that must not show.
const CANARY: &str = "canary";

/// A value that says more than it should when it cannot be written.
#[derive(Debug, Default, Deserialize)]
struct Talkative(String);

impl Serialize for Talkative {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_str() {
            "" => to.serialize_str(""),
            secret => Err(S::Error::custom(format!("cannot write {secret}"))),
        }
    }
}

#[derive(Session)]
struct Secrets {
    password: String,
    #[merge(append)]
    notes: Vec<String>,
    #[merge(reject)]
    exclusive: String,
    #[flash]
    notice: Option<String>,
    talkative: Talkative,
    number: u32,
}

/// A store that logs all that goes through it, as an app might.
struct Chatty<S>(S);

impl<S: Store> Store for Chatty<S> {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let answer = self.0.load(key).await;
        trace!(?key, ?answer);
        answer
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        let answer = self.0.swap(key, before, after).await;
        trace!(?key, ?before, ?after, ?answer);
        answer
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.0.sweep(limit).await
    }
}

fn secret() -> String {
    CANARY.to_owned()
}

/// Handlers that end in all kinds of ways, and log what they can.
fn revealing() -> Vec<MethodRouter> {
    fn log(session: &Session<Secrets>) {
        trace!(?session, id = ?session.id(), ended = ?session.ended(), cells = ?**session);
    }
    fn log_error(error: &Error) {
        trace!(?error, %error, source = ?error.source());
    }
    vec![
        any(async |mut session: Session<Secrets>| {
            log(&session);
            session.password.set(secret());
            session.notes.get_mut().push(secret());
            session.notice.set(secret());
            log(&session);
            let saved = session.save().await;
            trace!(?saved);
            log(&session);
        }),
        any(
            async |session: PassiveSession<Secrets>, mut handles: Handles| {
                trace!(?session);
                handles.open::<Secrets>().await.exclusive.set(secret());
                let mut other = handles.open::<Secrets>().await;
                other.exclusive.set(format!("{CANARY} 2"));
                drop(session);
            },
        ),
        any(async |mut handles: Handles| {
            let (mut a, mut b) = (
                handles.open::<Secrets>().await,
                handles.open::<Secrets>().await,
            );
            a.exclusive.set(secret());
            b.exclusive.set(format!("{CANARY} 2"));
        }),
        any(async |mut session: Session<Secrets>| {
            session.talkative.set(Talkative(secret()));
            session.save().await.inspect_err(log_error).map(|_| ())
        }),
        any(async |mut session: Session<Secrets>| session.talkative.set(Talkative(secret()))),
        any(async |mut session: Session<Secrets>| {
            session.password.set(CANARY.repeat(50_000));
            session.save().await.inspect_err(log_error).map(|_| ())
        }),
        any(async |session: Session<Secrets>| {
            let error = session.number.try_get().expect_err("it is planted");
            trace!(?error, %error, source = ?error.source());
        }),
        any(async |mut session: Session<Secrets>| session.rotate().await),
        any(async |mut session: Session<Secrets>, sessions: Sessions| {
            session.notes.get_mut().push(secret());
            session.login(CANARY).await.inspect_err(log_error)?;
            let (user, own) = (UserId::from(CANARY), session.device().unwrap_or_default());
            sessions.label(&user, &own, Some(secret())).await?;
            let devices = sessions.list(&user).await?;
            trace!(?user, ?devices, ?sessions);
            log(&session);
            Ok::<_, Error>(())
        }),
        any(async |mut session: Session<Secrets>| {
            let claimed = session.notice.claim().await;
            claimed.inspect_err(log_error).map(|_| ())
        }),
        any(async |mut handles: Handles| {
            let (mut old, mut other) = (
                handles.open::<Secrets>().await,
                handles.open::<Secrets>().await,
            );
            old.password.set(format!("{CANARY} 2"));
            other.delete("done").await.inspect_err(log_error)?;
            Ok::<_, Error>(())
        }),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_id_key_or_value_shows_in_logs_debug_or_errors() {
    let logs = Logs::capture();
    let site = Site::new(|clock| Chatty(MemoryStore::new().with_clock(clock)));
    let site = patient_no_longer(site).with(SessionLayer::bind_user_agent);
    let mut secrets = vec![CANARY.to_owned()];
    for fault in [
        None,
        Some(Fault::Before),
        Some(Fault::After),
        Some(Fault::Full),
    ] {
        let mut visitor = site.visitor();
        for (step, handler) in revealing().into_iter().enumerate() {
            site.store.at_swaps(None);
            if step == 1 {
                site.plant(&visitor, "number", "\"canary\"").await;
            }
            site.store
                .at_swaps(fault.filter(|_| visitor.browser.id().is_some()));
            let request = Request::builder().header(USER_AGENT, CANARY);
            let request = request.body(Body::empty()).expect("it is one");
            let reply = visitor.send(request, handler).await;
            assert!(!reply.body.contains(CANARY));
            trace!(headers = ?reply.headers, layer = ?site.layer);
            secrets.extend(visitor.browser.id().map(str::to_owned));
        }
    }
    site.store.at_swaps(None);
    let mut thief = site.visitor();
    thief.visit(revealing().swap_remove(0)).await;
    secrets.push(thief.id());
    let stolen = Request::builder()
        .header(USER_AGENT, format!("{CANARY} 2"))
        .body(Body::empty());
    thief.send(stolen.expect("it is one"), read).await;
    let twice = format!("__Host-id={CANARY}; __Host-id={CANARY}");
    Visitor::of(site.layer.clone())
        .presenting(&twice)
        .visit(read)
        .await;

    let ids = secrets
        .iter()
        .filter_map(|id| SessionId::parse(id.as_bytes()));
    let parts: Vec<_> = ids.flat_map(|id| parts(&id)).collect();
    assert!(parts.len() > 20);
    let text = logs.text();
    for secret in secrets.iter().chain(&parts) {
        let shown = text.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(shown, None, "{secret}");
    }
    for logged in [
        "session error",
        "could not be folded",
        "another client",
        "ended or replaced",
    ] {
        assert!(text.contains(logged), "the scenario covers {logged:?}");
    }
}

/// An id's selector, which is what a store has for a key, and its secret.
fn parts(id: &SessionId) -> [String; 2] {
    let (selector, secret) = id.expose().split_at(16);
    assert_eq!(Key::from(id).to_string(), format!("session:{selector}"));
    [selector.to_owned(), secret.to_owned()]
}

on_each_store! {
    a_commit_that_fails_is_repeated_and_applied_once,
    what_is_too_large_or_has_no_form_is_refused_and_nothing_is_written,
    a_handle_that_cannot_be_saved_keeps_its_changes_to_be_mended,
    what_is_refused_of_a_session_is_not_written_of_its_user_either,
    a_session_that_is_full_takes_one_thing_in_place_of_another,
    what_was_stored_under_a_larger_limit_is_refused_only_where_it_changes,
    what_two_requests_make_too_large_together_is_refused_to_the_later,
    what_a_late_request_sets_of_its_guest_is_refused_if_it_is_too_large,
}
