//! The handles of one request, which share its session, and those that outlive it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use futures_util::{FutureExt, poll, stream};
use http::{Method, StatusCode};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde::{Deserialize, Serialize};
use session_runtime::{Error, Saved, Session, SessionLayer};
use session_tests::{Fault, Handles, Logs, Site, Visitor, on_a_cache, on_each_store};
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

#[derive(Session)]
struct Shop {
    visits: u32,
    colour: String,
    #[merge(sum)]
    points: u32,
    #[merge(reject)]
    stock: u32,
    #[expire("1h", sliding)]
    basket: u32,
}

/// Another struct over the same session, with a field in common.
#[derive(Session)]
struct Club {
    #[merge(sum)]
    points: u32,
    member: bool,
}

type Act = fn(&mut ShopSession);

/// A handler that does this.
fn doing(act: Act) -> MethodRouter {
    any(async move |mut session: Session<Shop>| act(&mut session))
}

/// A site, and a visitor who has ten points.
async fn shop() -> (Site, Visitor) {
    let site = Site::in_memory();
    let visitor = customer(&site).await;
    (site, visitor)
}

async fn customer(site: &Site) -> Visitor {
    let mut visitor = site.visitor();
    visitor.visit(doing(|s| s.points.set(10))).await;
    site.store.round_trips();
    visitor
}

async fn stored(site: &Site, visitor: &Visitor, field: &str) -> Option<String> {
    site.payload(visitor, field).await
}

// ---- handles of one request

async fn a_later_handle_sees_what_earlier_ones_changed(site: Site) {
    async fn outer(mut handles: Handles, request: Request, next: Next) -> Response {
        handles.open::<Shop>().await.colour.set("red".to_owned());
        *handles.open::<Club>().await.points.get_mut() += 1;
        let response = next.run(request).await;
        let session = handles.open::<Shop>().await;
        assert_eq!((*session.visits.get(), *session.points.get()), (7, 12));
        response
    }
    async fn inner(mut session: Session<Shop>) -> String {
        session.visits.set(7);
        *session.points.get_mut() += 1;
        format!("{} {}", session.colour.get(), session.points.get())
    }
    let mut visitor = customer(&site).await;
    let reply = visitor.visit(any(inner).layer(from_fn(outer))).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::OK, "red 12")
    );
    assert_eq!(site.store.round_trips(), (1, 1));
    assert_eq!(
        stored(&site, &visitor, "points").await.as_deref(),
        Some("12")
    );
}

async fn live_handles_of_one_request_merge_by_rule(site: Site) {
    async fn handler(mut handles: Handles) {
        let (mut a, mut b) = (handles.open::<Shop>().await, handles.open::<Shop>().await);
        let mut c = handles.open::<Club>().await;
        *a.points.get_mut() += 1;
        *b.points.get_mut() += 2;
        *c.points.get_mut() += 4;
        a.visits.set(1);
        b.visits.set(2);
        b.colour.set("blue".to_owned());
        drop((b, a, c));
    }
    let mut guest = site.visitor();
    let mut customer = customer(&site).await;
    for (visitor, points) in [(&mut guest, "7"), (&mut customer, "17")] {
        visitor.visit(handler).await;
        assert_eq!(
            stored(&site, visitor, "points").await.as_deref(),
            Some(points)
        );
        assert_eq!(stored(&site, visitor, "visits").await.as_deref(), Some("1")); // dropped last
        assert_eq!(
            stored(&site, visitor, "colour").await.as_deref(),
            Some("\"blue\"")
        );
    }
}

#[tokio::test]
async fn two_handles_that_change_a_field_under_reject_are_409_and_write_nothing() {
    let (site, mut visitor) = shop().await;
    let handler = async |mut handles: Handles| {
        let (mut a, mut b) = (handles.open::<Shop>().await, handles.open::<Shop>().await);
        a.stock.set(1);
        b.stock.set(1);
        b.visits.set(1);
    };
    assert_eq!(visitor.visit(handler).await.status, StatusCode::CONFLICT);
    assert_eq!(site.store.round_trips(), (1, 0));
}

#[tokio::test]
async fn a_handle_older_than_delete_folds_nothing_and_says_so() {
    let logs = Logs::capture();
    let (site, mut visitor) = shop().await;
    let before = visitor.clone();
    let handler = async |mut handles: Handles| {
        let (mut old, mut other) = (handles.open::<Shop>().await, handles.open::<Shop>().await);
        old.visits.set(1);
        other.delete("done").await.expect("the store answers");
        assert_eq!(*other.points.get(), 0);
        drop(old);
        assert!(!handles.open::<Shop>().await.visits.is_present());
    };
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(visitor.browser.id(), None);
    assert_eq!(site.store.round_trips(), (1, 1));
    assert_eq!(site.record(&before).await.expect("a tombstone").slots(), []);
    assert_eq!(logs.lines("WARN", "ended or replaced meanwhile"), 1);
}

#[tokio::test]
async fn what_is_set_after_delete_begins_another_session() {
    let (site, mut visitor) = shop().await;
    let before = visitor.clone();
    let handler = async |mut session: Session<Shop>| {
        session.visits.set(1);
        session.delete("done").await?;
        session.colour.set("red".to_owned());
        Ok::<_, Error>(())
    };
    assert_eq!(visitor.visit(handler).await.set_cookies().len(), 1);
    assert_ne!(visitor.id(), before.id());
    assert_eq!(
        stored(&site, &visitor, "colour").await.as_deref(),
        Some("\"red\"")
    );
    for lost in ["visits", "points"] {
        assert_eq!(stored(&site, &visitor, lost).await, None);
    }
}

/// A save that is under way, and what another handle does meanwhile.
async fn meanwhile(act: Act) -> Option<String> {
    let (site, mut visitor) = shop().await;
    let store = Arc::clone(&site.store);
    let handler = async move |mut handles: Handles| {
        let (mut saving, mut other) = (handles.open::<Shop>().await, handles.open::<Shop>().await);
        *saving.points.get_mut() += 1;
        act(&mut other);
        store.plan([Fault::Slow(Duration::from_millis(5))]);
        let save = saving.save();
        let meanwhile = async {
            tokio::task::yield_now().await;
            drop(other);
        };
        let (saved, ()) = tokio::join!(save, meanwhile);
        assert_eq!(saved.expect("the store answers"), Saved::Written);
    };
    assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
    stored(&site, &visitor, "points").await
}

#[tokio::test]
async fn what_changes_while_a_save_is_under_way_is_not_lost() {
    assert_eq!(
        meanwhile(|s| *s.points.get_mut() += 1).await.as_deref(),
        Some("12")
    );
    assert_eq!(
        meanwhile(|s| *s.points.get_mut() -= 1).await.as_deref(),
        Some("10")
    );
    assert_eq!(meanwhile(|s| s.points.clear()).await.as_deref(), Some("1"));
}

/// Returns what the client is told when a field under `reject` is changed while a save or a login is under way, by this request and
/// by another, and the handler makes nothing of the error.
async fn refused_meanwhile(site: &Site, login: bool) -> StatusCode {
    let mut visitor = customer(site).await;
    let (store, before) = (Arc::clone(&site.store), visitor.clone());
    let handler = async move |mut handles: Handles| {
        let (mut first, mut other) = (handles.open::<Shop>().await, handles.open::<Shop>().await);
        first.colour.set("red");
        other.stock.set(1);
        other.visits.set(1);
        store.plan([Fault::Held]);
        let step = async {
            if login {
                first.login("ada").await
            } else {
                first.save().await.map(drop)
            }
        };
        let meanwhile = async {
            store.until_held(1).await;
            drop(other);
            let mut another = before.clone();
            another.visit(doing(|s| s.stock.set(2))).await;
            store.release();
        };
        let (outcome, ()) = tokio::join!(step, meanwhile);
        outcome.expect_err("`stock` cannot be merged");
    };
    let status = visitor.visit(handler).await.status;
    let kept = [
        ("colour", Some("\"red\"")),
        ("stock", Some("2")),
        ("visits", None),
    ];
    for (field, value) in kept {
        assert_eq!(stored(site, &visitor, field).await.as_deref(), value);
    }
    status
}

async fn what_cannot_be_merged_after_a_save_or_a_login_is_told_of(site: Site) {
    for login in [false, true] {
        assert_eq!(refused_meanwhile(&site, login).await, StatusCode::CONFLICT);
    }
}

// ---- save and refresh

async fn saving_amid_a_request_begins_the_session_and_the_response_tells(site: Site) {
    let store = Arc::clone(&site.store);
    let handler = async move |mut session: Session<Shop>| {
        assert!(session.id().is_none());
        session.visits.set(1);
        assert_eq!(session.save().await?, Saved::Written);
        assert_eq!(store.round_trips(), (0, 1));
        assert!(!session.is_new());
        assert_eq!(session.save().await?, Saved::Unchanged);
        session.visits.set(2);
        Ok::<_, Error>(session.id().expect("it is stored").expose().to_owned())
    };
    let mut visitor = site.visitor();
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(reply.body, visitor.id());
    assert_eq!(site.store.round_trips(), (0, 1));
    assert_eq!(
        stored(&site, &visitor, "visits").await.as_deref(),
        Some("2")
    );
}

async fn refreshing_shows_what_others_stored_under_what_was_changed_here(site: Site) {
    let mut visitor = customer(&site).await;
    let other = visitor.clone();
    let handler = async move |mut session: Session<Shop>| {
        *session.points.get_mut() += 1;
        let theirs = doing(|s| {
            *s.points.get_mut() += 5;
            s.colour.set("red".to_owned());
        });
        other.clone().visit(theirs).await;
        session.refresh().await?;
        assert_eq!(
            (*session.points.get(), session.colour.get().as_str()),
            (16, "red")
        );
        *session.points.get_mut() += 1;
        Ok::<_, Error>(())
    };
    assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
    assert_eq!(
        stored(&site, &visitor, "points").await.as_deref(),
        Some("17")
    );
}

async fn a_session_that_another_request_deleted_cannot_be_saved(site: Site) {
    async fn delete(mut session: Session<Shop>) -> Result<(), Error> {
        session.delete("done").await
    }
    for refreshing in [false, true] {
        let mut visitor = customer(&site).await;
        let (id, other) = (visitor.id(), visitor.clone());
        let handler = async move |mut session: Session<Shop>| {
            other.clone().visit(delete).await;
            session.points.set(1);
            if refreshing {
                session.refresh().await?;
            }
            assert_eq!(session.save().await?, Saved::Ended);
            session.points.set(2);
            assert_eq!(session.save().await?, Saved::Ended);
            session.points.set(3);
            Ok::<_, Error>(())
        };
        let reply = visitor.visit(handler).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert!(reply.set_cookies().is_empty());
        assert_eq!(visitor.id(), id);
        assert_eq!(
            site.record(&visitor).await.expect("a tombstone").slots(),
            []
        );
    }
}

/// Handlers may borrow the handle across an await.
async fn borrow(session: Session<Shop>) -> String {
    let session = &session;
    tokio::task::yield_now().await;
    session.points.get().to_string()
}

#[tokio::test]
async fn a_borrowed_handle_may_be_held_across_an_await() {
    let (_site, mut visitor) = shop().await;
    assert_eq!(visitor.visit(borrow).await.body, "10");
}

// ---- what is not written

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// A value that knows how many of it there are, and panics on demand when it is written.
#[derive(Debug, Deserialize)]
#[serde(from = "i64")]
struct Counted(i64);

impl Counted {
    const EXPLOSIVE: i64 = 666;
}

impl From<i64> for Counted {
    fn from(value: i64) -> Self {
        LIVE.fetch_add(1, Ordering::SeqCst);
        Self(value)
    }
}

impl Default for Counted {
    fn default() -> Self {
        0.into()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Serialize for Counted {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, Self::EXPLOSIVE, "planned");
        to.serialize_i64(self.0)
    }
}

#[derive(Session)]
struct Fragile {
    counted: Counted,
    visits: u32,
}

fn explode() {
    panic!("planned");
}

/// Changes the session before the handler, as middleware does that counts visits.
async fn visited(mut session: Session<Fragile>, request: Request, next: Next) -> Response {
    session.visits.set(2);
    drop(session);
    next.run(request).await
}

/// Handlers that panic, each in its way.
fn panicking() -> [MethodRouter; 7] {
    [
        any(async |mut session: Session<Fragile>| {
            session.counted.get_mut().0 = 2;
            explode();
        }),
        any(async |mut handles: Handles| {
            handles.open::<Fragile>().await.visits.set(2); // folded before it panics
            let _other = handles.open::<Fragile>().await;
            explode();
        }),
        any(async |mut handles: Handles| {
            let held = handles.open::<Fragile>().await;
            handles.open::<Fragile>().await.visits.set(2);
            let held = tokio::sync::Mutex::new(held);
            held.lock().await.counted.get_mut().0 = 2;
            explode();
        }),
        // No handle is there any more that would take note.
        any(async |mut session: Session<Fragile>| {
            session.visits.set(2);
            drop(session);
            explode();
        }),
        any(async |mut session: Session<Fragile>| {
            session.counted.get_mut().0 = 2;
            drop(session);
            tokio::task::yield_now().await;
            explode();
        }),
        any(async || explode()).layer(from_fn(visited)),
        // What panics is the value, when the handle drops.
        any(async |mut handles: Handles| {
            handles.open::<Fragile>().await.visits.set(2);
            let mut session = handles.open::<Fragile>().await;
            session.counted.set(Counted::EXPLOSIVE.into());
        }),
    ]
}

#[tokio::test]
async fn a_handler_that_panics_writes_leaks_and_locks_nothing() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor
        .visit(async |mut session: Session<Fragile>| session.visits.set(1))
        .await;
    site.store.round_trips();
    for _ in 0..250 {
        for handler in panicking() {
            let inside = visitor
                .visit(handler.clone().layer(CatchPanicLayer::new()))
                .await;
            assert_eq!(inside.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(inside.set_cookies().is_empty());
            let outside = AssertUnwindSafe(visitor.visit(handler))
                .catch_unwind()
                .await;
            assert!(outside.is_err());
        }
    }
    assert_eq!(site.store.round_trips(), (3_500, 0));
    assert_eq!(LIVE.load(Ordering::SeqCst), 0);
    visitor
        .visit(async |mut session: Session<Fragile>| *session.visits.get_mut() += 1)
        .await;
    assert_eq!(
        stored(&site, &visitor, "visits").await.as_deref(),
        Some("2")
    );
}

#[tokio::test]
async fn a_task_that_panics_beside_the_handler_costs_what_it_changed_alone() {
    let (site, mut visitor) = shop().await;
    let handler = async |mut session: Session<Shop>, mut handles: Handles| {
        let mut lost = handles.open::<Shop>().await;
        let task = tokio::spawn(async move {
            lost.points.set(1);
            explode();
        });
        assert!(task.await.is_err());
        session.visits.set(1);
    };
    assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
    assert_eq!(
        stored(&site, &visitor, "visits").await.as_deref(),
        Some("1")
    );
    assert_eq!(
        stored(&site, &visitor, "points").await.as_deref(),
        Some("10")
    );
}

#[tokio::test]
async fn a_panic_that_the_handler_itself_gets_over_costs_nothing() {
    let (site, mut visitor) = shop().await;
    let handler = async |mut session: Session<Shop>| {
        session.visits.set(1);
        drop(session);
        assert!(std::panic::catch_unwind(explode).is_err());
    };
    assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
    assert_eq!(
        stored(&site, &visitor, "visits").await.as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn what_was_saved_before_a_panic_stays() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let handler = async |mut session: Session<Shop>| {
        session.visits.set(1);
        assert_eq!(session.save().await.ok(), Some(Saved::Written));
        session.visits.set(2);
        explode();
    };
    let reply = visitor
        .visit(any(handler).layer(CatchPanicLayer::new()))
        .await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        stored(&site, &visitor, "visits").await.as_deref(),
        Some("1")
    );
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_timed_out_inside_the_layer_writes_nothing() {
    for status in [StatusCode::REQUEST_TIMEOUT, StatusCode::GATEWAY_TIMEOUT] {
        let (site, mut visitor) = shop().await;
        let handler = async |mut session: Session<Shop>| {
            session.visits.set(1);
            tokio::time::sleep(Duration::from_secs(10)).await;
        };
        let timeout = TimeoutLayer::with_status_code(status, Duration::from_secs(1));
        let reply = visitor.visit(any(handler).layer(timeout)).await;
        assert_eq!(reply.status, status);
        assert_eq!(site.store.round_trips(), (1, 0));
    }
}

#[tokio::test]
async fn a_handler_that_answers_an_error_writes_as_usual() {
    for status in [400, 401, 404, 409, 422, 429, 500, 502, 503] {
        let (site, mut visitor) = shop().await;
        let handler = async move |mut session: Session<Shop>| {
            session.visits.set(1);
            StatusCode::from_u16(status).expect("it is one")
        };
        assert_eq!(visitor.visit(handler).await.status, status);
        assert_eq!(
            stored(&site, &visitor, "visits").await.as_deref(),
            Some("1"),
            "{status}"
        );
    }
}

#[tokio::test]
async fn the_app_may_decide_which_responses_are_written() {
    let decide = |layer: SessionLayer| layer.commit_if(|response| response.status.is_success());
    let site = Site::in_memory().with(decide);
    for (status, expected) in [(200, Some("1")), (302, None), (400, None), (500, None)] {
        let mut visitor = customer(&site).await;
        let handler = async move |mut session: Session<Shop>| {
            session.visits.set(1);
            StatusCode::from_u16(status).expect("it is one")
        };
        visitor.visit(handler).await;
        assert_eq!(
            stored(&site, &visitor, "visits").await.as_deref(),
            expected,
            "{status}"
        );
    }
}

// ---- handles that outlive their request

/// Counters, by name.
fn counted(counters: &Snapshotter, name: &str) -> usize {
    let counts = counters
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, .., value)| match value {
            DebugValue::Counter(count) if key.key().name() == name => count,
            _ => 0,
        });
    usize::try_from(counts.sum::<u64>()).expect("few")
}

/// The handle of a request whose response has left.
async fn outlive(visitor: &mut Visitor) -> Session<Shop> {
    visitor.outlive(Method::GET, StatusCode::OK).await
}

#[tokio::test]
async fn changes_dropped_after_the_response_are_logged_and_counted_and_not_written() {
    type Late = fn(&mut Session<Shop>);
    let cases: [(&str, Late, bool, usize); 6] = [
        ("nothing", |_| (), false, 0),
        ("read", |s| assert_eq!(*s.points.get(), 10), false, 0),
        (
            "borrowed",
            |s| assert_eq!(*s.points.get_mut(), 10),
            false,
            0,
        ),
        ("changed", |s| s.points.set(1), false, 1),
        ("changed and refreshed", |s| s.points.set(1), true, 1),
        (
            "given a lifetime",
            |s| s.set_ttl(Duration::from_secs(9)),
            false,
            1,
        ),
    ];
    for (what, act, refreshing, lost) in cases {
        let recorder = DebuggingRecorder::new();
        let counters = recorder.snapshotter();
        let _recorded = metrics::set_default_local_recorder(&recorder);
        let logs = Logs::capture();
        let (site, mut visitor) = shop().await;
        let mut session = outlive(&mut visitor).await;
        act(&mut session);
        if refreshing {
            session.refresh().await.expect("the store answers");
        }
        drop(session);
        assert_eq!(site.store.round_trips().1, 0, "{what}");
        assert_eq!(
            logs.lines("ERROR", "dropped with unsaved changes"),
            lost,
            "{what}"
        );
        assert_eq!(counted(&counters, "session_unsaved_total"), lost, "{what}");
    }
}

async fn a_handle_that_outlives_its_request_can_save(site: Site) {
    let mut visitor = customer(&site).await;
    let mut session = outlive(&mut visitor).await;
    for saved in 11..20 {
        *session.points.get_mut() += 1;
        assert_eq!(session.save().await.ok(), Some(Saved::Written));
        assert_eq!(
            stored(&site, &visitor, "points").await,
            Some(saved.to_string())
        );
    }
    visitor.visit(doing(|s| s.points.set(100))).await;
    *session.points.get_mut() += 1;
    assert_eq!(session.save().await.ok(), Some(Saved::Written));
    assert_eq!(*session.points.get(), 101);
}

async fn a_body_that_is_streamed_can_save(site: Site) {
    let mut visitor = customer(&site).await;
    let handler = async |mut session: Session<Shop>| {
        Body::from_stream(stream::once(async move {
            *session.points.get_mut() += 1;
            assert_eq!(session.save().await?, Saved::Written);
            Ok::<_, Error>("sent")
        }))
    };
    assert_eq!(visitor.visit(handler).await.body, "sent");
    assert_eq!(
        stored(&site, &visitor, "points").await.as_deref(),
        Some("11")
    );
}

#[tokio::test]
async fn no_id_can_be_issued_after_the_response() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let mut session = outlive(&mut visitor).await;
    session.visits.set(1);
    let error = session.save().await.expect_err("nobody would learn the id");
    assert!(
        error.to_string().contains("the response has left already"),
        "{error}"
    );
    let (site_of_customer, mut customer) = shop().await;
    let mut session = outlive(&mut customer).await;
    let error = session
        .rotate()
        .await
        .expect_err("nobody would learn the id");
    assert!(
        error.to_string().contains("the response has left already"),
        "{error}"
    );
    assert_eq!(
        site.store.round_trips().1 + site_of_customer.store.round_trips().1,
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_save_that_nobody_polls_holds_up_no_response() {
    let (site, mut visitor) = shop().await;
    let store = Arc::clone(&site.store);
    let handler = async move |mut handles: Handles| {
        let mut saving = handles.open::<Shop>().await;
        handles.open::<Shop>().await.visits.set(1);
        store.plan([Fault::Slow(Duration::from_millis(10))]);
        let mut save = Box::pin(async move {
            saving.points.set(1);
            saving.save().await
        });
        assert!(poll!(&mut save).is_pending());
        Body::from_stream(stream::once(async move { save.await.map(|_| "saved") }))
    };
    let reply = timeout(Duration::from_millis(100), visitor.visit(handler)).await;
    assert_eq!(reply.expect("it is answered by then").body, "saved");
    assert_eq!(
        stored(&site, &visitor, "visits").await.as_deref(),
        Some("1")
    );
    assert_eq!(
        stored(&site, &visitor, "points").await.as_deref(),
        Some("1")
    );
}

#[tokio::test(start_paused = true)]
async fn a_save_that_is_given_up_is_not_written_twice() {
    for fault in [Fault::Late, Fault::Slow] {
        let (site, mut visitor) = shop().await;
        let store = Arc::clone(&site.store);
        let handler = async move |mut session: Session<Shop>| {
            *session.points.get_mut() += 1;
            store.plan([fault(Duration::from_secs(1))]);
            assert!(
                timeout(Duration::from_millis(500), session.save())
                    .await
                    .is_err()
            );
            *session.points.get_mut() += 1;
        };
        assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
        assert_eq!(
            stored(&site, &visitor, "points").await.as_deref(),
            Some("12")
        );
    }
}

on_each_store! {
    a_later_handle_sees_what_earlier_ones_changed,
    live_handles_of_one_request_merge_by_rule,
    what_cannot_be_merged_after_a_save_or_a_login_is_told_of,
    saving_amid_a_request_begins_the_session_and_the_response_tells,
    refreshing_shows_what_others_stored_under_what_was_changed_here,
    a_session_that_another_request_deleted_cannot_be_saved,
    a_handle_that_outlives_its_request_can_save,
    a_body_that_is_streamed_can_save,
}

on_a_cache!(
    live_handles_of_one_request_merge_by_rule,
    refreshing_shows_what_others_stored_under_what_was_changed_here,
    a_session_that_another_request_deleted_cannot_be_saved,
);
