//! What is shown once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::routing::{MethodRouter, any};
use http::{Method, Request, StatusCode};
use session_runtime::{Error, Schema, Session};
use session_tests::{Fault, Handles, Logs, Site, Visitor, on_each_store};
use tokio::sync::{Barrier, Notify};

#[derive(Session)]
struct Page {
    visits: u32,
    #[flash]
    notice: Option<String>,
    #[flash]
    warning: Option<String>,
    #[flash]
    points: u32,
    #[flash]
    #[merge(reject, browser)]
    seat: Option<String>,
}

const SAVED: &str = "Saved.";

fn notify(text: &'static str) -> MethodRouter {
    any(async move |mut session: Session<Page>| session.notice.set(text.to_owned()))
}

async fn show(session: Session<Page>) -> String {
    session.notice.get().clone().unwrap_or_default()
}

async fn peek(session: Session<Page>) -> String {
    session.notice.peek().clone().unwrap_or_default()
}

async fn claim(mut session: Session<Page>) -> Result<String, Error> {
    Ok(session.notice.claim().await?.flatten().unwrap_or_default())
}

/// Somebody to whom "Saved." is to be shown.
async fn notified(site: &Site) -> Visitor {
    let mut visitor = site.visitor();
    visitor.visit(notify(SAVED)).await;
    visitor
}

/// Returns what the next requests that read the notice are shown, until one finds it gone.
async fn shown(visitor: &mut Visitor) -> Vec<String> {
    let mut shown = Vec::new();
    loop {
        let text = visitor.visit(show).await.body;
        if text.is_empty() {
            return shown;
        }
        shown.push(text);
    }
}

/// Has one handle after the other do something in one request, and looks at what is shown after that.
#[tokio::test]
async fn handles_of_one_request_see_and_spare_what_is_shown_until_it_ends() {
    const NONE: &[&str] = &[];
    let cases = [
        (
            "shown twice",
            any(async |mut handles: Handles| {
                assert_eq!(show(handles.open().await).await, SAVED);
                assert_eq!(show(handles.open().await).await, SAVED);
            }),
            NONE,
        ),
        (
            "shown, then kept",
            any(async |mut handles: Handles| {
                assert_eq!(show(handles.open().await).await, SAVED);
                handles.open::<Page>().await.notice.keep();
            }),
            &[SAVED],
        ),
        (
            "kept, then shown",
            any(async |mut handles: Handles| {
                handles.open::<Page>().await.notice.keep();
                assert_eq!(show(handles.open().await).await, SAVED);
            }),
            &[SAVED],
        ),
        (
            "shown, then set",
            any(async |mut handles: Handles| {
                assert_eq!(show(handles.open().await).await, SAVED);
                handles.open::<Page>().await.notice.set("Sent.".to_owned());
            }),
            &["Sent."],
        ),
        (
            "set, then shown",
            any(async |mut handles: Handles| {
                handles.open::<Page>().await.notice.set("Sent.".to_owned());
                assert_eq!(show(handles.open().await).await, "Sent.");
            }),
            &["Sent."],
        ),
        (
            "shown, then cleared",
            any(async |mut handles: Handles| {
                assert_eq!(show(handles.open().await).await, SAVED);
                handles.open::<Page>().await.notice.clear();
                assert_eq!(show(handles.open().await).await, "");
            }),
            NONE,
        ),
        (
            "shown, then claimed",
            any(async |mut handles: Handles| {
                assert_eq!(show(handles.open().await).await, SAVED);
                assert_eq!(claim(handles.open().await).await.unwrap(), SAVED);
                assert_eq!(show(handles.open().await).await, "");
            }),
            NONE,
        ),
    ];
    for (what, handler, expected) in cases {
        let mut visitor = notified(&Site::in_memory()).await;
        assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
        assert_eq!(shown(&mut visitor).await, expected, "{what}");
    }
}

on_each_store!(
    it_lives_through_redirects_that_do_not_read_it,
    what_is_set_lives_on_whatever_was_read_before_or_after,
    what_a_handler_does_to_it_decides_what_the_next_one_sees_whatever_is_written_amid_that,
    a_value_for_now_is_seen_by_every_handle_and_leaves_the_stored_one_for_the_next_request,
    a_claim_takes_it_before_it_returns,
    of_1000_claims_at_once_exactly_one_gets_it,
    of_1000_reads_at_once_none_sweeps_a_newer_notice_that_says_the_same,
    using_up_an_older_one_leaves_the_newer_as_it_is,
    two_that_read_it_at_once_are_in_no_conflict_whatever_its_rule,
    a_request_that_is_not_committed_uses_nothing_up,
    what_nobody_is_shown_is_not_used_up,
);

async fn it_lives_through_redirects_that_do_not_read_it(site: Site) {
    let mut visitor = notified(&site).await;
    let others = [
        any(async || {}),
        any(async |_: Session<Page>| {}),
        any(async |session: Session<Page>| session.visits.get().to_string()),
        any(async |mut session: Session<Page>| *session.visits.get_mut() += 1),
        any(async |session: Session<Page>| session.notice.is_present().to_string()),
        any(async |session: Session<Page>| format!("{session:?}")),
        any(async |session: Session<Page>| session.warning.get().clone().unwrap_or_default()),
        any(async |mut session: Session<Page>| session.warning.clear()),
    ];
    for redirect in others {
        assert_eq!(visitor.visit(redirect).await.status, StatusCode::OK);
    }
    assert_eq!(shown(&mut visitor).await, [SAVED]);
}

async fn what_is_set_lives_on_whatever_was_read_before_or_after(site: Site) {
    let sets = [
        any(async |mut session: Session<Page>| {
            assert_eq!(session.notice.get().as_deref(), Some(SAVED));
            session.notice.set(SAVED.to_owned());
        }),
        any(async |mut session: Session<Page>| {
            session.notice.set(SAVED.to_owned());
            assert_eq!(session.notice.get().as_deref(), Some(SAVED));
        }),
        any(async |first: Session<Page>, mut second: Session<Page>| {
            assert_eq!(first.notice.get().as_deref(), Some(SAVED));
            drop(first);
            second.notice.set(SAVED.to_owned());
        }),
        any(async |first: Session<Page>, mut second: Session<Page>| {
            second.notice.set(SAVED.to_owned());
            drop(second);
            assert_eq!(first.notice.get().as_deref(), Some(SAVED));
        }),
    ];
    for set in sets {
        let mut visitor = notified(&site).await;
        visitor.visit(set).await;
        assert_eq!(shown(&mut visitor).await, [SAVED]);
    }
}

fn get(page: &PageSession) {
    assert_eq!(page.notice.get().as_deref(), Some(SAVED));
}

fn send(page: &mut PageSession) {
    page.notice.set("Sent.".to_owned());
}

/// What a handler may do between two uses of a flash.
#[derive(Clone, Copy, Debug)]
enum Amid {
    Nothing,
    Save,
    Rotate,
    Refresh,
    LogIn,
}

impl Amid {
    async fn run(self, session: &mut Session<impl Schema>) -> Result<(), Error> {
        match self {
            Self::Nothing => Ok(()),
            Self::Save => session.save().await.map(drop),
            Self::Rotate => session.rotate().await,
            Self::Refresh => session.refresh().await,
            Self::LogIn => session.login("ada").await,
        }
    }
}

async fn what_a_handler_does_to_it_decides_what_the_next_one_sees_whatever_is_written_amid_that(
    site: Site,
) {
    type Case = (
        &'static str,
        &'static [fn(&mut PageSession)],
        &'static [&'static str],
    );
    const KEEP: fn(&mut PageSession) = |page| page.notice.keep();
    const CLEAR: fn(&mut PageSession) = |page| page.notice.clear();
    const GET: fn(&mut PageSession) = |page| get(page);
    const SENT: fn(&mut PageSession) =
        |page| assert_eq!(page.notice.get().as_deref(), Some("Sent."));
    let cases: [Case; 21] = [
        ("get", &[GET], &[]),
        ("get, get", &[GET, GET], &[]),
        (
            "try_get",
            &[|page| assert!(page.notice.try_get().is_ok())],
            &[],
        ),
        (
            "peek",
            &[|page| assert!(page.notice.peek().is_some())],
            &[SAVED],
        ),
        ("keep", &[KEEP], &[SAVED]),
        ("keep, get", &[KEEP, GET], &[SAVED]),
        ("get, keep", &[GET, KEEP], &[SAVED]),
        ("get, keep, get", &[GET, KEEP, GET], &[SAVED]),
        (
            "get_mut",
            &[|page| assert!(page.notice.get_mut().is_some())],
            &[],
        ),
        (
            "get_mut, changed",
            &[|page| page.notice.get_mut().as_mut().unwrap().push('!')],
            &["Saved.!"],
        ),
        ("clear", &[CLEAR], &[]),
        ("get, set", &[GET, send], &["Sent."]),
        ("set, get", &[send, SENT], &["Sent."]),
        ("get, set, get", &[GET, send, SENT], &["Sent."]),
        (
            "set to the same, get",
            &[|page| page.notice.set(SAVED.to_owned()), GET],
            &[SAVED],
        ),
        ("clear, set", &[CLEAR, send], &["Sent."]),
        ("set, clear", &[send, CLEAR], &[]),
        ("set, set", &[GET, send, send], &["Sent."]),
        ("take", &[|page| assert!(page.notice.take().is_some())], &[]),
        ("clear, keep", &[CLEAR, KEEP], &[]),
        (
            "now, get",
            &[|page| page.notice.now("Sent.".to_owned()), SENT, SENT],
            &[SAVED],
        ),
    ];
    for (what, steps, expected) in cases {
        use Amid::{LogIn, Nothing, Refresh, Rotate, Save};
        for amid in [Nothing, Save, Rotate, Refresh, LogIn] {
            let mut visitor = notified(&site).await;
            let handler = async move |mut session: Session<Page>| {
                for step in steps {
                    step(session.fields());
                    amid.run(&mut session).await.unwrap();
                }
            };
            assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
            assert_eq!(shown(&mut visitor).await, expected, "{what}, {amid:?}");
        }
    }
}

async fn a_value_for_now_is_seen_by_every_handle_and_leaves_the_stored_one_for_the_next_request(
    site: Site,
) {
    let handlers = [
        any(async |mut session: Session<Page>| {
            session.notice.now("Wrong.".to_owned());
            assert_eq!(session.notice.get().as_deref(), Some("Wrong."));
            assert_eq!(session.notice.peek().as_deref(), Some("Wrong."));
            assert_eq!(session.notice.get().as_deref(), Some("Wrong."));
        }),
        any(async |mut handles: Handles| {
            let mut session = handles.open::<Page>().await;
            session.notice.now("Wrong.".to_owned());
            drop(session);
            for _ in 0..2 {
                assert_eq!(show(handles.open().await).await, "Wrong.");
            }
        }),
    ];
    for handler in handlers {
        let mut visitor = notified(&site).await;
        site.store.round_trips();
        assert_eq!(visitor.visit(handler.clone()).await.status, StatusCode::OK);
        assert_eq!(site.store.round_trips(), (1, 0), "nothing is written");
        assert_eq!(shown(&mut visitor).await, [SAVED]);

        let reply = site.visitor().visit(handler).await;
        assert!(reply.set_cookies().is_empty(), "no session for a guest");
        assert_eq!(site.store.round_trips().1, 1, "that was `shown`");
    }
}

async fn a_claim_takes_it_before_it_returns(site: Site) {
    let mut visitor = notified(&site).await;
    let mut tab = visitor.clone();
    let meanwhile = async move |mut session: Session<Page>| {
        let claimed = session.notice.claim().await.unwrap().flatten();
        assert_eq!(claimed.as_deref(), Some(SAVED));
        assert_eq!(tab.visit(show).await.body, "");
        assert_eq!(session.notice.get(), &None);
        assert_eq!(session.notice.claim().await.unwrap(), None);
    };
    assert_eq!(visitor.visit(meanwhile).await.status, StatusCode::OK);
    assert_eq!(visitor.visit(claim).await.body, "");
}

/// Sends 1000 requests at once. Each waits within its handler, session in hand, for all others.
async fn at_once<T, H>(visitor: &Visitor, handler: impl Fn(Arc<Barrier>) -> H) -> Vec<String>
where
    H: axum::handler::Handler<T, ()>,
    T: 'static,
{
    let barrier = Arc::new(Barrier::new(1000));
    let requests = (0..1000).map(|_| {
        let (mut tab, handler) = (visitor.clone(), handler(Arc::clone(&barrier)));
        tokio::spawn(async move { tab.visit(handler).await.body })
    });
    let mut bodies = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        bodies.push(request.await.unwrap());
    }
    bodies
}

async fn of_1000_claims_at_once_exactly_one_gets_it(site: Site) {
    let mut visitor = notified(&site).await;
    let claims = at_once(&visitor, |all| {
        async move |session: Session<Page>| {
            all.wait().await;
            claim(session).await
        }
    });
    let mut claims = claims.await;
    claims.retain(|claimed| !claimed.is_empty());
    assert_eq!(claims, [SAVED]);
    assert!(shown(&mut visitor).await.is_empty());
}

async fn of_1000_reads_at_once_none_sweeps_a_newer_notice_that_says_the_same(site: Site) {
    let mut visitor = notified(&site).await;
    let setter = visitor.clone();
    let reads = at_once(&visitor, |all| {
        let mut setter = setter.clone();
        async move |session: Session<Page>| {
            let text = session.notice.get().clone().unwrap_or_default();
            if all.wait().await.is_leader() {
                setter.visit(notify(SAVED)).await;
            }
            all.wait().await;
            text
        }
    });
    let reads = reads.await;
    assert!(reads.iter().all(|text| text == SAVED), "all were shown it");
    assert_eq!(shown(&mut visitor).await, [SAVED]);
}

/// Shows the notice, tells that it has, and waits.
fn linger(shown: &Arc<Notify>, go_on: &Arc<Notify>) -> MethodRouter {
    let (shown, go_on) = (Arc::clone(shown), Arc::clone(go_on));
    any(async move |session: Session<Page>| {
        let text = show(session).await;
        shown.notify_one();
        go_on.notified().await;
        text
    })
}

async fn using_up_an_older_one_leaves_the_newer_as_it_is(site: Site) {
    let mut visitor = notified(&site).await;
    let [mut slow, mut setter] = [(); 2].map(|()| visitor.clone());
    let [older_shown, newer_shown, older_ended] = [(); 3].map(|()| Arc::new(Notify::new()));
    let older = async {
        let reply = slow.visit(linger(&older_shown, &newer_shown)).await;
        assert_eq!(reply.body, SAVED);
        older_ended.notify_one();
    };
    let newer = async {
        older_shown.notified().await;
        setter.visit(notify("Sent.")).await;
        let reply = visitor.visit(linger(&newer_shown, &older_ended)).await;
        assert_eq!(reply.body, "Sent.");
    };
    tokio::join!(older, newer);
    assert_eq!(shown(&mut visitor).await, [""; 0]);
}

async fn two_that_read_it_at_once_are_in_no_conflict_whatever_its_rule(site: Site) {
    let mut visitor = site.visitor();
    let seat = async |mut session: Session<Page>| session.seat.set("4a");
    visitor.visit(seat).await;
    let both = Arc::new(Barrier::new(2));
    let read = async move |session: Session<Page>| {
        let seat = session.seat.get().clone();
        both.wait().await;
        seat.unwrap_or_default()
    };
    let mut tab = visitor.clone();
    let replies = tokio::join!(visitor.visit(read.clone()), tab.visit(read));
    for reply in [replies.0, replies.1] {
        assert_eq!((reply.status, &*reply.body), (StatusCode::OK, "4a"));
    }
}

async fn a_request_that_is_not_committed_uses_nothing_up(site: Site) {
    let site =
        site.with(|layer| layer.commit_if(|response| response.status != StatusCode::IM_A_TEAPOT));
    let visitor = notified(&site).await;

    // The client goes away amid the handler.
    let reading = Arc::new(Notify::new());
    let signal = Arc::clone(&reading);
    let never = async move |session: Session<Page>| {
        session.notice.get();
        signal.notify_one();
        std::future::pending::<()>().await;
    };
    let mut tab = visitor.clone();
    tokio::select! {
        reply = tab.visit(never) => panic!("{reply:?}"),
        () = reading.notified() => {}
    }

    // The handler panics.
    let mut tab = visitor.clone();
    let panics = async |session: Session<Page>| assert_eq!(session.notice.get(), &None, "planned");
    let panicked = tokio::spawn(async move { tab.visit(panics).await }).await;
    assert!(panicked.unwrap_err().is_panic());

    // Timeouts inside the layer, and what the app does not want.
    for status in [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::GATEWAY_TIMEOUT,
        StatusCode::IM_A_TEAPOT,
    ] {
        let fails = async move |session: Session<Page>| {
            session.notice.get();
            status
        };
        assert_eq!(visitor.clone().visit(fails).await.status, status);
    }

    // The store is full.
    site.store.plan([Fault::None, Fault::Full]);
    let refused = visitor.clone().visit(show).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);

    assert_eq!(shown(&mut visitor.clone()).await, [SAVED]);
}

async fn what_nobody_is_shown_is_not_used_up(site: Site) {
    let get = Request::get("/");
    let requests = [
        Request::head("/"),
        Request::get("/").header("sec-purpose", "prefetch"),
        Request::get("/").header("sec-purpose", "prefetch;prerender"),
        Request::get("/").header("sec-purpose", "prefetch;anonymous-client-ip"),
        Request::get("/").header("purpose", "prefetch"),
    ];
    let requests = requests.map(|request| (request, StatusCode::OK));
    let statuses = [304, 500, 502, 503, 599].map(|code| StatusCode::from_u16(code).unwrap());
    let statuses = statuses.map(|status| (Request::get("/"), status));
    // What is done on purpose counts, and so does all else.
    let reads = |status: StatusCode| {
        async move |mut session: Session<Page>| {
            assert_eq!(session.notice.get().as_deref(), Some(SAVED));
            assert!(session.notice.get_mut().is_some());
            assert!(session.points.take() == 7 && session.warning.claim().await.unwrap().is_some());
            *session.visits.get_mut() += 1;
            status
        }
    };
    for (request, status) in requests.into_iter().chain(statuses) {
        let mut visitor = notified(&site).await;
        visitor.visit(fill).await;
        let request = request.body(Body::empty()).unwrap();
        let what = format!("{request:?} {status}");
        assert_eq!(visitor.send(request, reads(status)).await.status, status);
        assert_eq!(visitor.visit(left).await.body, "1 None 0", "{what}");
        assert_eq!(shown(&mut visitor).await, [SAVED], "{what}");
    }
    let shows = [
        (get, StatusCode::OK),
        (
            Request::get("/").header("sec-purpose", "other"),
            StatusCode::OK,
        ),
        (Request::post("/"), StatusCode::SEE_OTHER),
        (Request::get("/"), StatusCode::NOT_FOUND),
        (Request::get("/").method(Method::PUT), StatusCode::CONFLICT),
    ];
    for (request, status) in shows {
        let mut visitor = notified(&site).await;
        visitor.visit(fill).await;
        let request = request.body(Body::empty()).unwrap();
        assert_eq!(visitor.send(request, reads(status)).await.status, status);
        assert!(shown(&mut visitor).await.is_empty(), "{status}");
    }
}

async fn fill(mut session: Session<Page>) {
    session.warning.set("Mind the gap.");
    session.points.set(7);
}

async fn left(session: Session<Page>) -> String {
    let (visits, warning) = (session.visits.get(), session.warning.peek());
    format!("{visits} {warning:?} {}", session.points.peek())
}

#[tokio::test]
async fn fields_are_used_up_one_by_one() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let all = async |mut session: Session<Page>| {
        session.notice.set(Some("notice".to_owned()));
        session.warning.set("warning".to_owned());
        session.points.set(7_u32);
    };
    visitor.visit(all).await;
    let rest = async |session: Session<Page>| {
        let page = (
            session.notice.peek(),
            session.warning.peek(),
            session.points.peek(),
        );
        format!("{page:?}")
    };
    let points = async |session: Session<Page>| session.points.get().to_string();
    let warning = async |session: Session<Page>| session.warning.get().clone().unwrap_or_default();
    let steps = [
        (any(points), "7", r#"(Some("notice"), Some("warning"), 0)"#),
        (any(warning), "warning", r#"(Some("notice"), None, 0)"#),
        (any(show), "notice", "(None, None, 0)"),
    ];
    for (read, text, left) in steps {
        assert_eq!(visitor.visit(read).await.body, text);
        assert_eq!(visitor.visit(rest).await.body, left);
    }
}

#[tokio::test]
async fn two_requests_that_overlap_may_both_show_it() {
    let site = Site::in_memory();
    let mut visitor = notified(&site).await;
    let mut tab = visitor.clone();
    let overlaps = async move |session: Session<Page>| {
        assert_eq!(tab.visit(show).await.body, SAVED);
        show(session).await
    };
    assert_eq!(visitor.visit(overlaps).await.body, SAVED);
    assert!(shown(&mut visitor).await.is_empty());
}

#[tokio::test]
async fn what_is_set_after_it_was_read_elsewhere_is_the_newer_one() {
    let site = Site::in_memory();
    let mut visitor = notified(&site).await;
    let mut tab = visitor.clone();
    let overlaps = async move |mut session: Session<Page>| {
        assert_eq!(tab.visit(show).await.body, SAVED);
        session.notice.set("Sent.".to_owned());
    };
    visitor.visit(overlaps).await;
    assert_eq!(shown(&mut visitor).await, ["Sent."]);
}

#[tokio::test]
async fn a_claim_gets_the_newest_notice_there_is() {
    let site = Site::in_memory();
    let mut visitor = notified(&site).await;
    let mut tab = visitor.clone();
    let overlaps = async move |session: Session<Page>| {
        tab.visit(notify("Sent.")).await;
        claim(session).await
    };
    assert_eq!(visitor.visit(overlaps).await.body, "Sent.");
    assert!(shown(&mut visitor).await.is_empty());
}

#[tokio::test]
async fn what_is_set_and_claimed_in_one_request_leaves_no_trace() {
    let site = Site::in_memory();
    let one_handle = async |mut session: Session<Page>| {
        session.notice.set(SAVED.to_owned());
        claim(session).await
    };
    let two_handles = async |mut first: Session<Page>, mut handles: Handles| {
        first.notice.set(SAVED.to_owned());
        drop(first);
        claim(handles.open().await).await
    };
    for handler in [any(one_handle), any(two_handles)] {
        site.store.round_trips();
        let reply = site.visitor().visit(handler).await;
        assert_eq!(reply.body, SAVED);
        assert!(reply.set_cookies().is_empty(), "no session for nothing");
        assert_eq!(site.store.round_trips(), (0, 0));
    }
}

#[tokio::test]
async fn what_is_set_after_a_value_for_now_is_stored() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let both = async |mut session: Session<Page>| {
        session.notice.now("Wrong.".to_owned());
        session.notice.set("Sent.".to_owned());
        session.notice.get().clone().unwrap_or_default()
    };
    assert_eq!(visitor.visit(both).await.body, "Sent.");
    assert_eq!(shown(&mut visitor).await, ["Sent."]);
}

#[tokio::test]
async fn taking_a_value_for_now_leaves_the_stored_one() {
    let takes = [
        any(async |mut session: Session<Page>| {
            session.notice.now("Wrong.".to_owned());
            session.notice.take().unwrap_or_default()
        }),
        any(async |mut session: Session<Page>| {
            session.notice.now("Wrong.".to_owned());
            claim(session).await
        }),
    ];
    for take in takes {
        let mut visitor = notified(&Site::in_memory()).await;
        assert_eq!(visitor.visit(take).await.body, "Wrong.");
        assert_eq!(shown(&mut visitor).await, [SAVED]);
    }
}

#[tokio::test]
async fn of_two_values_for_now_the_later_one_counts() {
    let site = Site::in_memory();
    let handler = async |mut handles: Handles| {
        for text in ["Wrong.", "Wrong again."] {
            handles.open::<Page>().await.notice.now(text.to_owned());
        }
        assert_eq!(claim(handles.open().await).await.unwrap(), "Wrong again.");
        show(handles.open().await).await
    };
    assert_eq!(site.visitor().visit(handler).await.body, "");
}

/// The page of the next version of the app.
mod next {
    use session_runtime::Session;

    #[derive(Session)]
    pub(super) struct Page {
        #[session(alias = "notice")]
        #[flash]
        pub(super) message: Option<String>,
    }
}

#[tokio::test]
async fn what_is_kept_survives_a_logout_under_an_older_name_too() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let enter = async |mut session: Session<Page>| {
        session.notice.set(SAVED.to_owned());
        session.login("ada").await
    };
    assert_eq!(visitor.visit(enter).await.status, StatusCode::OK);
    let mut visitor = visitor.moved_to(&site.other_process());
    let leave = async |mut session: Session<next::Page>| {
        session.message.keep();
        session.logout().await
    };
    assert_eq!(visitor.visit(leave).await.status, StatusCode::OK);
    let show = async |session: Session<next::Page>| session.message.get().clone();
    let show = async move |session| show(session).await.unwrap_or_default();
    assert_eq!(visitor.visit(show).await.body, SAVED);
}

#[tokio::test]
async fn it_costs_a_commit_to_use_it_up_and_none_to_leave_it() {
    let site = Site::in_memory();
    let mut visitor = notified(&site).await;
    let keep = async |mut session: Session<Page>| {
        session.notice.keep();
        session.notice.get();
    };
    site.store.round_trips();
    for (handler, cost) in [
        (any(peek), (1, 0)),
        (any(keep), (1, 0)),
        (any(claim), (1, 1)),
        (any(claim), (1, 0)),
        (any(notify(SAVED)), (1, 1)),
        (any(show), (1, 1)),
        (any(show), (1, 0)),
    ] {
        visitor.visit(handler).await;
        assert_eq!(site.store.round_trips(), cost);
    }
}

#[tokio::test]
async fn of_a_session_that_is_deleted_no_notice_is_shown() {
    let site = Site::in_memory();
    let mut visitor = notified(&site).await;
    let delete = async |mut session: Session<Page>| {
        session.notice.keep();
        session.warning.now("Beware.");
        session.delete("done").await?;
        let shown = session.notice.is_present() || session.warning.is_present();
        Ok::<_, Error>(shown.to_string())
    };
    assert_eq!(visitor.visit(delete).await.body, "false");
}

#[tokio::test]
async fn all_flashes_are_cleared_unread_whatever_of_them_there_is() {
    let site = Site::in_memory();
    let mut visitor = notified(&site).await;
    let warn = async |mut session: Session<Page>| {
        session.warning.set("Beware.".to_owned());
        session.points.set(3_u32);
    };
    visitor.visit(warn).await;
    let clear = async |mut handles: Handles| {
        let mut first = handles.open::<Page>().await;
        first.warning.keep();
        first.notice.now("Now.".to_owned());
        drop(first);
        let mut session = handles.open::<Page>().await;
        assert_eq!(session.notice.peek().as_deref(), Some("Now."));
        *session.visits.get_mut() += 1;
        session.points.set(4_u32);
        session.clear_flashes();
        let gone = !session.notice.is_present() && !session.warning.is_present();
        assert!(gone && !session.points.is_present());
        assert_eq!(*session.visits.get(), 1);
        session.warning.set("After all.".to_owned());
    };
    let reply = visitor.visit(clear).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    let rest = async |session: Session<Page>| {
        let (notice, warning) = (session.notice.peek(), session.warning.peek());
        format!(
            "{notice:?} {warning:?} {} {}",
            session.points.peek(),
            session.visits.get()
        )
    };
    let rest = visitor.visit(rest).await.body;
    assert_eq!(rest, r#"None Some("After all.") 0 1"#);

    // A newer one, of a request that came in between, is another one's.
    let mut other = visitor.clone();
    let late = async move |mut session: Session<Page>| {
        other.visit(notify("Newer.")).await;
        session.clear_flashes();
    };
    assert_eq!(visitor.visit(late).await.status, StatusCode::OK);
    assert_eq!(shown(&mut visitor).await, ["Newer."]);
}

/// Flashes with rules, which would settle a use and a change of one request as if they were two requests'.
#[derive(Session)]
struct Ruled {
    #[flash]
    #[merge(reject, browser)]
    seat: Option<String>,
    #[flash]
    #[merge(sum, browser)]
    points: u32,
    #[flash]
    #[merge(append, browser)]
    notices: Vec<String>,
}

async fn ruled(session: Session<Ruled>) -> String {
    let notices = session.notices.get().join(" ");
    format!(
        "{:?} {} {notices}",
        session.seat.get(),
        session.points.get()
    )
}

const NOTHING: &str = "None 0 ";

/// Somebody to whom each of these is to be shown.
async fn seated(site: &Site) -> Visitor {
    let mut visitor = site.visitor();
    let fill = async |mut session: Session<Ruled>| {
        session.seat.set("1A");
        session.points.set(5_u32);
        session.notices.set(vec![SAVED.to_owned()]);
    };
    visitor.visit(fill).await;
    visitor
}

fn reseat(session: &mut RuledSession) {
    session.seat.set("2B");
    session.points.set(7_u32);
    session.notices.set(vec!["Sent.".to_owned()]);
}

#[tokio::test]
async fn what_is_set_after_it_was_shown_takes_its_place_whatever_its_rule() {
    use Amid::{LogIn, Nothing, Refresh, Rotate, Save};
    let logs = Logs::capture();
    for amid in [Nothing, Save, Rotate, Refresh, LogIn] {
        let mut visitor = seated(&Site::in_memory()).await;
        let handler = async move |mut handles: Handles| {
            assert_eq!(ruled(handles.open().await).await, "Some(\"1A\") 5 Saved.");
            let mut session = handles.open::<Ruled>().await;
            amid.run(&mut session).await.unwrap();
            reseat(&mut session);
        };
        let reply = visitor.visit(handler).await;
        assert_eq!(reply.status, StatusCode::OK, "{amid:?}: {}", reply.body);
        let shown = visitor.visit(ruled).await.body;
        assert_eq!(shown, "Some(\"2B\") 7 Sent.", "{amid:?}");
        assert_eq!(visitor.visit(ruled).await.body, NOTHING, "{amid:?}");
    }
    assert_eq!(logs.lines("WARN", ""), 0, "{}", logs.text());
}

#[tokio::test]
async fn what_is_changed_in_place_after_it_was_shown_lives_on_as_a_whole() {
    let mut visitor = seated(&Site::in_memory()).await;
    let handler = async |mut handles: Handles| {
        ruled(handles.open().await).await;
        let mut session = handles.open::<Ruled>().await;
        *session.points.get_mut() += 2;
        session.notices.get_mut().push("Sent.".to_owned());
    };
    assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
    assert_eq!(visitor.visit(ruled).await.body, "None 7 Saved. Sent.");
    assert_eq!(visitor.visit(ruled).await.body, NOTHING);
}

/// Says what a handle is shown that is opened after these, and what the next request is.
async fn after_now(does: fn(&mut RuledSession)) -> (String, String) {
    let mut visitor = seated(&Site::in_memory()).await;
    let handler = async move |mut handles: Handles| {
        let mut first = handles.open::<Ruled>().await;
        first.seat.now("3C");
        first.points.now(9_u32);
        first.notices.now(vec!["Wrong.".to_owned()]);
        drop(first);
        does(handles.open::<Ruled>().await.fields());
        let session = handles.open::<Ruled>().await;
        ruled(session).await
    };
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    (reply.body, visitor.visit(ruled).await.body)
}

#[tokio::test]
async fn a_value_for_now_can_be_taken_and_replaced_through_another_handle() {
    const STORED: &str = "Some(\"1A\") 5 Saved.";
    const NEW: &str = "Some(\"2B\") 7 Sent.";
    let seen = |seen: &str, next: &str| (seen.to_owned(), next.to_owned());
    let takes: fn(&mut RuledSession) = |session| {
        assert_eq!(session.seat.take().as_deref(), Some("3C"));
        assert_eq!(session.points.take(), 9);
        assert_eq!(session.notices.take(), ["Wrong."]);
    };
    assert_eq!(after_now(takes).await, seen(STORED, NOTHING));
    let clears: fn(&mut RuledSession) = |session| {
        session.seat.clear();
        session.points.clear();
        session.notices.clear();
    };
    assert_eq!(after_now(clears).await, seen(STORED, NOTHING));
    assert_eq!(after_now(reseat).await, seen(NEW, NEW));
    let changes: fn(&mut RuledSession) = |session| {
        *session.seat.get_mut() = Some("2B".to_owned());
        *session.points.get_mut() -= 2;
        *session.notices.get_mut() = vec!["Sent.".to_owned()];
    };
    assert_eq!(after_now(changes).await, seen(NEW, NEW));
    let nothing: fn(&mut RuledSession) = |_| ();
    let wrong = "Some(\"3C\") 9 Wrong.";
    assert_eq!(after_now(nothing).await, seen(wrong, STORED));
}

#[tokio::test]
async fn what_was_shown_is_used_up_whatever_becomes_of_a_value_for_now_or_of_its_lifetime() {
    let then: [fn(&mut RuledSession); 2] = [
        |session| {
            session.seat.now("3C");
            session.points.now(9_u32);
            session.notices.now(Vec::new());
        },
        |session| {
            session.seat.persist();
            session.points.expire_in(Duration::from_secs(60));
            session.notices.persist();
        },
    ];
    for then in then {
        let mut visitor = seated(&Site::in_memory()).await;
        let handler = async move |mut handles: Handles| {
            ruled(handles.open().await).await;
            then(handles.open::<Ruled>().await.fields());
            let mut session = handles.open::<Ruled>().await;
            if session.seat.peek().as_deref() == Some("3C") {
                let _ = (
                    session.seat.take(),
                    session.points.take(),
                    session.notices.take(),
                );
            }
        };
        assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
        assert_eq!(visitor.visit(ruled).await.body, NOTHING);
    }
}

#[tokio::test]
async fn a_claim_returns_what_was_changed_in_place_with_it() {
    let site = Site::in_memory();
    let claim_more = async |mut session: Session<Ruled>| {
        session.notices.get_mut().push("Sent.".to_owned());
        let claimed = session.notices.claim().await?;
        Ok::<_, Error>(claimed.unwrap_or_default().join(" "))
    };
    let mut visitor = seated(&site).await;
    assert_eq!(visitor.visit(claim_more).await.body, "Saved. Sent.");
    // There is no other any more.
    assert_eq!(visitor.visit(claim_more).await.body, "Sent.");
    let unchanged = async |mut session: Session<Ruled>| {
        session.notices.get_mut();
        format!("{:?}", session.notices.claim().await)
    };
    assert_eq!(visitor.visit(unchanged).await.body, "Ok(None)");
}

#[tokio::test]
async fn a_claim_returns_nothing_that_somebody_else_has_claimed() {
    for renewed in [false, true] {
        let mut visitor = seated(&Site::in_memory()).await;
        let mut other = visitor.clone();
        let too_late = async move |mut session: Session<Ruled>| {
            *session.seat.get_mut() = Some("3C".to_owned());
            let take = async |mut session: Session<Ruled>| session.seat.claim().await.map(drop);
            assert_eq!(other.visit(take).await.status, StatusCode::OK);
            if renewed {
                let renew = async |mut session: Session<Ruled>| session.seat.set("2B");
                other.visit(renew).await;
            }
            format!("{:?}", session.seat.claim().await.unwrap().flatten())
        };
        let expected = if renewed { "Some(\"2B\")" } else { "None" };
        assert_eq!(visitor.visit(too_late).await.body, expected);
    }
}

#[tokio::test]
async fn what_is_shown_after_the_response_is_used_up_by_a_save() {
    for (method, status, left) in [
        (Method::GET, StatusCode::OK, [].as_slice()),
        (Method::HEAD, StatusCode::OK, &[SAVED]),
        (Method::GET, StatusCode::BAD_GATEWAY, &[SAVED]),
    ] {
        let mut visitor = notified(&Site::in_memory()).await;
        let mut session = visitor.outlive::<Page>(method, status).await;
        assert_eq!(session.notice.get().as_deref(), Some(SAVED));
        session.save().await.unwrap();
        drop(session);
        assert_eq!(shown(&mut visitor).await, left);
    }
}

#[tokio::test]
async fn what_was_only_shown_is_not_said_to_be_lost() {
    let logs = Logs::capture();
    let site = Site::in_memory();
    let mut visitor = notified(&site).await;
    let session = visitor.outlive::<Page>(Method::GET, StatusCode::OK).await;
    assert_eq!(session.notice.get().as_deref(), Some(SAVED));
    drop(session);
    let leave = async |mut handles: Handles| {
        let shown = handles.open::<Page>().await;
        shown.notice.get();
        let mut session = handles.open::<Page>().await;
        session.login("ada").await?;
        drop(shown);
        session.logout().await
    };
    assert_eq!(visitor.visit(leave).await.status, StatusCode::OK);
    assert_eq!(logs.lines("ERROR", ""), 0, "{}", logs.text());
    assert_eq!(logs.lines("WARN", ""), 0, "{}", logs.text());
}
