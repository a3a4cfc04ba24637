//! Swaps whose answer is lost: they are asked again, at any time, and happen once or not at all.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use session_runtime::{Error, PassiveSession, Saved, Session};
use session_tests::{Fault, FaultStore, Site, Visitor, on_each_store};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
    text: String,
    #[flash]
    voucher: Option<String>,
}

async fn add_one(mut session: Session<Shop>) {
    *session.points.get_mut() += 1;
}

async fn read(session: Session<Shop>) -> String {
    session.points.get().to_string()
}

async fn rotate(mut session: Session<Shop>) -> Result<(), Error> {
    session.rotate().await
}

/// Somebody who has ten points.
async fn guest(site: &Site) -> Visitor {
    let mut visitor = site.visitor();
    visitor
        .visit(async |mut session: Session<Shop>| session.points.set(10))
        .await;
    visitor
}

/// Somebody who has logged in with them.
async fn user(site: &Site, name: &str) -> Visitor {
    let (mut visitor, name) = (guest(site).await, name.to_owned());
    let login = async move |mut session: Session<Shop>| session.login(name).await;
    assert_eq!(visitor.visit(login).await.status, StatusCode::OK);
    assert_eq!(visitor.visit(read).await.body, "10");
    visitor
}

/// Saves, and has the answer lost. What is asked after that is refused, so that nobody waits for the deadline.
async fn save_in_doubt(session: &mut Session<Shop>, store: &FaultStore, fault: Fault) {
    store.plan([fault, Fault::Full]);
    let saved = session.save().await;
    assert!(saved.is_err_and(|error| error.is_unavailable()));
}

/// A swap of unknown outcome, then so many others of the same record, then the same again, minutes later.
async fn ask_again(
    site: &Site,
    mut visitor: Visitor,
    (fault, others): (Fault, usize),
) -> (Vec<Option<Saved>>, StatusCode) {
    let (store, clock, tab) = (Arc::clone(&site.store), site.clock.clone(), visitor.clone());
    let (sender, told) = std::sync::mpsc::channel();
    let handler = async move |mut session: Session<Shop>| {
        *session.points.get_mut() += 1;
        save_in_doubt(&mut session, &store, fault).await;
        for _ in 0..others {
            assert_eq!(tab.clone().visit(add_one).await.status, StatusCode::OK);
        }
        clock.advance(2 * MINUTE);
        for _ in 0..2 {
            let _ = sender.send(session.save().await.ok());
        }
    };
    let reply = visitor.visit(handler).await;
    (told.try_iter().collect(), reply.status)
}

async fn an_answer_lost_is_asked_for_again_after_minutes_however_much_was_written_since(
    site: Site,
) {
    // A record remembers sixteen versions.
    for others in [0, 1, 15, 16, 17, 40] {
        for (fault, applied) in [(Fault::After, true), (Fault::Before, false)] {
            let what = format!("{fault:?}, {others} others");
            for mut visitor in [guest(&site).await, user(&site, &what).await] {
                let told = ask_again(&site, visitor.clone(), (fault, others)).await;
                let points: usize = visitor.visit(read).await.body.parse().unwrap();
                if others <= 16 {
                    let saved = vec![Some(Saved::Written), Some(Saved::Unchanged)];
                    assert_eq!(told, (saved, StatusCode::OK), "{what}");
                    assert_eq!(points, 10 + others + 1, "{what}");
                } else {
                    // Nobody can tell any more, and each who asks is told so.
                    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
                    assert_eq!(told, (vec![None, None], unavailable), "{what}");
                    assert_eq!(points, 10 + others + usize::from(applied), "{what}");
                }
            }
        }
    }
}

async fn a_creation_is_asked_for_again_within_an_hour(site: Site) {
    for fault in [Fault::After, Fault::Before] {
        for later in [2 * MINUTE, HOUR - SECOND, HOUR, 3 * HOUR] {
            let mut visitor = site.visitor();
            let (store, clock) = (Arc::clone(&site.store), site.clock.clone());
            let handler = async move |mut session: PassiveSession<Shop>| {
                session.points.set(1);
                save_in_doubt(&mut session, &store, fault).await;
                clock.advance(later);
                store.round_trips();
                let _ = session.save().await;
                // After that somebody looks, and that is all.
                assert_eq!(store.round_trips().1, usize::from(later < HOUR));
            };
            let reply = visitor.visit(handler).await;
            // It lives for two hours.
            let lives = later < HOUR || fault == Fault::After && later == HOUR;
            let points = visitor.visit(read).await.body;
            let what = format!("{fault:?}, {later:?} later");
            assert_eq!(points, u32::from(lives).to_string(), "{what}");
            if lives || fault == Fault::Before {
                assert_eq!(reply.status == StatusCode::OK, lives, "{what}");
                assert_eq!(reply.set_cookies().len(), usize::from(lives), "{what}");
            }
        }
    }
}

async fn what_has_expired_since_is_not_revived(site: Site) {
    for fault in [Fault::After, Fault::Before] {
        for (later, told) in [
            (2 * MINUTE, Saved::Written), // as a slow handler
            (11 * MINUTE + SECOND, Saved::Ended),
        ] {
            let mut visitor = guest(&site).await;
            let short = async |mut session: Session<Shop>| session.set_ttl(MINUTE);
            visitor.visit(short).await;
            let (store, clock) = (Arc::clone(&site.store), site.clock.clone());
            let handler = async move |mut session: Session<Shop>| {
                *session.points.get_mut() += 1;
                save_in_doubt(&mut session, &store, fault).await;
                clock.advance(later);
                assert_eq!(session.save().await.ok(), Some(told), "{fault:?} {later:?}");
            };
            let reply = visitor.visit(handler).await;
            assert_eq!(reply.status, StatusCode::OK);
            assert!(reply.set_cookies().is_empty());
            let gone = site.record(&visitor).await;
            assert!(gone.is_none_or(|gone| !gone.is_live(site.now())));
            let live = async |session: Session<Shop>| (!session.is_new()).to_string();
            assert_eq!(visitor.visit(live).await.body, "false");
        }
    }
}

async fn a_longer_life_in_doubt_brings_nothing_back_that_has_expired_since(site: Site) {
    let mut visitor = guest(&site).await;
    let short = async |mut session: Session<Shop>| session.set_ttl(MINUTE);
    visitor.visit(short).await;
    let (store, clock) = (Arc::clone(&site.store), site.clock.clone());
    let handler = async move |mut session: Session<Shop>| {
        session.set_ttl(60 * MINUTE);
        save_in_doubt(&mut session, &store, Fault::Before).await;
        clock.advance(11 * MINUTE + SECOND);
        assert_eq!(session.save().await.ok(), Some(Saved::Ended));
    };
    assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
    let live = async |session: Session<Shop>| (!session.is_new()).to_string();
    assert_eq!(visitor.visit(live).await.body, "false");
}

async fn a_value_that_has_expired_since_is_not_revived(site: Site) {
    for fault in [Fault::After, Fault::Before] {
        let mut visitor = guest(&site).await;
        let (store, clock) = (Arc::clone(&site.store), site.clock.clone());
        let handler = async move |mut session: Session<Shop>| {
            session.text.set("for a minute".to_owned());
            session.text.expire_in(MINUTE);
            save_in_doubt(&mut session, &store, fault).await;
            clock.advance(2 * MINUTE);
            assert_eq!(session.save().await.ok(), Some(Saved::Written));
            assert!(!session.text.is_present());
        };
        assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
        assert_eq!(site.payload(&visitor, "text").await, None, "{fault:?}");
    }
}

/// A swap may arrive at the store when nobody waits for it any more.
#[tokio::test]
async fn a_swap_that_is_still_on_the_wire_happens_once_whenever_it_arrives() {
    for (asked_again, others, expected) in [
        (true, 0, 11),
        (true, 1, 12),
        (false, 0, 11), // it arrives, and is good
        (false, 1, 11), // another was faster
    ] {
        let site = Site::in_memory();
        let mut visitor = guest(&site).await;
        let store = Arc::clone(&site.store);
        let handler = async move |session: Session<Shop>| {
            store.plan([Fault::Stray]);
            if !asked_again {
                store.plan([Fault::Full]);
            }
            add_one(session).await;
        };
        let status = visitor.visit(handler).await.status;
        assert_eq!(status == StatusCode::OK, asked_again);
        for _ in 0..others {
            visitor.visit(add_one).await;
        }
        site.store.arrival().await;
        let what = format!("asked again: {asked_again}, others: {others}");
        assert_eq!(
            visitor.visit(read).await.body,
            expected.to_string(),
            "{what}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_given_up_forgets_no_doubt() {
    for fault in [Fault::After, Fault::Before] {
        for logged_in in [false, true] {
            let site = Site::in_memory();
            let mut visitor = if logged_in {
                user(&site, "ada").await
            } else {
                guest(&site).await
            };
            let store = Arc::clone(&site.store);
            let handler = async move |mut session: Session<Shop>| {
                *session.points.get_mut() += 1;
                save_in_doubt(&mut session, &store, fault).await;
                store.always(Some(Fault::Slow(SECOND)));
                let given_up = timeout(SECOND / 2, session.refresh()).await;
                assert!(given_up.is_err());
                store.heal();
            };
            assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
            assert_eq!(visitor.visit(read).await.body, "11", "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_rotation_that_issues_nothing_sends_nothing_though_its_answer_was_lost() {
    for (waiting, issued) in [(3, 1), (4, 0)] {
        let site = Site::in_memory();
        let mut visitor = guest(&site).await;
        for _ in 0..waiting {
            // Its answer never arrives.
            assert_eq!(visitor.clone().visit(rotate).await.set_cookies().len(), 1);
        }
        let store = Arc::clone(&site.store);
        let handler = async move |mut session: Session<Shop>| {
            *session.points.get_mut() += 1;
            store.plan([Fault::After, Fault::Full]);
            assert!(session.rotate().await.is_err());
        };
        let reply = visitor.visit(handler).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.set_cookies().len(), issued, "{waiting} wait");
        assert_eq!(visitor.visit(read).await.body, "11");
    }
}

#[tokio::test]
async fn what_is_in_doubt_is_claimed_by_one() {
    for fault in [Fault::After, Fault::Before] {
        let site = Site::in_memory();
        let mut visitor = guest(&site).await;
        let (store, mut tab) = (Arc::clone(&site.store), visitor.clone());
        let claim = async |mut session: Session<Shop>| match session.voucher.claim().await {
            Ok(claimed) => claimed.flatten().unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        let both = async move |mut session: Session<Shop>| {
            session.voucher.set("Five off.");
            save_in_doubt(&mut session, &store, fault).await;
            let (theirs, ours) = (tab.visit(claim).await.body, claim(session).await);
            format!("{theirs}{ours}")
        };
        assert_eq!(visitor.visit(both).await.body, "Five off.", "{fault:?}");
        assert_eq!(visitor.visit(claim).await.body, "");
    }
}

on_each_store! {
    an_answer_lost_is_asked_for_again_after_minutes_however_much_was_written_since,
    a_creation_is_asked_for_again_within_an_hour,
    what_has_expired_since_is_not_revived,
    a_longer_life_in_doubt_brings_nothing_back_that_has_expired_since,
    a_value_that_has_expired_since_is_not_revived,
}
