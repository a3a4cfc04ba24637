//! When things lapse: sessions that idle, sessions that are too old, and fields; and what a wrong clock does.

#![allow(clippy::unchecked_time_subtraction)] // a test that subtracts too much has failed

use std::time::{Duration, SystemTime};

use axum::handler::Handler;
use axum::routing::any;
use session_runtime::store::Store;
use session_runtime::transport::{CookieTransport, HeaderTransport, Transport};
use session_runtime::{Clock, PassiveSession, Saved, Session, SessionId, SessionLayer};
use session_tests::{Fault, Handles, Logs, Site, Visitor, on_each_store};

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Idle for an hour, a day at most; the layer's two hours and 30 days do not count.
#[derive(Session)]
#[session(ttl = "1h", absolute = "1 day")]
struct Till {
    total: u32,
    #[expire("15m")]
    offer: Option<String>,
    #[expire("20m", sliding)]
    desk: Option<String>,
    #[flash]
    notice: Option<String>,
}

/// As long as the layer says.
#[derive(Session)]
#[session(prefix = "other")]
struct Plain {
    clicks: u32,
}

/// Longer to idle, and shorter at all.
#[derive(Session)]
#[session(ttl = "3h", absolute = "12h", prefix = "lounge")]
struct Lounge {
    seat: u32,
}

/// What a handler does to the cells.
type Does = fn(&mut TillSession);

fn open(till: &mut TillSession) {
    till.total.set(1);
    till.offer.set("Two for one.");
    till.desk.set("Left.");
    till.notice.set("Hello.".to_owned());
}

async fn till(visitor: &mut Visitor, does: Does) {
    let handler = async move |mut session: Session<Till>| does(session.fields());
    assert!(visitor.visit(handler).await.status.is_success());
}

/// Somebody whose till has just been opened.
async fn cashier(site: &Site) -> Visitor {
    let mut visitor = site.visitor();
    till(&mut visitor, open).await;
    visitor
}

/// Says whether the session is there, which looking does not extend.
async fn there(session: PassiveSession<Till>) -> &'static str {
    said(!session.is_new())
}

async fn offer(session: PassiveSession<Till>) -> &'static str {
    said(session.offer.is_present())
}

async fn desk(session: PassiveSession<Till>) -> &'static str {
    said(session.desk.is_present())
}

fn said(there: bool) -> &'static str {
    if there { "there" } else { "gone" }
}

/// What [`around`] says of something that is gone at that time.
const LAPSES: [&str; 2] = ["there", "gone"];

/// Finds out if it is there a millisecond before `after` has passed, and when it has.
async fn around<T: 'static>(
    site: &Site,
    visitor: &Visitor,
    what: impl Handler<T, ()>,
    after: Duration,
) -> [String; 2] {
    let (mut before, mut then) = (visitor.clone(), visitor.clone());
    site.clock.advance(after - MS);
    let before = before.visit(what.clone()).await.body;
    site.clock.advance(MS);
    [before, then.visit(what).await.body]
}

on_each_store!(
    an_idle_session_is_gone_at_its_ttl,
    using_a_session_extends_it_from_then,
    a_session_in_use_is_gone_at_its_absolute_limit,
    rotating_does_not_extend_the_absolute_limit,
    a_field_is_gone_at_its_own_expiry_and_the_session_lives_on,
    only_setting_a_field_starts_its_lifetime_anew,
    a_sliding_field_lives_on_while_it_is_used,
    a_field_can_be_given_another_lifetime_at_run_time,
    a_lifetime_that_was_asked_for_holds_until_another_request_sets_the_field,
    using_a_sliding_field_never_undoes_another_lifetime_that_was_asked_for,
    a_field_does_not_outlive_its_session,
    a_longer_or_shorter_ttl_is_kept_across_requests,
    no_ttl_goes_past_the_absolute_limit,
    a_session_ends_at_the_time_that_was_said_whatever_is_done_with_it,
    a_session_that_was_told_when_to_end_can_be_told_otherwise,
    the_extension_counts_from_loading_also_where_the_handler_is_slow_or_the_session_lapses_amid_it,
    what_has_lapsed_for_more_than_ten_minutes_is_not_revived,
    a_slower_request_never_moves_the_expiry_earlier,
    a_slower_request_never_undoes_a_shorter_ttl,
    a_stepped_clock_extends_nothing_and_deletes_nothing,
    a_clock_that_keeps_to_its_new_time_for_an_hour_is_believed,
);

async fn an_idle_session_is_gone_at_its_ttl(site: Site) {
    let visitor = cashier(&site).await;
    assert_eq!(around(&site, &visitor, there, HOUR).await, LAPSES);
}

async fn using_a_session_extends_it_from_then(site: Site) {
    let uses: [Does; 3] = [
        |_| {},
        |till| _ = till.total.get(),
        |till| *till.total.get_mut() += 1,
    ];
    for does in uses {
        let mut visitor = cashier(&site).await;
        for _ in 0..3 {
            site.clock.advance(HOUR / 2);
            till(&mut visitor, does).await;
        }
        assert_eq!(around(&site, &visitor, there, HOUR).await, LAPSES);
    }
}

async fn a_session_in_use_is_gone_at_its_absolute_limit(site: Site) {
    for (times, pause) in [(48, HOUR / 2), (200, DAY / 200), (25, DAY / 25)] {
        let mut visitor = cashier(&site).await;
        for _ in 1..times {
            site.clock.advance(pause);
            till(&mut visitor, |till| _ = till.total.get()).await;
        }
        assert_eq!(around(&site, &visitor, there, pause).await, LAPSES);
    }
}

async fn rotating_does_not_extend_the_absolute_limit(site: Site) {
    let mut visitor = cashier(&site).await;
    for _ in 1..48 {
        site.clock.advance(HOUR / 2);
        let rotate = async |mut session: Session<Till>| session.rotate().await;
        assert!(visitor.visit(rotate).await.status.is_success());
    }
    assert_eq!(around(&site, &visitor, there, HOUR / 2).await, LAPSES);
}

async fn a_field_is_gone_at_its_own_expiry_and_the_session_lives_on(site: Site) {
    let visitor = cashier(&site).await;
    assert_eq!(around(&site, &visitor, offer, 15 * MINUTE).await, LAPSES);
    let default = async |session: PassiveSession<Till>| {
        assert_eq!(session.offer.get(), &None);
        assert_eq!(session.offer.expires_at(), None);
        session.total.get().to_string()
    };
    assert_eq!(visitor.clone().visit(default).await.body, "1");
}

async fn only_setting_a_field_starts_its_lifetime_anew(site: Site) {
    let cases: [(&str, Does, Duration); 6] = [
        (
            "get",
            |till| assert!(till.offer.get().is_some()),
            5 * MINUTE,
        ),
        (
            "get_mut",
            |till| assert!(till.offer.get_mut().is_some()),
            5 * MINUTE,
        ),
        ("another field", |till| till.total.set(2), 5 * MINUTE),
        (
            "changed in place",
            |till| till.offer.get_mut().as_mut().unwrap().push('!'),
            5 * MINUTE,
        ),
        (
            "set",
            |till| till.offer.set(Some("Half.".to_owned())),
            15 * MINUTE,
        ),
        (
            "set to an equal value",
            |till| till.offer.set(till.offer.get().clone()),
            15 * MINUTE,
        ),
    ];
    for (what, does, after) in cases {
        let mut visitor = cashier(&site).await;
        site.clock.advance(10 * MINUTE);
        till(&mut visitor, does).await;
        assert_eq!(
            around(&site, &visitor, offer, after).await,
            LAPSES,
            "{what}"
        );
    }
}

async fn a_sliding_field_lives_on_while_it_is_used(site: Site) {
    let mut visitor = cashier(&site).await;
    let uses: [Does; 4] = [
        |till| assert!(till.desk.get().is_some()),
        |till| assert!(till.desk.get_mut().is_some()),
        |till| assert!(till.desk.try_get().is_ok()),
        |till| till.desk.get_mut().as_mut().unwrap().push('!'),
    ];
    for does in uses {
        site.clock.advance(15 * MINUTE);
        till(&mut visitor, does).await;
    }
    // Neither looking whether it is there nor using another field is using it.
    site.clock.advance(15 * MINUTE);
    till(&mut visitor, |till| till.total.set(7)).await;
    assert_eq!(around(&site, &visitor, desk, 5 * MINUTE).await, LAPSES);
}

async fn a_field_can_be_given_another_lifetime_at_run_time(site: Site) {
    let cases: [(&str, Does, Duration); 11] = [
        (
            "longer",
            |till| till.offer.expire_in(40 * MINUTE),
            40 * MINUTE,
        ),
        ("shorter", |till| till.offer.expire_in(MINUTE), MINUTE),
        (
            "the last word",
            |till| {
                till.offer.expire_in(MINUTE);
                till.offer.expire_in(2 * MINUTE);
            },
            2 * MINUTE,
        ),
        (
            "with a new value",
            |till| {
                till.offer.set(Some("Half.".to_owned()));
                till.offer.expire_in(3 * MINUTE);
            },
            3 * MINUTE,
        ),
        (
            "before the new value",
            |till| {
                till.offer.expire_in(3 * MINUTE);
                till.offer.set(Some("Half.".to_owned()));
            },
            3 * MINUTE,
        ),
        (
            "before and between two values",
            |till| {
                till.offer.expire_in(MINUTE);
                till.offer.set(Some("Half.".to_owned()));
                till.offer.expire_in(4 * MINUTE);
                till.offer.set(Some("Less.".to_owned()));
            },
            4 * MINUTE,
        ),
        (
            "with a change in place",
            |till| {
                till.offer.get_mut().as_mut().unwrap().push('!');
                till.offer.expire_in(3 * MINUTE);
            },
            3 * MINUTE,
        ),
        (
            "while it is absent, before it is set",
            |till| {
                till.offer.clear();
                till.offer.expire_in(2 * MINUTE);
                assert!(!till.offer.is_present());
                till.offer.set(Some("Half.".to_owned()));
            },
            2 * MINUTE,
        ),
        ("as long as the session", |till| till.offer.persist(), HOUR),
        (
            "as long as the session, before the new value",
            |till| {
                till.offer.persist();
                till.offer.set(Some("Half.".to_owned()));
            },
            HOUR,
        ),
        (
            "and again as its attribute says",
            |till| {
                till.offer.clear();
                till.offer.set(Some("Half.".to_owned()));
            },
            15 * MINUTE,
        ),
    ];
    for (what, does, after) in cases {
        let mut visitor = cashier(&site).await;
        till(&mut visitor, does).await;
        assert_eq!(
            around(&site, &visitor, offer, after).await,
            LAPSES,
            "{what}"
        );
    }
}

async fn a_lifetime_that_was_asked_for_holds_until_another_request_sets_the_field(site: Site) {
    let mut visitor = cashier(&site).await;
    till(&mut visitor, |till| till.offer.expire_in(40 * MINUTE)).await;
    site.clock.advance(10 * MINUTE);
    till(&mut visitor, |till| {
        till.offer.get_mut().as_mut().unwrap().push('!');
    })
    .await;
    assert_eq!(around(&site, &visitor, offer, 30 * MINUTE).await, LAPSES);

    let mut visitor = cashier(&site).await;
    till(&mut visitor, |till| till.offer.expire_in(40 * MINUTE)).await;
    till(&mut visitor, |till| {
        till.offer.set(Some("Half.".to_owned()));
    })
    .await;
    assert_eq!(around(&site, &visitor, offer, 15 * MINUTE).await, LAPSES);

    // Of a field that was absent, also if that was said while it was.
    let mut visitor = cashier(&site).await;
    till(&mut visitor, |till| till.offer.clear()).await;
    till(&mut visitor, |till| till.offer.expire_in(MINUTE)).await;
    let fills: Does = |till| *till.offer.get_mut() = Some("Half.".to_owned());
    till(&mut visitor, fills).await;
    assert_eq!(around(&site, &visitor, offer, 15 * MINUTE).await, LAPSES);
}

async fn using_a_sliding_field_never_undoes_another_lifetime_that_was_asked_for(site: Site) {
    let uses: [Does; 3] = [
        |till| assert!(till.desk.get().is_some()),
        |till| assert!(till.desk.get_mut().is_some()),
        |till| till.desk.get_mut().as_mut().unwrap().push('!'),
    ];
    let asks: [(Does, Duration); 3] = [
        (|till| till.desk.expire_in(5 * MINUTE), 5 * MINUTE),
        (|till| till.desk.expire_in(25 * MINUTE), 25 * MINUTE),
        (|till| till.desk.persist(), HOUR),
    ];
    for (asks, after) in asks {
        for uses in uses {
            let later = |does: Does| async move |mut session: Session<Till>| does(session.fields());
            // One request after the other.
            let mut visitor = cashier(&site).await;
            till(&mut visitor, asks).await;
            site.clock.advance(3 * MINUTE);
            till(&mut visitor, uses).await;
            let left = after - 3 * MINUTE;
            assert_eq!(around(&site, &visitor, desk, left).await, LAPSES);

            // At once, whichever is faster. Using it would extend it by ten minutes.
            for (slow, fast) in [(uses, asks), (asks, uses)] {
                let mut visitor = cashier(&site).await;
                site.clock.advance(10 * MINUTE);
                let mut tab = visitor.clone();
                let handler = async move |mut session: Session<Till>| {
                    slow(session.fields());
                    assert!(tab.visit(later(fast)).await.status.is_success());
                };
                assert!(visitor.visit(handler).await.status.is_success());
                assert_eq!(around(&site, &visitor, desk, after).await, LAPSES);
            }
        }
    }
    // Setting it anew does.
    let mut visitor = cashier(&site).await;
    till(&mut visitor, |till| till.desk.expire_in(MINUTE)).await;
    till(&mut visitor, |till| {
        till.desk.set(Some("Right.".to_owned()));
    })
    .await;
    site.clock.advance(10 * MINUTE);
    till(&mut visitor, |till| assert!(till.desk.get().is_some())).await;
    assert_eq!(around(&site, &visitor, desk, 20 * MINUTE).await, LAPSES);
}

async fn a_field_does_not_outlive_its_session(site: Site) {
    let mut visitor = cashier(&site).await;
    till(&mut visitor, |till| till.offer.expire_in(10 * DAY)).await;
    assert_eq!(around(&site, &visitor, offer, HOUR).await, LAPSES);
}

async fn a_longer_or_shorter_ttl_is_kept_across_requests(site: Site) {
    for ttl in [5 * HOUR, 10 * MINUTE] {
        let begin = async move |mut session: Session<Till>| {
            session.total.set(1);
            session.set_ttl(ttl);
        };
        let change = async move |mut session: Session<Till>| session.set_ttl(ttl);
        let mut new = site.visitor();
        new.visit(begin).await;
        let mut old = cashier(&site).await;
        old.visit(change).await;
        assert_eq!(around(&site, &new, there, ttl).await, LAPSES);

        let mut old = cashier(&site).await;
        old.visit(change).await;
        for _ in 0..3 {
            site.clock.advance(ttl / 2);
            till(&mut old, |till| _ = till.total.get()).await;
        }
        assert_eq!(around(&site, &old, there, ttl).await, LAPSES);
    }
}

async fn no_ttl_goes_past_the_absolute_limit(site: Site) {
    let long = async |mut session: Session<Till>| {
        session.total.set(1);
        session.set_ttl(Duration::MAX);
    };
    let mut new = site.visitor();
    new.visit(long).await;
    assert_eq!(around(&site, &new, there, DAY).await, LAPSES);

    let mut old = cashier(&site).await;
    site.clock.advance(HOUR / 2);
    old.visit(long).await;
    till(&mut old, |till| till.total.set(2)).await;
    assert_eq!(around(&site, &old, there, DAY - HOUR / 2).await, LAPSES);
}

async fn a_session_ends_at_the_time_that_was_said_whatever_is_done_with_it(site: Site) {
    let rotate = async |mut session: Session<Till>| session.rotate().await;
    let login = async |mut session: Session<Till>| session.login("ada").await;
    let longer = async |mut session: Session<Till>| session.set_ttl(9 * HOUR);
    for begins in [true, false] {
        let end: SystemTime = (site.now() + 3 * HOUR).into();
        let bounded = async move |mut session: Session<Till>| {
            session.total.set(1);
            session.set_end(end);
        };
        let mut visitor = if begins {
            site.visitor()
        } else {
            cashier(&site).await
        };
        assert_eq!(visitor.visit(bounded).await.status, 200);
        site.clock.advance(HOUR - MS);
        visitor.visit(rotate).await;
        site.clock.advance(HOUR - MS);
        visitor.visit(login).await;
        visitor.visit(longer).await;
        let shown = async move |session: Session<Till>| {
            assert_eq!(session.expires_at(), Some(end));
        };
        assert_eq!(visitor.visit(shown).await.status, 200);
        assert_eq!(around(&site, &visitor, there, HOUR + 2 * MS).await, LAPSES);
        // It was of that session alone.
        visitor.visit(login).await;
        assert_eq!(around(&site, &visitor, there, HOUR).await, LAPSES);
    }
}

async fn a_session_that_was_told_when_to_end_can_be_told_otherwise(site: Site) {
    let end_after = |after: Duration| {
        let end: SystemTime = (site.now() + after).into();
        async move |mut session: Session<Till>| {
            session.set_end(end);
            let expires = session.expires_at().expect("it is stored");
            assert!(expires <= end);
        }
    };
    for (first, then, gone) in [
        (HOUR / 2, HOUR / 4, HOUR / 4),
        (HOUR / 4, HOUR / 2, HOUR / 2),
        (HOUR / 2, 2 * HOUR, HOUR),
    ] {
        let mut visitor = cashier(&site).await;
        for after in [first, then] {
            assert_eq!(visitor.visit(end_after(after)).await.status, 200);
        }
        assert_eq!(around(&site, &visitor, there, gone).await, LAPSES);
    }
    let mut visitor = cashier(&site).await;
    visitor.visit(end_after(9 * DAY)).await;
    for _ in 0..25 {
        site.clock.advance(HOUR - 3 * MINUTE);
        visitor.visit(async |_: Session<Till>| ()).await;
    }
    assert_eq!(
        around(&site, &visitor, there, DAY - 25 * (HOUR - 3 * MINUTE)).await,
        LAPSES
    );
    let mut visitor = cashier(&site).await;
    let past: SystemTime = (site.now() - MS).into();
    let over = async move |mut session: Session<Till>| session.set_end(past);
    assert_eq!(visitor.visit(over).await.status, 200);
    assert_eq!(visitor.visit(there).await.body, "gone");
}

/// Longer than any browser keeps a cookie.
#[derive(Session)]
#[session(absolute = "500 days", prefix = "archive")]
struct Archive {
    pages: u32,
}

#[tokio::test]
async fn a_struct_that_lives_longer_than_its_cookie_is_refused_where_it_is_extracted() {
    let site = Site::in_memory();
    let visit = async |mut session: Session<Archive>| session.pages.set(1);
    let logs = Logs::capture();
    assert_eq!(site.visitor().visit(visit).await.status, 500);
    let hint = "set `absolute` to no more than that, or let the cookie end with the browser";
    assert_eq!(logs.lines("ERROR", hint), 1, "{}", logs.text());
    for transport in [
        Transport::from(CookieTransport::new().ends_with_browser()),
        HeaderTransport::bearer().into(),
    ] {
        let layer = site.layer.clone().transport(transport);
        assert_eq!(Visitor::of(layer).visit(visit).await.status, 200);
    }
}

/// Loads the session, and goes on after that time.
async fn slowly(site: &Site, visitor: &mut Visitor, time: Duration, does: Does) {
    let clock = site.clock.clone();
    let slow = async move |mut session: Session<Till>| {
        assert!(!session.is_new());
        clock.advance(time);
        does(session.fields());
    };
    let reply = visitor.visit(slow).await;
    assert!(reply.status.is_success() && reply.set_cookies().is_empty());
}

async fn the_extension_counts_from_loading_also_where_the_handler_is_slow_or_the_session_lapses_amid_it(
    site: Site,
) {
    let uses: [Does; 2] = [|till| _ = till.total.get(), |till| till.total.set(2)];
    for does in uses {
        for idle in [HOUR / 2, HOUR - MS] {
            for time in [MS, 4 * MINUTE, 10 * MINUTE] {
                let mut visitor = cashier(&site).await;
                site.clock.advance(idle);
                slowly(&site, &mut visitor, time, does).await;
                let left = around(&site, &visitor, there, HOUR - time).await;
                assert_eq!(left, LAPSES, "{idle:?} {time:?}");
            }
        }
        // No earlier than ten minutes ago.
        let mut visitor = cashier(&site).await;
        slowly(&site, &mut visitor, 25 * MINUTE, does).await;
        assert_eq!(around(&site, &visitor, there, 50 * MINUTE).await, LAPSES);
    }
}

async fn what_has_lapsed_for_more_than_ten_minutes_is_not_revived(site: Site) {
    let mut visitor = cashier(&site).await;
    site.clock.advance(HOUR - MS);
    slowly(&site, &mut visitor, 10 * MINUTE + 2 * MS, |till| {
        till.total.set(2);
    })
    .await;
    assert_eq!(visitor.visit(there).await.body, "gone");

    let mut visitor = cashier(&site).await;
    site.clock.advance(HOUR - MS);
    let clock = site.clock.clone();
    let saves = async move |mut session: Session<Till>| {
        session.total.set(2);
        clock.advance(10 * MINUTE + 2 * MS);
        assert_eq!(session.save().await.unwrap(), Saved::Ended);
        assert_eq!(session.ended(), Some(session_runtime::Ended::Expired));
    };
    assert!(visitor.visit(saves).await.status.is_success());
    assert_eq!(visitor.visit(there).await.body, "gone");
}

/// Loads the session for a request that is slower than the one that is `meanwhile`, and changes it then.
async fn slower_than<T: 'static>(visitor: &mut Visitor, meanwhile: impl Handler<T, ()>) {
    let mut tab = visitor.clone();
    let slow = async move |mut session: Session<Till>| {
        session.total.set(9);
        assert!(tab.visit(meanwhile).await.status.is_success());
    };
    assert!(visitor.visit(slow).await.status.is_success());
}

async fn a_slower_request_never_moves_the_expiry_earlier(site: Site) {
    let mut visitor = cashier(&site).await;
    site.clock.advance(HOUR / 2);
    let longer = async |mut session: Session<Till>| session.set_ttl(5 * HOUR);
    slower_than(&mut visitor, longer).await;
    assert_eq!(around(&site, &visitor, there, 5 * HOUR).await, LAPSES);

    // Nor if what it would extend has been extended further meanwhile, though nothing conflicts.
    let mut visitor = cashier(&site).await;
    site.clock.advance(HOUR / 2);
    let lounge = async |mut session: Session<Lounge>| session.seat.set(1);
    slower_than(&mut visitor, lounge).await;
    assert_eq!(around(&site, &visitor, there, 3 * HOUR).await, LAPSES);

    // Nor does a schema of a shorter life.
    let site = site.with(|layer| layer.ttl(MINUTE));
    let mut visitor = cashier(&site).await.moved_to(&site.layer);
    visitor
        .visit(async |mut session: Session<Plain>| session.clicks.set(1))
        .await;
    assert_eq!(around(&site, &visitor, there, HOUR).await, LAPSES);
}

async fn a_slower_request_never_undoes_a_shorter_ttl(site: Site) {
    let mut visitor = cashier(&site).await;
    site.clock.advance(HOUR / 2);
    let shorter = async |mut session: Session<Till>| session.set_ttl(10 * MINUTE);
    slower_than(&mut visitor, shorter).await;
    assert_eq!(around(&site, &visitor, there, 10 * MINUTE).await, LAPSES);
}

async fn a_stepped_clock_extends_nothing_and_deletes_nothing(site: Site) {
    for by in [5 * MINUTE, HOUR, 3653 * DAY] {
        for ahead in [true, false] {
            let mut visitor = cashier(&site).await;
            site.clock.advance(12 * MINUTE); // extending is due, of the session and of its desk
            let before = site.record(&visitor).await;

            step(&site, by, ahead);
            for handler in [any(there), any(offer), any(desk)] {
                visitor.visit(handler).await;
            }
            till(&mut visitor, |till| _ = (till.total.get(), till.desk.get())).await;
            till(&mut visitor, |till| _ = till.total.get_mut()).await;
            assert_eq!(site.store.sweep(1000).await.unwrap().deleted, 0);
            assert_eq!(
                site.record(&visitor).await,
                before,
                "{by:?}, ahead: {ahead}"
            );

            step(&site, by, !ahead);
            assert_eq!(visitor.visit(desk).await.body, "there");
            till(&mut visitor, |till| _ = till.total.get()).await;
            assert_eq!(around(&site, &visitor, there, HOUR).await, LAPSES);
        }
    }
}

fn step(site: &Site, by: Duration, ahead: bool) {
    if ahead {
        site.clock.step_forward(by);
    } else {
        site.clock.step_back(by);
    }
}

async fn a_clock_that_keeps_to_its_new_time_for_an_hour_is_believed(site: Site) {
    let longer = async |mut session: Session<Till>| session.set_ttl(3 * HOUR);
    for ahead in [true, false] {
        let mut visitor = cashier(&site).await;
        visitor.visit(longer).await;
        step(&site, HOUR / 2, ahead);
        let before = site.record(&visitor).await.unwrap().expires();
        till(&mut visitor, |till| *till.total.get_mut() += 1).await;
        site.clock.advance(HOUR - MS);
        till(&mut visitor, |_| {}).await;
        assert_eq!(site.record(&visitor).await.unwrap().expires(), before);
        site.clock.advance(MS);
        till(&mut visitor, |_| {}).await;
        assert_eq!(around(&site, &visitor, there, 3 * HOUR).await, LAPSES);
    }
}

#[tokio::test]
async fn a_schema_overrides_the_layer_and_a_schema_that_says_nothing_takes_it() {
    let site = Site::in_memory().with(|layer| layer.ttl(5 * HOUR).absolute(6 * HOUR));
    assert_eq!(
        around(&site, &cashier(&site).await, there, HOUR).await,
        LAPSES
    );

    let click = async |mut session: Session<Plain>| *session.clicks.get_mut() += 1;
    let clicked = async |session: PassiveSession<Plain>| said(session.clicks.is_present());
    let mut visitor = site.visitor();
    visitor.visit(click).await;
    assert_eq!(around(&site, &visitor, clicked, 5 * HOUR).await, LAPSES);

    let mut visitor = site.visitor();
    visitor.visit(click).await;
    site.clock.advance(4 * HOUR);
    visitor.visit(click).await;
    assert_eq!(around(&site, &visitor, clicked, 2 * HOUR).await, LAPSES);
}

#[tokio::test]
async fn of_several_schemas_in_one_session_the_longest_lifetimes_count() {
    let both = async |mut till: Session<Till>, mut lounge: Session<Lounge>| {
        till.total.set(1);
        *lounge.seat.get_mut() += 1;
    };
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor.visit(both).await;
    assert_eq!(around(&site, &visitor, there, 3 * HOUR).await, LAPSES);

    let mut visitor = site.visitor();
    visitor.visit(both).await;
    for _ in 1..12 {
        site.clock.advance(2 * HOUR);
        visitor.visit(both).await;
    }
    assert_eq!(around(&site, &visitor, there, 2 * HOUR).await, LAPSES);
}

#[tokio::test]
async fn a_schema_that_says_nothing_asks_for_what_the_layer_says() {
    let both = async |mut till: Session<Till>, mut plain: Session<Plain>| {
        till.total.set(1);
        plain.clicks.set(1);
    };
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor.visit(both).await;
    assert_eq!(around(&site, &visitor, there, 2 * HOUR).await, LAPSES);
}

#[tokio::test]
async fn a_sliding_field_is_written_once_per_tenth_of_its_lifetime() {
    let site = Site::in_memory();
    let mut visitor = cashier(&site).await;
    let (mut written, mut last) = (Vec::new(), None);
    for tick in 0..=100 {
        till(&mut visitor, |till| assert!(till.desk.get().is_some())).await;
        let record = site.record(&visitor).await.unwrap();
        let expires = record.slot("desk").unwrap().expires();
        if last.replace(expires) != Some(expires) {
            written.push(tick);
        }
        site.clock.advance(20 * MINUTE / 100);
    }
    let tenths: Vec<_> = (0..=10).map(|tenth| tenth * 10).collect();
    assert_eq!(written, tenths);
}

#[tokio::test]
async fn a_page_that_only_uses_a_sliding_field_is_there_though_the_store_cannot_write() {
    let site = Site::in_memory();
    let logs = Logs::capture();
    for (does, status) in [
        ((|till| assert!(till.desk.get().is_some())) as Does, 200),
        (|till| till.desk.expire_in(HOUR), 503),
        (|till| till.total.expire_in(MINUTE), 503),
        (|till| till.desk.get_mut().as_mut().unwrap().push('!'), 503),
        (|till| till.total.set(7), 503),
    ] {
        let mut visitor = cashier(&site).await;
        site.clock.advance(15 * MINUTE);
        let uses = async move |mut session: Session<Till>| does(session.fields());
        site.store.at_swaps(Some(Fault::Full));
        assert_eq!(visitor.visit(uses).await.status, status);
        site.store.at_swaps(None);
    }
    let told = logs.lines("WARN", "the session's lifetime could not be extended");
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_passive_handle_lets_no_field_slide_whatever_other_handles_there_are() {
    let site = Site::in_memory();
    let passive = [
        any(async |session: PassiveSession<Till>| assert!(session.desk.get().is_some())),
        any(async |mut session: PassiveSession<Till>| {
            session.desk.get_mut().as_mut().unwrap().push('!');
        }),
        any(
            async |active: Session<Till>, session: PassiveSession<Till>| {
                assert!(session.desk.get().is_some());
                active.total.get();
            },
        ),
        any(
            async |mut active: Session<Till>, mut session: PassiveSession<Till>| {
                active.total.set(7);
                session.desk.get_mut().as_mut().unwrap().push('!');
            },
        ),
    ];
    for handler in passive {
        let mut visitor = cashier(&site).await;
        site.clock.advance(15 * MINUTE);
        assert!(visitor.visit(handler).await.status.is_success());
        assert_eq!(around(&site, &visitor, desk, 5 * MINUTE).await, LAPSES);
    }
    let mut visitor = cashier(&site).await;
    site.clock.advance(15 * MINUTE);
    let both = async |session: Session<Till>, passive: PassiveSession<Till>| {
        assert_eq!(session.desk.get(), passive.desk.get());
    };
    assert!(visitor.visit(both).await.status.is_success());
    assert_eq!(around(&site, &visitor, desk, 20 * MINUTE).await, LAPSES);
}

#[tokio::test]
async fn a_stepped_clock_lets_no_field_slide_that_is_changed_in_place() {
    let site = Site::in_memory();
    let mut visitor = cashier(&site).await;
    site.clock.advance(10 * MINUTE);
    site.clock.step_forward(5 * MINUTE);
    let push: Does = |till| till.desk.get_mut().as_mut().unwrap().push('!');
    till(&mut visitor, push).await;
    assert_eq!(around(&site, &visitor, desk, 5 * MINUTE).await, LAPSES);
}

#[tokio::test]
async fn no_time_of_a_session_moves_back_with_the_clock() {
    let site = Site::in_memory();
    let mut visitor = cashier(&site).await;
    let before = site.record(&visitor).await.expect("it is there");
    site.clock.step_back(5 * MINUTE);
    till(&mut visitor, |till| *till.total.get_mut() += 1).await;
    let after = site.record(&visitor).await.expect("it is there");
    assert_ne!(after, before);
    let times = [after.updated(), after.seen()];
    assert_eq!(times, [before.updated(), before.seen()]);
}

#[tokio::test]
async fn expires_at_tells_when_the_session_expires_if_nothing_more_happens() {
    fn told(session: &Session<Till>) -> String {
        let at = session.expires_at().unwrap();
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        since.as_millis().to_string()
    }
    let handlers = [
        any(async |session: Session<Till>| told(&session)),
        any(async |session: PassiveSession<Till>| told(&session)),
        any(async |passive: PassiveSession<Till>, _: Session<Till>| told(&passive)),
        any(async |mut session: Session<Till>| {
            session.total.set(9);
            told(&session)
        }),
        any(async |mut session: PassiveSession<Till>| {
            session.total.set(9);
            told(&session)
        }),
        any(async |mut session: Session<Till>| {
            session.set_ttl(3 * HOUR);
            told(&session)
        }),
        any(async |mut session: PassiveSession<Till>| {
            session.set_ttl(MINUTE);
            told(&session)
        }),
        any(async |mut session: Session<Till>| {
            session.set_ttl(9 * DAY);
            told(&session)
        }),
        any(async |mut session: Session<Till>| {
            session.set_ttl(2 * HOUR);
            session.save().await.unwrap();
            session.set_ttl(2 * HOUR);
            told(&session)
        }),
        any(async |mut session: Session<Till>, mut handles: Handles| {
            session.rotate().await.unwrap();
            told(&handles.open::<Till>().await)
        }),
        any(async |_: Session<Till>, lounge: Session<Lounge>| {
            let at = lounge.expires_at().unwrap();
            let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            at.as_millis().to_string()
        }),
    ];
    let site = Site::in_memory();
    for (number, handler) in handlers.into_iter().enumerate() {
        for minutes in [0, 3, 6, 40] {
            for steps in [false, true] {
                let mut visitor = cashier(&site).await;
                site.clock.advance(minutes * MINUTE);
                if steps {
                    site.clock.step_forward(5 * MINUTE);
                }
                let told = visitor.visit(handler.clone()).await.body;
                let expires = site.record(&visitor).await.unwrap().expires();
                assert_eq!(
                    told,
                    expires.as_millis().to_string(),
                    "{number}, after {minutes} minutes, steps: {steps}"
                );
                if steps {
                    site.clock.step_back(5 * MINUTE);
                    till(&mut visitor, |_| {}).await; // the clock is trusted again
                }
            }
        }
    }
    let new = async |mut session: Session<Till>| {
        session.total.set(1);
        assert_eq!(session.expires_at(), None);
        session.save().await.unwrap();
        told(&session)
    };
    let expected = (site.now() + HOUR).as_millis().to_string();
    assert_eq!(site.visitor().visit(new).await.body, expected);
}

#[tokio::test]
async fn expires_at_tells_when_a_field_is_gone() {
    let site = Site::in_memory();
    let mut visitor = cashier(&site).await;
    let now = SystemTime::from(site.now());
    let told = async move |mut session: Session<Till>| {
        let (quarter, forty) = (Some(now + 15 * MINUTE), Some(now + 40 * MINUTE));
        assert_eq!(session.offer.expires_at(), quarter);
        assert_eq!(session.total.expires_at(), None);
        session.offer.set(None);
        assert_eq!(session.offer.expires_at(), quarter);
        session.offer.expire_in(40 * MINUTE);
        assert_eq!(session.offer.expires_at(), forty);
        session.offer.set(None);
        assert_eq!(session.offer.expires_at(), forty);
        let taken = session.offer.take();
        session.offer.set(taken);
        assert_eq!(session.offer.expires_at(), forty);
        session.offer.clear();
        session.offer.set(None);
        assert_eq!(session.offer.expires_at(), forty);
        session.offer.persist();
        assert_eq!(session.offer.expires_at(), None);
        session.offer.clear();
        session.offer.expire_in(40 * MINUTE);
        assert_eq!(session.offer.expires_at(), None);
        assert!(!session.offer.is_present());
    };
    assert!(visitor.visit(told).await.status.is_success());
    assert_eq!(visitor.visit(offer).await.body, "gone");
    site.clock.advance(5 * MINUTE);
    let filled = async move |mut session: Session<Till>| {
        assert_eq!(session.offer.expires_at(), None);
        *session.offer.get_mut() = Some("Half.".to_owned());
        assert_eq!(session.offer.expires_at(), Some(now + 20 * MINUTE));
    };
    assert!(visitor.visit(filled).await.status.is_success());
    assert_eq!(around(&site, &visitor, offer, 15 * MINUTE).await, LAPSES);
}

#[tokio::test]
async fn a_flash_lapses_unread() {
    let site = Site::in_memory();
    let mut visitor = cashier(&site).await;
    till(&mut visitor, |till| till.notice.expire_in(MINUTE)).await;
    let notice = async |session: PassiveSession<Till>| said(session.notice.is_present());
    assert_eq!(around(&site, &visitor, notice, MINUTE).await, LAPSES);
}

#[tokio::test]
async fn the_cookie_lasts_as_long_as_the_absolute_limit_of_the_schema() {
    let site = Site::in_memory().with(SessionLayer::insecure);
    let begin = async |mut session: Session<Till>| session.total.set(1);
    let reply = site.visitor().visit(begin).await;
    assert!(reply.set_cookies()[0].contains("Max-Age=86400"));
}

#[tokio::test]
async fn what_does_not_decode_and_is_changed_in_place_lives_as_long_as_a_new_value() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    till(&mut visitor, open).await;
    site.plant(&visitor, "offer", "7").await; // by another version: it stays
    let renew: Does = |till| *till.offer.get_mut() = Some("Three.".to_owned());
    till(&mut visitor, renew).await;
    let record = site.record(&visitor).await.unwrap();
    let is_live = |at| record.live_slot("offer", at).is_some();
    let end = site.now() + 15 * MINUTE;
    assert_eq!((is_live(end - MS), is_live(end)), (true, false));
}

/// Gone with its quarter of an hour, whatever merges.
#[derive(Session)]
struct Basket {
    #[expire("15m")]
    offer: Option<String>,
    #[expire("15m")]
    #[merge(sum, browser)]
    points: u32,
    theme: String,
}

#[tokio::test]
async fn what_is_changed_in_place_while_it_expires_is_not_revived() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let fill = async |mut session: Session<Basket>| {
        session.offer.set("Two for one.");
        session.points.set(5);
    };
    visitor.visit(fill).await;
    site.clock.advance(14 * MINUTE);
    let clock = site.clock.clone();
    let slow = async move |mut session: Session<Basket>| {
        *session.offer.get_mut() = Some("Three for one.".to_owned());
        *session.points.get_mut() += 1;
        clock.advance(2 * MINUTE);
    };
    visitor.visit(slow).await;
    let left = async |session: PassiveSession<Basket>| {
        [session.offer.is_present(), session.points.is_present()]
            .map(said)
            .join(" ")
    };
    assert_eq!(visitor.visit(left).await.body, "gone gone");
}

/// Whose rules compare with what was there.
#[derive(Session)]
struct Reserved {
    #[expire("15m")]
    #[merge(reject)]
    seat: Option<String>,
    #[expire("15m")]
    #[merge(sum, browser)]
    points: u32,
    #[expire("15m")]
    #[merge(append, browser)]
    items: Vec<u32>,
}

fn reserve(session: &mut ReservedSession, seat: &str, number: u32) {
    session.seat.set(seat);
    session.points.set(number);
    session.items.set(vec![number]);
}

#[tokio::test]
async fn what_lapses_while_a_request_runs_was_changed_by_nobody() {
    let site = Site::in_memory();
    for (at, what) in [
        "before the change",
        "before it is folded in",
        "before it is written",
    ]
    .into_iter()
    .enumerate()
    {
        let mut visitor = site.visitor();
        let fill = async |mut session: Session<Reserved>| reserve(&mut session, "1A", 5);
        visitor.visit(fill).await;
        site.clock.advance(14 * MINUTE);
        let clock = site.clock.clone();
        let slow = async move |mut session: Session<Reserved>| {
            let lapse = |now| {
                if at == now {
                    clock.advance(2 * MINUTE);
                }
            };
            lapse(0);
            reserve(&mut session, "2B", 7);
            lapse(1);
            drop(session);
            lapse(2);
        };
        let reply = visitor.visit(slow).await;
        assert!(reply.status.is_success(), "{what}: {}", reply.body);
        let left = async |session: Session<Reserved>| {
            let (points, items) = (session.points.get(), session.items.get());
            format!("{:?} {points} {items:?}", session.seat.get())
        };
        let left = visitor.visit(left).await.body;
        assert_eq!(left, "Some(\"2B\") 7 [7]", "{what}");
    }
}

#[tokio::test]
async fn a_field_that_another_request_clears_keeps_its_expiry() {
    type Changes = fn(&mut BasketSession);
    let changes: [Changes; 2] = [
        |basket| basket.points.clear(),
        |basket| *basket.points.get_mut() += 1,
    ];
    for [slower, faster] in [[changes[0], changes[1]], [changes[1], changes[0]]] {
        let site = Site::in_memory();
        let mut visitor = site.visitor();
        let fill = async |mut session: Session<Basket>| {
            session.theme.set("dark");
            session.points.set(5);
        };
        visitor.visit(fill).await;
        site.clock.advance(MINUTE);
        let mut tab = visitor.clone();
        let slow = async move |mut session: Session<Basket>| {
            slower(session.fields());
            tab.visit(async move |mut session: Session<Basket>| faster(session.fields()))
                .await;
        };
        visitor.visit(slow).await;
        let points = async |session: PassiveSession<Basket>| session.points.get().to_string();
        assert_eq!(visitor.visit(points).await.body, "1");
        let there = async |session: PassiveSession<Basket>| said(session.points.is_present());
        assert_eq!(around(&site, &visitor, there, 14 * MINUTE).await, LAPSES);
    }
}

/// Idle for five minutes: less than late changes are taken.
#[derive(Session)]
#[session(ttl = "5m")]
struct Chat {
    lines: u32,
}

#[tokio::test]
async fn a_session_that_is_saved_over_and_over_outside_of_requests_lives_on() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let begin = async |mut session: Session<Chat>| session.lines.set(1);
    visitor.visit(begin).await;
    let id = SessionId::parse(visitor.id().as_bytes()).unwrap();
    let sessions = site.layer.sessions();
    let mut socket = sessions.open::<Chat>(id).await.unwrap().unwrap();
    for _ in 0..20 {
        site.clock.advance(4 * MINUTE);
        *socket.lines.get_mut() += 1;
        assert_eq!(socket.save().await.unwrap(), Saved::Written);
    }
    let lines = async |session: PassiveSession<Chat>| session.lines.get().to_string();
    assert_eq!(visitor.visit(lines).await.body, "21");
    let there = async |session: PassiveSession<Chat>| said(!session.is_new());
    assert_eq!(around(&site, &visitor, there, 5 * MINUTE).await, LAPSES);
}

#[tokio::test]
async fn a_ttl_counts_from_when_it_is_said_however_long_the_session_has_been_open() {
    for saves in [false, true] {
        let site = Site::in_memory();
        let mut visitor = cashier(&site).await;
        let clock = site.clock.clone();
        let slow = async move |mut session: Session<Till>| {
            clock.advance(HOUR / 2);
            session.set_ttl(5 * MINUTE);
            let told = session.expires_at();
            assert_eq!(told, Some((clock.now() + 5 * MINUTE).into()));
            if saves {
                session.save().await.unwrap();
                assert_eq!(session.expires_at(), told);
            }
        };
        assert!(visitor.visit(slow).await.status.is_success());
        assert_eq!(around(&site, &visitor, there, 5 * MINUTE).await, LAPSES);
    }
}
