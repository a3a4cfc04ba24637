//! Logins that broke off anywhere, and are tried again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use session_runtime::{Error, Saved, Session, UserId};
use session_tests::customers::{
    NOTHING, Shop, add, ask, entering, guest, login, logout, quietly, shown, user, why,
};
use session_tests::{Fault, Handles, Site, on_a_cache, on_each_store};

use super::breaks::{
    CONFIRMATION, OPENING, WAITS, break_login, break_off, breaks, calls, hasty, logs_in, with_limit,
};
use super::stored::{HOUR, MINUTE, account, admitted};

on_each_store!(
    whatever_fails_amid_a_login_the_guest_is_credited_once,
    whatever_fails_amid_a_login_that_is_late_the_guest_is_credited_once,
    a_login_that_broke_off_can_be_tried_again_at_any_time,
    a_handler_that_says_sorry_has_lost_nothing,
    a_superseded_request_whose_login_fails_sends_no_cookie,
    what_an_unsaved_guest_had_is_never_credited_twice,
    once_a_new_id_is_sent_the_old_one_opens_nothing_of_the_user,
    who_leaves_has_left_whatever_a_login_before_has_come_to,
    a_guest_is_credited_once_also_by_a_schema_that_lives_shorter_than_the_session,
    what_a_login_sets_apart_is_credited_once_though_a_logout_credits_it_meanwhile,
    a_login_whose_session_is_ended_while_its_answer_is_lost_goes_on_in_another,
);

on_a_cache!(
    whatever_fails_amid_a_login_the_guest_is_credited_once,
    a_login_that_broke_off_can_be_tried_again_at_any_time,
);

async fn whatever_fails_amid_a_login_the_guest_is_credited_once(site: Site) {
    the_guest_is_credited_once(site, Fault::Full, false).await;
}

async fn whatever_fails_amid_a_login_that_is_late_the_guest_is_credited_once(site: Site) {
    the_guest_is_credited_once(site, Fault::Full, true).await;
}

#[tokio::test(start_paused = true)]
async fn though_the_store_stays_away_amid_a_login_the_guest_is_credited_once() {
    the_guest_is_credited_once(hasty(), Fault::Before, false).await;
    the_guest_is_credited_once(hasty(), Fault::Before, true).await;
}

/// With `contested`, somebody writes to the user's record between the login's look and its confirmation.
async fn the_guest_is_credited_once(site: Site, then: Fault, contested: bool) {
    let calls = calls(&site).await + if contested { 2 } else { 0 };
    for call in 0..calls {
        for fault in [Fault::Before, Fault::After, Fault::Full] {
            for wait in [Duration::ZERO, 6 * MINUTE] {
                let name = format!("{fault:?} at call {call}, tried again after {wait:?}");
                drop(user(&site, &*name, &[1]).await);
                let mut guest = guest(&site, &[2]).await;
                let mut visitor = guest.clone();
                let mut faults = vec![Fault::None; call];
                if contested && call > CONFIRMATION {
                    faults[CONFIRMATION] = Fault::Contested;
                }
                site.store.plan(faults);
                site.store.plan([fault]);
                site.store.always(Some(then));
                let reply = visitor.visit(adding(4, &name)).await;
                site.store.heal();
                assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
                site.clock.advance(wait);
                login(&mut visitor, &*name).await;
                let seen = quietly(&mut visitor, shown).await;
                let either = ["[1, 2] 3", "[1, 2, 4] 7"].map(|has| format!("{name} {has} dark"));
                assert!(either.contains(&seen), "{seen}");
                for wait in [Duration::ZERO, 6 * MINUTE] {
                    site.clock.advance(wait);
                    assert_eq!(quietly(&mut guest, shown).await, NOTHING, "{name}");
                }
                // And once more, since what is credited already must not come again.
                login(&mut visitor, &*name).await;
                assert_eq!(quietly(&mut visitor, shown).await, seen);
            }
        }
    }
}

type Told = Pin<Box<dyn Future<Output = Result<String, Error>> + Send>>;

/// Adds a number and logs in.
fn adding(
    number: u32,
    user: &str,
) -> impl FnOnce(Session<Shop>) -> Told + Clone + Send + Sync + 'static {
    let user = UserId::new(user);
    move |mut session| {
        Box::pin(async move {
            add(&mut session, number);
            session.login(user).await?;
            Ok(String::new())
        })
    }
}

async fn a_login_that_broke_off_can_be_tried_again_at_any_time(mut site: Site) {
    let mut waits = WAITS.into_iter().cycle();
    for limited in [false, true] {
        site = with_limit(site, limited);
        for (at, wait) in breaks(CONFIRMATION + 2).zip(&mut waits) {
            for again in [false, true] {
                let name = format!("ada, limited {limited}, again {again}, {at:?}, {wait:?}");
                drop(user(&site, &*name, &[1]).await);
                let mut visitor = guest(&site, &[2]).await;
                if again {
                    login(&mut visitor, &*name).await;
                }
                break_off(&site, &mut visitor, at, entering(&*name)).await;
                site.clock.advance(wait);
                login(&mut visitor, &*name).await;
                let seen = quietly(&mut visitor, shown).await;
                assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
            }
        }
    }
}

/// Adds 4 and tries to log in, and says so politely where that fails. The store has recovered by then.
fn or_sorry(
    site: &Site,
    user: &str,
) -> impl FnOnce(Session<Shop>) -> Told + Clone + Send + Sync + 'static {
    let (store, user) = (Arc::clone(&site.store), UserId::new(user));
    move |mut session| {
        Box::pin(async move {
            add(&mut session, 4);
            let failed = session.login(user).await.is_err();
            store.heal();
            if failed {
                session.notice.set("Please try again.".to_owned());
            }
            Ok(failed.to_string())
        })
    }
}

async fn a_handler_that_says_sorry_has_lost_nothing(mut site: Site) {
    let notice = async |session: Session<Shop>| format!("{:?}", session.notice.get());
    let (mut sorry, mut shows) = (0, 0);
    for limited in [false, true] {
        site = with_limit(site, limited);
        for at in breaks(CONFIRMATION + 3) {
            for contested in [false, true] {
                let name = format!("ada {limited} {contested} {at:?}");
                drop(user(&site, &*name, &[1]).await);
                let mut visitor = guest(&site, &[2]).await;
                if contested {
                    site.store.plan_after(CONFIRMATION, [Fault::Contested]);
                    if at.0 <= CONFIRMATION {
                        site.store.heal();
                        continue;
                    }
                    site.store.fail_after(at.0 - CONFIRMATION - 1, at.1, at.2);
                } else {
                    site.store.fail_after(at.0, at.1, at.2);
                }
                let handler = or_sorry(&site, &name);
                let reply = visitor.visit(handler).await;
                site.store.heal();
                if at.0 == 0 {
                    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
                    continue;
                }
                assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.body);
                if reply.body == "true" {
                    sorry += 1;
                    assert!(reply.set_cookies().is_empty(), "{name}");
                    let told = quietly(&mut visitor, notice).await;
                    shows += usize::from(told != "None");
                    login(&mut visitor, &*name).await;
                }
                let seen = quietly(&mut visitor, shown).await;
                assert_eq!(seen, format!("{name} [1, 2, 4] 7 dark"));
            }
        }
    }
    assert!(sorry > 20 && shows > 4, "{sorry} {shows}");
}

async fn a_superseded_request_whose_login_fails_sends_no_cookie(site: Site) {
    for at in breaks(calls(&site).await) {
        let name = format!("ada {at:?}");
        // A login of another tab is under way, or broke off: it has opened the session.
        let opened = (OPENING, Fault::After, Fault::Full);
        let (mut visitor, _) = break_login(&site, &name, opened).await;
        let id = visitor.id();
        let sorry = or_sorry(&site, &name);
        let reply = break_off(&site, &mut visitor, at, sorry).await;
        let seen = quietly(&mut visitor, shown).await;
        let sent = visitor.id() != id;
        assert_eq!(sent, seen.starts_with("ada"), "{seen} {}", reply.body);
        login(&mut visitor, &*name).await;
        let seen = quietly(&mut visitor, shown).await;
        let either = ["[1, 2] 3", "[1, 2, 4] 7"].map(|has| format!("{name} {has} dark"));
        assert!(either.contains(&seen), "{seen}");
    }
}

async fn what_an_unsaved_guest_had_is_never_credited_twice(site: Site) {
    for tries in [1, 2] {
        for at in breaks(CONFIRMATION) {
            let name = format!("ada {tries} {at:?}");
            drop(user(&site, &*name, &[1]).await);
            let (store, user) = (Arc::clone(&site.store), UserId::new(&*name));
            let enter = async move |mut session: Session<Shop>| {
                add(&mut session, 2);
                session.theme.set("dark".to_owned());
                let mut entered = session.login(user.clone()).await;
                store.heal();
                if entered.is_err() && tries == 2 {
                    entered = session.login(user).await;
                }
                entered
            };
            let mut visitor = site.visitor();
            let reply = break_off(&site, &mut visitor, at, enter).await;
            if tries == 2 {
                assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.body);
                let seen = quietly(&mut visitor, shown).await;
                assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
                continue;
            }
            login(&mut visitor, &*name).await;
            let stored = account(&site, &name).await;
            assert!(["[1] 1", "[1,2] 3"].contains(&&*stored), "{name}: {stored}");
        }
    }
}

async fn once_a_new_id_is_sent_the_old_one_opens_nothing_of_the_user(mut site: Site) {
    let mut sent = 0;
    for limited in [false, true] {
        site = with_limit(site, limited);
        for at in breaks(8) {
            let name = format!("ada {limited} {at:?}");
            let mut visitor = user(&site, &*name, &[7]).await;
            let mut old = visitor.clone();
            let user = UserId::from(&*name);
            let enter = async move |mut session: Session<Shop>| {
                session.login(user).await?;
                session.theme.set("loud".to_owned());
                session.save().await.map(drop)
            };
            let reply = break_off(&site, &mut visitor, at, enter).await;
            if reply.set_cookies().is_empty() {
                continue;
            }
            sent += usize::from(reply.status != StatusCode::OK);
            assert!(quietly(&mut visitor, shown).await.starts_with(&name));
            for wait in [Duration::ZERO, MINUTE, 5 * MINUTE] {
                site.clock.advance(wait);
                assert_eq!(quietly(&mut old, shown).await, NOTHING, "{name}");
            }
        }
    }
    assert!(
        sent > 3,
        "only {sent} with a new id that came with an error"
    );
}

async fn who_leaves_has_left_whatever_a_login_before_has_come_to(site: Site) {
    for at in breaks(calls(&site).await) {
        let name = format!("ada {at:?}");
        let mut ada = user(&site, &*name, &[]).await;
        break_off(&site, &mut ada, at, entering(&*name)).await;
        let key = ada.key();
        let mut tab = ada.clone();
        assert_eq!(ada.visit(logout).await.set_cookies().len(), 1, "{name}");
        assert_eq!(ada.id(), "");
        assert!(
            site.store
                .inner()
                .load(&key)
                .await
                .unwrap()
                .unwrap()
                .ended()
                .is_some()
        );
        assert!(admitted(&site, &name).await.is_empty(), "{name}");
        for wait in [Duration::ZERO, 6 * MINUTE] {
            site.clock.advance(wait);
            assert_eq!(quietly(&mut tab, shown).await, NOTHING, "{name}");
            assert_eq!(quietly(&mut tab, why).await, "Some(LoggedOut)", "{name}");
        }
    }
}

/// The schema of pages that are visited for months.
#[derive(Session)]
#[session(ttl = "2d", absolute = "90d")]
struct Pages {
    #[merge(sum)]
    points: u32,
}

/// That of the page where one logs in.
#[derive(Session)]
#[session(ttl = "1h", absolute = "12h")]
struct Door {
    #[merge(sum)]
    points: u32,
}

async fn a_guest_is_credited_once_also_by_a_schema_that_lives_shorter_than_the_session(site: Site) {
    let collect = async |mut session: Session<Pages>| *session.points.get_mut() += 2;
    let points = async |session: Session<Pages>| session.points.get().to_string();
    for at in breaks(calls(&site).await) {
        let user = UserId::from(format!("ada {at:?}"));
        let enter = async move |mut session: Session<Door>| session.login(user).await;
        let mut one = site.visitor();
        one.visit(collect).await;
        site.clock.advance(24 * HOUR);
        break_off(&site, &mut one, at, enter.clone()).await;
        let mut other = site.visitor();
        other.visit(collect).await;
        assert_eq!(other.visit(enter.clone()).await.status, StatusCode::OK);
        assert_eq!(one.visit(enter).await.status, StatusCode::OK);
        assert_eq!(quietly(&mut one, points).await, "4", "{at:?}");
    }
}

async fn what_a_login_sets_apart_is_credited_once_though_a_logout_credits_it_meanwhile(site: Site) {
    let tab = guest(&site, &[2]).await;
    let mut first = tab.clone();
    login(&mut first, "ada").await;
    assert_eq!(account(&site, "ada").await, "[2] 2");
    site.store.plan_after(CONFIRMATION, [Fault::Held]);
    let second = {
        let mut tab = tab.clone();
        tokio::spawn(async move {
            let handler = async |mut session: Session<Shop>| {
                add(&mut session, 4);
                session.login("ada").await
            };
            let reply = tab.visit(handler).await;
            (reply, tab)
        })
    };
    site.store.until_held(1).await;
    ask(&mut first, logout).await;
    site.store.release();
    let (reply, mut tab) = second.await.expect("the request ends well");
    // Nobody can tell it any more whether that was credited.
    assert!(reply.error.as_ref().is_some_and(Error::is_revoked));
    assert!(reply.set_cookies().is_empty());
    assert_eq!(account(&site, "ada").await, "[2,4] 6");
    login(&mut tab, "ada").await;
    assert_eq!(ask(&mut tab, shown).await, "ada [2, 4] 6 plain");
}

async fn a_login_whose_session_is_ended_while_its_answer_is_lost_goes_on_in_another(site: Site) {
    let mut tab = guest(&site, &[2]).await;
    site.store.plan_after(OPENING, [Fault::After, Fault::Held]);
    let login = logs_in(tab.clone(), "ada");
    site.store.until_held(1).await;
    ask(&mut tab, logout).await;
    site.store.release();
    let (mut tab, reply) = login.await.expect("the request ends well");
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert!(ask(&mut tab, shown).await.starts_with("ada "));
    assert_eq!(admitted(&site, "ada").await, [tab.key()]);
}

#[tokio::test]
async fn a_request_that_finds_out_late_that_its_login_was_opened_stays_a_guests() {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[2]).await;
    let enter = async |mut session: Session<Shop>| {
        session.login("ada").await.unwrap_err();
        add(&mut session, 4);
        assert_eq!(session.save().await.unwrap(), Saved::Written);
        format!("{:?} {:?}", session.user(), session.seen.get())
    };
    site.store.plan_after(OPENING, [Fault::After, Fault::Full]);
    assert_eq!(quietly(&mut visitor, enter).await, "None [2, 4]");
    login(&mut visitor, "ada").await;
    assert_eq!(account(&site, "ada").await, "[2,4] 6");
}

#[tokio::test]
async fn what_is_set_after_a_login_in_doubt_comes_along_with_the_next_of_its_request() {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[2]).await;
    let enter = async |mut handles: Handles| {
        let mut session = handles.open::<Shop>().await;
        session.login("ada").await.unwrap_err();
        drop(session);
        let mut session = handles.open::<Shop>().await;
        add(&mut session, 4);
        session.login("ada").await
    };
    site.store
        .plan_after(CONFIRMATION, [Fault::Before, Fault::Full]);
    let reply = visitor.visit(enter).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(account(&site, "ada").await, "[2,4] 6");
}
