//! Logging out, and ending a session with a reason.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use session_runtime::{Ended, Saved, Session, Sessions, UserId};
use session_tests::customers::{
    Club, NOTHING, Shop, add, ask, club, gather, guest, login, logout, paint, quietly, rotate,
    shown, try_login, user, why,
};
use session_tests::{Fault, Handles, Site, on_a_cache, on_each_store};

use tokio::sync::Mutex;

use super::breaks::{CONFIRMATION, break_off, breaks};
use super::stored::{
    DAY, HOUR, MINUTE, MS, SECOND, account, admitted, cost, holds_any, list, load, places,
};

on_each_store!(
    a_logout_ends_the_session_and_keeps_what_is_the_users,
    a_logout_of_a_guest_does_nothing,
    a_deletion_tells_its_reason_for_a_day_and_keeps_what_is_the_users,
    what_another_handle_has_changed_is_written_by_whoever_ends_the_session,
    who_has_not_had_the_new_id_yet_can_log_out_under_the_old_one,
    a_planted_id_logs_nobody_out,
    what_is_set_apart_up_to_the_last_moment_is_credited_by_a_logout,
    a_logout_returns_though_something_cannot_be_credited,
    a_logout_whose_id_has_run_out_meanwhile_ends_the_session,
    a_login_whose_id_has_run_out_meanwhile_keeps_the_guest,
    a_logout_that_breaks_off_can_be_tried_again,
    a_logout_that_keeps_fields_begins_another_session_with_them_alone,
    a_logout_of_a_revoked_session_keeps_what_is_to_stay_with_the_browser,
    an_end_that_comes_after_another_tabs_logout_begins_nothing_over_a_newer_login,
    a_logout_whose_answer_was_lost_says_goodbye_when_it_is_tried_again,
);

on_a_cache!(
    a_logout_ends_the_session_and_keeps_what_is_the_users,
    a_logout_of_a_guest_does_nothing,
    who_has_not_had_the_new_id_yet_can_log_out_under_the_old_one,
);

/// What is to stay with the browser.
#[derive(Session)]
struct Look {
    #[session(default = "plain".to_owned())]
    theme: String,
    #[expire("1h")]
    language: Option<String>,
    #[session(guest)]
    token: Option<String>,
    #[merge(sum)]
    points: u32,
    #[flash]
    notice: Option<String>,
}

async fn look(session: Session<Look>) -> String {
    let (language, token) = (session.language.get(), session.token.get());
    format!(
        "{} {language:?} {token:?} {} {:?}",
        session.theme.get(),
        session.points.get(),
        session.notice.get()
    )
}

async fn a_logout_of_a_revoked_session_keeps_what_is_to_stay_with_the_browser(site: Site) {
    let mut visitor = user(&site, "ada", &[1]).await;
    let leave = async |sessions: Sessions, mut session: Session<Look>| {
        *session.points.get_mut() += 2;
        session.language.set(Some("eo".to_owned()));
        session.notice.set("Bye".to_owned());
        sessions.revoke_all("ada").await?;
        session.logout_keeping_fields().await
    };
    assert_eq!(visitor.visit(leave).await.status, StatusCode::OK);
    let seen = quietly(&mut visitor, look).await;
    assert_eq!(seen, "plain Some(\"eo\") None 0 Some(\"Bye\")");
    assert_eq!(account(&site, "ada").await, "[1] 1");
}

async fn an_end_that_comes_after_another_tabs_logout_begins_nothing_over_a_newer_login(site: Site) {
    for deletes in [false, true] {
        let name = format!("ada {deletes}");
        let mut visitor = user(&site, &*name, &[1]).await;
        let mut tab = visitor.clone();
        let again = UserId::from(&*name);
        let late = async move |mut session: Session<Look>| {
            tab.visit(logout).await;
            login(&mut tab, again).await;
            session.notice.set("Goodbye.");
            if deletes {
                session.delete("over").await.unwrap();
            } else {
                session.logout().await.unwrap();
            }
            assert_eq!(session.ended(), Some(Ended::LoggedOut));
            session.language.set("eo");
            assert_eq!(session.save().await.unwrap(), Saved::Ended);
            tab.id()
        };
        let id = quietly(&mut visitor, late).await;
        let mut tab = visitor.presenting(&id);
        let seen = quietly(&mut tab, shown).await;
        assert_eq!(seen, format!("{name} [1] 1 plain"));
    }
}

async fn a_logout_whose_answer_was_lost_says_goodbye_when_it_is_tried_again(site: Site) {
    let mut visitor = user(&site, "ada", &[1]).await;
    let store = Arc::clone(&site.store);
    let leave = async move |mut session: Session<Look>| {
        store.fail_after(0, Fault::After, Fault::Full);
        assert!(session.logout().await.is_err());
        store.heal();
        session.notice.set("Goodbye.");
        session.logout().await.unwrap();
        assert_eq!(session.ended(), Some(Ended::LoggedOut));
    };
    let reply = visitor.visit(leave).await;
    assert_eq!(
        (reply.status, reply.set_cookies().len()),
        (StatusCode::OK, 1)
    );
    let seen = quietly(&mut visitor, look).await;
    assert_eq!(seen, "plain None None 0 Some(\"Goodbye.\")");
}

async fn a_logout_that_keeps_fields_begins_another_session_with_them_alone(site: Site) {
    let keeps = async |mut session: Session<Look>| {
        session.language.set(Some("eo".to_owned()));
        session.logout_keeping_fields().await.unwrap();
        assert_eq!((session.user(), session.is_new()), (None, true));
        assert_eq!(session.theme.get(), "dark");
    };
    let mut visitor = user(&site, "ada", &[1]).await;
    paint(&mut visitor, "dark").await;
    let join = async |mut session: Session<Club>| {
        session.badge.set("gold".to_owned());
    };
    visitor.visit(join).await;
    let plant = async |mut session: Session<Look>| {
        session.token.set(Some("secret".to_owned()));
        session.notice.set("for ada".to_owned());
    };
    visitor.visit(plant).await;
    let (mut old, key) = (visitor.clone(), visitor.key());
    let reply = visitor.visit(keeps).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_ne!(visitor.key(), key);
    assert_eq!(
        quietly(&mut visitor, look).await,
        r#"dark Some("eo") None 0 None"#
    );
    assert_eq!(quietly(&mut visitor, club).await, "0 ");
    let record = site.record(&visitor).await.unwrap();
    assert!(record.user().is_none() && !holds_any(&record, "points"));
    assert_eq!(quietly(&mut old, why).await, "Some(LoggedOut)");
    assert_eq!(account(&site, "ada").await, "[1] 1");
    assert!(list(&site, "ada").await.is_empty());
    // The lifetime of a field goes on.
    site.clock.advance(HOUR);
    assert_eq!(quietly(&mut visitor, look).await, "dark None None 0 None");

    // Where there is nothing to keep, no session begins; and a guest stays who it is.
    let mut bob = user(&site, "bob", &[2]).await;
    let leave = async |mut session: Session<Look>| session.logout_keeping_fields().await;
    assert_eq!(bob.visit(leave).await.set_cookies().len(), 1);
    assert_eq!(bob.id(), "");
    let mut someone = guest(&site, &[4]).await;
    let id = someone.id();
    ask(&mut someone, leave).await;
    assert_eq!(someone.id(), id);
    assert_eq!(quietly(&mut someone, shown).await, "guest [4] 4 dark");
    // The next user has nothing of the one before but the look.
    login(&mut visitor, "bob").await;
    assert_eq!(quietly(&mut visitor, shown).await, "bob [2] 2 dark");
}

async fn a_logout_ends_the_session_and_keeps_what_is_the_users(site: Site) {
    let mut visitor = user(&site, "ada", &[1]).await;
    paint(&mut visitor, "dark").await;
    let mut old = visitor.clone();
    let leave = async |mut session: Session<Shop>| {
        add(&mut session, 2);
        session.logout().await.unwrap();
        assert_eq!((session.user(), session.id()), (None, None));
        assert_eq!(session.points.get(), &0);
    };
    let reply = visitor.visit(leave).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(visitor.id(), "", "the cookie is removed");
    assert_eq!(quietly(&mut visitor, shown).await, NOTHING);
    assert!(admitted(&site, "ada").await.is_empty());
    assert!(places(&site, "ada").await.is_empty());
    for wait in [Duration::ZERO, 5 * MINUTE - MS] {
        site.clock.advance(wait);
        assert_eq!(quietly(&mut old, shown).await, NOTHING);
        assert_eq!(quietly(&mut old, why).await, "Some(LoggedOut)");
        assert!(gather(&mut old, 9).await.set_cookies().is_empty());
    }
    site.clock.advance(MS);
    assert_eq!(quietly(&mut old, why).await, "Some(LoggedOut)");
    assert_eq!(gather(&mut old, 7).await.set_cookies().len(), 1);
    assert_eq!(quietly(&mut old, shown).await, "guest [7] 7 plain");

    // What was changed in the logout's own request was the user's, too.
    site.clock.advance(90 * DAY);
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 2] 3 plain");

    // A logout followed by a change begins a new guest session.
    let anew = async |mut session: Session<Shop>| {
        session.logout().await.unwrap();
        add(&mut session, 4);
    };
    assert_eq!(visitor.visit(anew).await.set_cookies().len(), 1);
    assert_eq!(quietly(&mut visitor, shown).await, "guest [4] 4 plain");
    assert_eq!(account(&site, "ada").await, "[1,2] 3");
}

async fn a_logout_of_a_guest_does_nothing(site: Site) {
    // Nobody at all.
    let mut stranger = site.visitor();
    assert_eq!(cost(&site, &mut stranger, logout).await, (0, 0));
    assert_eq!(stranger.id(), "");
    // A guest who has a session.
    let mut visitor = guest(&site, &[1]).await;
    let (id, before) = (visitor.id(), site.record(&visitor).await);
    site.store.round_trips();
    quietly(&mut visitor, logout).await;
    assert_eq!(site.store.round_trips(), (1, 0));
    assert_eq!((visitor.id(), site.record(&visitor).await), (id, before));
    // What was changed, before and after, is the guest's as ever.
    let amid = async |mut session: Session<Shop>| {
        add(&mut session, 2);
        session.logout().await.unwrap();
        assert_eq!(session.seen.get(), &[1, 2]);
        add(&mut session, 4);
    };
    quietly(&mut visitor, amid).await;
    assert_eq!(quietly(&mut visitor, shown).await, "guest [1, 2, 4] 7 dark");
}

async fn a_deletion_tells_its_reason_for_a_day_and_keeps_what_is_the_users(site: Site) {
    let mut visitor = user(&site, "ada", &[1]).await;
    paint(&mut visitor, "dark").await;
    let mut old = visitor.clone();
    let end = async |mut session: Session<Shop>| {
        add(&mut session, 2);
        session.theme.set("loud".to_owned());
        session.delete("account closed").await.unwrap();
        assert_eq!((session.user(), session.id()), (None, None));
        let reason = Some(Ended::Deleted("account closed".to_owned()));
        assert_eq!(session.ended(), reason);
    };
    assert_eq!(visitor.visit(end).await.set_cookies().len(), 1);
    assert_eq!(visitor.id(), "");
    assert_eq!(account(&site, "ada").await, "[1,2] 3");
    assert!(places(&site, "ada").await.is_empty());
    for wait in [Duration::ZERO, DAY - MS] {
        site.clock.advance(wait);
        assert_eq!(quietly(&mut old, shown).await, NOTHING);
        let reason = "Some(Deleted(\"account closed\"))";
        assert_eq!(quietly(&mut old, why).await, reason);
    }
    site.clock.advance(MS);
    assert_eq!(quietly(&mut old, why).await, "Some(Expired)");

    // A guest's, all of which goes.
    let mut visitor = guest(&site, &[1]).await;
    let mut old = visitor.clone();
    assert_eq!(visitor.visit(end).await.set_cookies().len(), 1);
    assert_eq!(quietly(&mut old, shown).await, NOTHING);
}

async fn what_another_handle_has_changed_is_written_by_whoever_ends_the_session(site: Site) {
    for deletes in [false, true] {
        let name = format!("ada {deletes}");
        let mut visitor = user(&site, &*name, &[1]).await;
        let end = async move |mut handles: Handles| {
            *handles.open::<Club>().await.stamps.get_mut() += 3;
            let mut late = handles.open::<Shop>().await;
            let mut session = handles.open::<Shop>().await;
            add(&mut session, 2);
            if deletes {
                session.delete("over").await.unwrap();
            } else {
                session.logout().await.unwrap();
            }
            // A handle of the session that has ended adds nothing to what comes after it.
            add(&mut late, 9);
            drop(late);
            drop(session);
            handles.open::<Shop>().await.theme.set("new".to_owned());
        };
        assert_eq!(visitor.visit(end).await.set_cookies().len(), 1);
        assert_eq!(quietly(&mut visitor, shown).await, "guest [] 0 new");
        login(&mut visitor, &*name).await;
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{name} [1, 2] 3 new"));
        assert_eq!(quietly(&mut visitor, club).await, "3 ");
    }
}

async fn who_has_not_had_the_new_id_yet_can_log_out_under_the_old_one(site: Site) {
    for again in [false, true] {
        let name = format!("ada {again}");
        let mut visitor = user(&site, &*name, &[1]).await;
        let old = visitor.clone();
        login(&mut visitor, &*name).await;
        if again {
            login(&mut visitor, &*name).await; // of an answer that came before the other
        }
        let mut tab = old.clone();
        assert_eq!(tab.visit(logout).await.set_cookies().len(), 1);
        assert_eq!(tab.id(), "");
        assert_eq!(quietly(&mut visitor, shown).await, NOTHING);
        assert_eq!(quietly(&mut visitor, why).await, "Some(LoggedOut)");
        assert!(places(&site, &name).await.is_empty());
    }
}

async fn a_planted_id_logs_nobody_out(site: Site) {
    let planted = guest(&site, &[]).await;
    let mut victim = planted.clone();
    login(&mut victim, "ada").await;
    quietly(&mut victim, shown).await;
    for wait in [Duration::ZERO, SECOND, MINUTE, 5 * MINUTE] {
        site.clock.advance(wait);
        quietly(&mut planted.clone(), logout).await;
        assert_eq!(quietly(&mut victim, shown).await, "ada [] 0 dark");
        // Not even while nobody has come back with what the next login has sent.
        login(&mut victim, "ada").await;
        quietly(&mut planted.clone(), logout).await;
        assert_eq!(quietly(&mut victim, shown).await, "ada [] 0 dark");
    }
}

/// Adds a number through a handle of a request that is late, and saves it.
async fn put(late: &Mutex<Session<Shop>>, number: u32) -> Saved {
    let mut session = late.lock().await;
    add(&mut session, number);
    session.save().await.unwrap()
}

async fn what_is_set_apart_up_to_the_last_moment_is_credited_by_a_logout(site: Site) {
    // While the logout's request runs.
    for deletes in [false, true] {
        let name = format!("ada {deletes}");
        let visitor = guest(&site, &[1]).await;
        let (mut tab, user) = (visitor.clone(), UserId::from(&*name));
        let late = async move |session: Session<Shop>| {
            login(&mut tab, user).await;
            let late = Arc::new(Mutex::new(session));
            assert_eq!(put(&late, 2).await, Saved::Written);
            let amid = Arc::clone(&late);
            let leave = async move |mut session: Session<Shop>| {
                assert_eq!(put(&amid, 4).await, Saved::Written);
                if deletes {
                    session.delete("over").await.unwrap();
                } else {
                    session.logout().await.unwrap();
                }
            };
            assert_eq!(tab.visit(leave).await.set_cookies().len(), 1);
            assert_eq!(put(&late, 8).await, Saved::Ended);
        };
        quietly(&mut visitor.clone(), late).await;
        assert_eq!(account(&site, &name).await, "[1,2,4] 7");
        assert!(places(&site, &name).await.is_empty());
    }
    // And under an id that a login whose answer was lost has superseded.
    let mut visitor = guest(&site, &[2]).await;
    let (mut tab, store) = (visitor.clone(), Arc::clone(&site.store));
    let late = async move |mut session: Session<Shop>| {
        store.fail_after(CONFIRMATION, Fault::After, Fault::Full);
        let reply = try_login(&mut tab, "bob").await;
        store.heal();
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        add(&mut session, 4);
        assert_eq!(session.save().await.unwrap(), Saved::Written);
    };
    quietly(&mut visitor, late).await;
    assert_eq!(account(&site, "bob").await, "[2] 2");
    assert_eq!(visitor.visit(logout).await.set_cookies().len(), 1);
    assert_eq!(account(&site, "bob").await, "[2,4] 6");
    assert!(
        site.record(&visitor.presenting(&"0".repeat(48)))
            .await
            .is_none()
    );
}

async fn a_logout_returns_though_something_cannot_be_credited(site: Site) {
    let site = site.with(|layer| layer.max_field(60));
    drop(user(&site, "ada", &[100_000_000; 3]).await);
    let mut visitor = guest(&site, &[200_000_000; 3]).await;
    login(&mut visitor, "ada").await;
    let record = site.record(&visitor).await.unwrap();
    assert!(holds_any(&record, "@brought/1/seen"), "it has no room");
    let key = visitor.key();
    assert_eq!(visitor.visit(logout).await.set_cookies().len(), 1);
    assert!(!admitted(&site, "ada").await.contains(&key));
    let all = format!("[{0},{0},{0}] 900000000", 100_000_000);
    assert_eq!(account(&site, "ada").await, all);
}

async fn a_logout_whose_id_has_run_out_meanwhile_ends_the_session(site: Site) {
    let mut visitor = user(&site, "ada", &[1]).await;
    quietly(&mut visitor, shown).await;
    let (mut next, clock) = (visitor.clone(), site.clock.clone());
    ask(&mut next, rotate).await;
    let mut newer = next.clone();
    let leave = async move |mut session: Session<Shop>| {
        quietly(&mut next, shown).await;
        clock.advance(MINUTE);
        add(&mut session, 2);
        session.logout().await
    };
    assert_eq!(visitor.visit(leave).await.set_cookies().len(), 1);
    assert_eq!(quietly(&mut newer, shown).await, NOTHING);
    assert_eq!(quietly(&mut newer, why).await, "Some(LoggedOut)");
    assert_eq!(account(&site, "ada").await, "[1,2] 3");
    assert!(places(&site, "ada").await.is_empty());
}

async fn a_login_whose_id_has_run_out_meanwhile_keeps_the_guest(site: Site) {
    let mut visitor = guest(&site, &[1]).await;
    let (mut next, clock) = (visitor.clone(), site.clock.clone());
    ask(&mut next, rotate).await;
    let (key, mut newer) = (visitor.key(), next.clone());
    let enter = async move |mut session: Session<Shop>| {
        quietly(&mut next, shown).await;
        clock.advance(MINUTE);
        add(&mut session, 2);
        session.login("ada").await
    };
    assert_eq!(visitor.visit(enter).await.set_cookies().len(), 1);
    assert_eq!(visitor.key(), key);
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 2] 3 dark");
    assert_eq!(quietly(&mut newer, shown).await, NOTHING);
}

async fn a_logout_that_breaks_off_can_be_tried_again(site: Site) {
    // The session, the user; what was changed, the end, the strike-off.
    for at in breaks(5) {
        let name = format!("ada {at:?}");
        let mut visitor = user(&site, &*name, &[1]).await;
        quietly(&mut visitor, shown).await;
        let key = visitor.key();
        let leave = async |mut session: Session<Shop>| {
            add(&mut session, 2);
            session.logout().await
        };
        let reply = break_off(&site, &mut visitor, at, leave).await;
        let is_over = load(&site, &key).await.unwrap().ended().is_some();
        if reply.status == StatusCode::OK {
            assert!(is_over && visitor.id().is_empty(), "{name}");
        } else {
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
            assert!(reply.set_cookies().is_empty(), "{name}");
            assert_eq!(visitor.visit(logout).await.status, StatusCode::OK, "{name}");
        }
        assert!(load(&site, &key).await.unwrap().ended().is_some(), "{name}");
        let stored = account(&site, &name).await;
        assert!(["[1] 1", "[1,2] 3"].contains(&&*stored), "{name}: {stored}");
        assert!(!is_over || stored == "[1,2] 3", "{name}");
        let mut next = site.visitor();
        login(&mut next, &*name).await;
        // A place that is left opens nothing, and is struck off when its session's time is over.
        let is_left = matches!(
            at,
            (3, Fault::After, _) | (4, Fault::Before | Fault::Full, _)
        );
        let places = 1 + usize::from(is_left);
        assert_eq!(admitted(&site, &name).await.len(), places, "{name}");
        assert_eq!(list(&site, &name).await.len(), 1);
        site.clock.advance(2 * HOUR + 10 * MINUTE);
        login(&mut next, &*name).await;
        assert_eq!(admitted(&site, &name).await, [next.key()], "{name}");
    }
}

#[tokio::test]
async fn a_logout_is_asked_again_though_its_session_has_lapsed_meanwhile() {
    let site = Site::in_memory();
    let mut visitor = user(&site, "ada", &[1]).await;
    let key = visitor.key();
    let (clock, store) = (site.clock.clone(), Arc::clone(&site.store));
    let leave = async move |mut session: Session<Shop>| {
        clock.advance(2 * HOUR);
        store.plan([Fault::Before]);
        session.logout().await
    };
    assert_eq!(visitor.visit(leave).await.status, StatusCode::OK);
    let record = load(&site, &key).await.unwrap();
    assert_eq!(record.ended(), Some(&Ended::LoggedOut));
}

#[tokio::test]
async fn a_logout_after_a_panic_writes_nothing_of_the_users() {
    let site = Site::in_memory();
    let mut visitor = user(&site, "ada", &[1]).await;
    let panics = async |mut handles: Handles| {
        add(&mut handles.open::<Shop>().await, 2);
        let session = handles.open::<Shop>().await;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _dropped_meanwhile = session;
            resume_unwind(Box::new("a panic that something catches"));
        }));
        assert!(caught.is_err());
        handles.open::<Shop>().await.logout().await
    };
    assert_eq!(visitor.visit(panics).await.status, StatusCode::OK);
    assert_eq!(account(&site, "ada").await, "[1] 1");
}
