//! Logging in: what becomes of the session, and what follows the user.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use session_runtime::store::Store;
use session_runtime::{Saved, Session, Timestamp, UserId};
use session_tests::customers::{
    Club, NOTHING, Shop, add, club, entering, gather, guest, login, logout, paint, quietly, shown,
    try_login, user, why,
};
use session_tests::{Fault, Handles, Site, on_a_cache, on_each_store, times};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::breaks::{CONFIRMATION, OPENING};
use super::meanwhile::while_held;
use super::stored::{DAY, HOUR, MINUTE, MS, SECOND, account, load_user};

on_each_store!(
    a_login_gives_a_new_id_and_the_old_one_opens_nothing,
    what_follows_the_user_is_live_in_every_browser,
    a_second_login_of_the_user_doubles_nothing,
    what_another_tab_wrote_while_the_login_ran_is_not_lost,
    changes_made_before_the_login_in_its_request_count,
    logins_that_race_credit_the_guest_once_and_both_ids_open_the_session,
    a_login_whose_session_would_be_too_large_leaves_the_guest_as_it_was,
    a_guest_whose_session_is_full_can_log_in,
    a_second_tabs_login_brings_what_it_has_changed_and_nothing_twice,
    a_login_is_not_too_late_where_a_save_is_not,
);

on_a_cache!(
    a_login_gives_a_new_id_and_the_old_one_opens_nothing,
    what_follows_the_user_is_live_in_every_browser,
    logins_that_race_credit_the_guest_once_and_both_ids_open_the_session,
);

async fn a_login_gives_a_new_id_and_the_old_one_opens_nothing(site: Site) {
    let mut visitor = guest(&site, &[1]).await;
    let mut old = visitor.clone();
    login(&mut visitor, "ada").await;
    assert_eq!(visitor.key(), old.key(), "a record never moves");
    assert_ne!(visitor.id()[16..], old.id()[16..], "its secret is another");
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 dark");

    // For five minutes whoever still carries the old id writes nothing and is sent no cookie.
    let loads = 1 + usize::from(site.store.is_cached());
    for wait in [Duration::ZERO, 10 * SECOND, 5 * MINUTE - 10 * SECOND - MS] {
        site.clock.advance(wait);
        assert_eq!(quietly(&mut old, shown).await, NOTHING);
        assert_eq!(quietly(&mut old, why).await, "Some(LoggedIn)");
        site.store.round_trips();
        let all = async |mut session: Session<Shop>| {
            add(&mut session, 9);
            session.theme.set("loud".to_owned());
            session.notice.set("Hello".to_owned());
            session.set_ttl(MINUTE);
            session.rotate().await.unwrap();
            assert_eq!(session.save().await.unwrap(), Saved::Ended);
            session.delete("over").await.unwrap();
            add(&mut session, 9);
        };
        quietly(&mut old, all).await;
        assert_eq!(site.store.round_trips(), (loads, 0));
    }
    // Then it is an id like any that nobody knows.
    site.clock.advance(MS);
    assert_eq!(quietly(&mut old, why).await, "Some(Expired)");
    assert_eq!(gather(&mut old, 7).await.set_cookies().len(), 1);
    assert_ne!(old.key(), visitor.key());
    assert_eq!(quietly(&mut old, shown).await, "guest [7] 7 plain");
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 dark");
}

async fn what_follows_the_user_is_live_in_every_browser(site: Site) {
    const EACH: u32 = 5;
    let (mut phone, mut desk) = (user(&site, "ada", &[]).await, user(&site, "ada", &[]).await);
    paint(&mut desk, "dark").await;
    gather(&mut phone, 1).await;
    assert_eq!(quietly(&mut desk, shown).await, "ada [1] 1 dark");
    gather(&mut desk, 2).await;
    assert_eq!(quietly(&mut phone, shown).await, "ada [1, 2] 3 plain");

    // In one request, too: a refresh shows what the other browser has added, under what was added here.
    let mut other = desk.clone();
    let overlapping = async move |mut session: Session<Shop>| {
        add(&mut session, 3);
        gather(&mut other, 4).await;
        session.refresh().await.unwrap();
        format!("{:?} {}", session.seen.get(), session.points.get())
    };
    assert_eq!(quietly(&mut phone, overlapping).await, "[1, 2, 4, 3] 10");
    assert_eq!(account(&site, "ada").await, "[1,2,4,3] 10");

    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let mut tab = [&phone, &desk][task % 2].clone();
        tasks.spawn(async move {
            for _ in 0..EACH {
                let count = async |mut session: Session<Shop>| *session.points.get_mut() += 1;
                quietly(&mut tab, count).await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let points = 10 + 64 * EACH;
    for (browser, theme) in [(&mut phone, "plain"), (&mut desk, "dark")] {
        let expected = format!("ada [1, 2, 4, 3] {points} {theme}");
        assert_eq!(quietly(browser, shown).await, expected);
    }
}

async fn a_second_login_of_the_user_doubles_nothing(site: Site) {
    let mut visitor = guest(&site, &[1]).await;
    login(&mut visitor, "ada").await;
    let key = visitor.key();
    gather(&mut visitor, 2).await;
    for _ in 0..3 {
        let mut old = visitor.clone();
        login(&mut visitor, "ada").await;
        assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 2] 3 dark");
        assert_eq!(quietly(&mut old, shown).await, NOTHING);
        assert_eq!(quietly(&mut old, why).await, "Some(LoggedIn)");
    }
    let twice = async |mut session: Session<Shop>| {
        add(&mut session, 4);
        session.login("ada").await.unwrap();
        add(&mut session, 8);
        session.theme.set("loud".to_owned());
        session.login("ada").await.unwrap();
        session.id().unwrap().expose().to_owned()
    };
    let reply = visitor.visit(twice).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(
        reply.body,
        visitor.id(),
        "the last id is the one that is sent"
    );
    let seen = "ada [1, 2, 4, 8] 15 loud";
    assert_eq!(quietly(&mut visitor, shown).await, seen);
    assert_eq!(visitor.key(), key, "it is one session all along");

    // What was gathered after a logout is merged by the next login.
    visitor.visit(logout).await;
    gather(&mut visitor, 32).await;
    login(&mut visitor, "ada").await;
    let seen = "ada [1, 2, 4, 8, 32] 47 plain";
    assert_eq!(quietly(&mut visitor, shown).await, seen);
    assert_ne!(visitor.key(), key);
}

async fn what_another_tab_wrote_while_the_login_ran_is_not_lost(site: Site) {
    for logged_in in [true, false] {
        let name = format!("ada {logged_in}");
        let mut visitor = if logged_in {
            user(&site, &*name, &[1]).await
        } else {
            guest(&site, &[1]).await
        };
        let (mut tab, user) = (visitor.clone(), UserId::from(&*name));
        let slow = async move |mut session: Session<Shop>| {
            add(&mut session, 2);
            paint(&mut tab, "loud").await;
            gather(&mut tab, 16).await;
            session.login(user).await.unwrap();
            format!("{:?} {}", session.seen.get(), session.points.get())
        };
        // Both appended: the one whose write came later comes later.
        let expected = "[1, 16, 2] 19";
        assert_eq!(visitor.visit(slow).await.body, expected);
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{name} {expected} loud"));
    }
}

async fn changes_made_before_the_login_in_its_request_count(site: Site) {
    for stored in [false, true] {
        let name = format!("ada {stored}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = site.visitor();
        if stored {
            visitor = guest(&site, &[2]).await;
            let note = async |mut session: Session<Shop>| session.notice.set("Read me".to_owned());
            visitor.visit(note).await;
        }
        let user = UserId::new(&*name);
        let enter = async move |mut handles: Handles| {
            let mut other = handles.open::<Club>().await;
            other.stamps.set(6);
            other.badge.set("gold".to_owned());
            drop(other);
            let mut session = handles.open::<Shop>().await;
            assert_eq!(session.notice.get().is_some(), stored);
            add(&mut session, 4);
            session.theme.set("loud".to_owned());
            session.set_ttl(4 * HOUR);
            session.login(user).await.unwrap();
            add(&mut session, 8);
            assert_eq!(session.theme.get(), "loud");
            format!("{:?} {}", session.seen.get(), session.points.get())
        };
        let reply = visitor.visit(enter).await;
        assert_eq!(reply.set_cookies().len(), 1);
        let (seen, points) = if stored {
            ("[1, 2, 4, 8]", 15)
        } else {
            ("[1, 4, 8]", 13)
        };
        assert_eq!(reply.body, format!("{seen} {points}"));
        let expected = format!("{name} {seen} {points} loud");
        assert_eq!(quietly(&mut visitor, shown).await, expected);
        assert_eq!(quietly(&mut visitor, club).await, "6 gold");
        let notice = async |session: Session<Shop>| format!("{:?}", session.notice.peek());
        assert_eq!(quietly(&mut visitor, notice).await, "None", "it was read");
        site.clock.advance(3 * HOUR);
        assert_eq!(
            quietly(&mut visitor, shown).await,
            expected,
            "it lives longer"
        );
    }
}

async fn logins_that_race_credit_the_guest_once_and_both_ids_open_the_session(site: Site) {
    for race in 0..(250 * times()).min(1000) {
        let name = format!("ada {race}");
        let one = guest(&site, &[1]).await;
        let barrier = Arc::new(Barrier::new(2));
        let mut tabs = JoinSet::new();
        for _ in 0..2 {
            let mut tab = one.clone();
            // In every other race, both have loaded before either logs in.
            let barrier = (race % 2 == 0).then(|| Arc::clone(&barrier));
            let user = UserId::new(&*name);
            tabs.spawn(async move {
                let handler = async move |mut session: Session<Shop>| {
                    if let Some(barrier) = barrier {
                        barrier.wait().await;
                    }
                    session.login(user).await
                };
                let reply = tab.visit(handler).await;
                assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
                tab
            });
        }
        for mut tab in tabs.join_all().await {
            assert_eq!(tab.key(), one.key());
            let seen = quietly(&mut tab, shown).await;
            assert_eq!(seen, format!("{name} [1] 1 dark"));
        }
        assert_eq!(account(&site, &name).await, "[1] 1");
        assert_eq!(quietly(&mut one.clone(), shown).await, NOTHING);
    }
}

async fn a_login_whose_session_would_be_too_large_leaves_the_guest_as_it_was(site: Site) {
    let site = site.with(|layer| layer.max_record(1000));
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = guest(&site, &[2]).await;
    let before = site.record(&visitor).await.unwrap();
    let fill = async |mut session: Session<Shop>| {
        session.theme.set("x".repeat(1100));
        let error = session.login("ada").await.unwrap_err();
        assert!(error.is_too_large(), "{error}");
        session.theme.set("dark".to_owned());
        error
    };
    let reply = visitor.visit(fill).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(site.record(&visitor).await.unwrap(), before);
    assert_eq!(account(&site, "ada").await, "[1] 1");
    assert_eq!(quietly(&mut visitor, shown).await, "guest [2] 2 dark");
}

async fn a_guest_whose_session_is_full_can_log_in(site: Site) {
    let site = site.with(|layer| layer.max_record(1000));
    let mut visitor = guest(&site, &[2]).await;
    let held = site.record(&visitor).await.unwrap().size();
    let fill = async move |mut session: Session<Shop>| {
        session.theme.set("x".repeat(1000 - held + "dark".len()));
    };
    assert_eq!(visitor.visit(fill).await.status, StatusCode::OK);
    assert_eq!(site.record(&visitor).await.unwrap().size(), 1000);
    login(&mut visitor, "ada").await;
    let seen = quietly(&mut visitor, shown).await;
    assert!(seen.starts_with("ada [2] 2 xxx"), "{seen}");
    gather(&mut visitor, 4).await;
    assert_eq!(account(&site, "ada").await, "[2,4] 6");
}

async fn a_second_tabs_login_brings_what_it_has_changed_and_nothing_twice(site: Site) {
    let mut visitor = guest(&site, &[3, 7]).await;
    let mut tab = visitor.clone();
    let second = async move |mut session: Session<Shop>| {
        login(&mut tab, "ada").await;
        session.seen.set(vec![7, 2]);
        *session.points.get_mut() -= 4;
        session.login("ada").await
    };
    let reply = visitor.visit(second).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(account(&site, "ada").await, "[7,2] 6");
    assert_eq!(quietly(&mut visitor, shown).await, "ada [7, 2] 6 dark");
}

async fn a_login_is_not_too_late_where_a_save_is_not(site: Site) {
    for (wait, brought) in [
        (2 * HOUR, "[1,2] 3"),
        (2 * HOUR + 10 * MINUTE - MS, "[1,2] 3"),
        (2 * HOUR + 10 * MINUTE, "[2] 2"),
    ] {
        let name = format!("ada {wait:?}");
        let mut visitor = guest(&site, &[1]).await;
        let (clock, user) = (site.clock.clone(), UserId::from(&*name));
        let slow = async move |mut session: Session<Shop>| {
            clock.advance(wait);
            add(&mut session, 2);
            session.login(user).await
        };
        let reply = visitor.visit(slow).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        assert_eq!(account(&site, &name).await, brought, "{wait:?}");
    }
}

#[tokio::test]
async fn the_absolute_limit_begins_with_the_login_and_moves_with_no_request() {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[1]).await;
    let since = async |session: Session<Shop>| {
        let since = session.authenticated_at().map(Timestamp::from);
        assert!(session.created_at() < session.authenticated_at());
        since.unwrap().as_millis().to_string()
    };
    site.clock.advance(HOUR);
    for _ in 0..2 {
        login(&mut visitor, "ada").await;
        let started = site.now();
        while site.now() < started + (30 * DAY - HOUR) {
            assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 dark");
            let told = quietly(&mut visitor, since).await;
            assert_eq!(told, started.as_millis().to_string());
            site.clock.advance(HOUR);
        }
        site.clock.advance(HOUR - MS);
        assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 dark");
    }
    site.clock.advance(MS);
    assert_eq!(quietly(&mut visitor, shown).await, NOTHING);
    assert_eq!(quietly(&mut visitor, why).await, "Some(Expired)");
}

#[tokio::test]
async fn a_login_after_the_response_has_left_is_refused_and_changes_nothing() {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[1]).await;
    let before = site.record(&visitor).await.unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
    let late = async move |mut session: Session<Shop>| {
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            let refused = session.login("ada").await.is_err();
            let tell = tell.lock().unwrap().take().unwrap();
            tell.send(refused).unwrap();
        });
    };
    quietly(&mut visitor, late).await;
    assert!(told.await.unwrap());
    assert_eq!(site.record(&visitor).await.unwrap(), before);
    assert_eq!(load_user(&site, "ada").await, None);
    assert_eq!(try_login(&mut visitor, "ada").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_user_whose_name_is_anything_at_all_can_log_in() {
    let site = Site::in_memory();
    for name in ["", "user:ada", "@sessions", "a/b\0c", "\u{1F9ED}"] {
        let mut visitor = guest(&site, &[1]).await;
        let reply = visitor.visit(entering(name)).await;
        assert_eq!(reply.status, StatusCode::OK, "{name:?}");
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{name} [1] 1 dark"));
    }
}

#[tokio::test]
async fn what_another_handle_is_dropped_with_while_the_login_waits_for_the_store_counts() {
    for held in [OPENING, CONFIRMATION] {
        let site = Site::in_memory();
        drop(user(&site, "ada", &[1]).await);
        let mut visitor = guest(&site, &[2]).await;
        let store = Arc::clone(&site.store);
        let both = async move |mut handles: Handles| {
            let mut session = handles.open::<Shop>().await;
            let mut other = handles.open::<Shop>().await;
            add(&mut session, 4);
            let meanwhile = || {
                add(&mut other, 8);
                other.theme.set("loud".to_owned());
                drop(other);
            };
            let entered = while_held(&store, session.login("ada"), meanwhile).await;
            entered.unwrap();
            assert_eq!(session.theme.get(), "loud");
            let seen: BTreeSet<_> = session.seen.get().iter().collect();
            format!("{seen:?} {}", session.points.get())
        };
        site.store.plan_after(held, [Fault::Held]);
        let reply = visitor.visit(both).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        assert_eq!(reply.body, "{1, 2, 4, 8} 15");
        let seen = quietly(&mut visitor, shown).await;
        assert!(seen.ends_with(" 15 loud"), "{seen}");
    }
}

#[tokio::test]
async fn a_flash_fares_in_the_request_of_a_login_as_in_any_other() {
    let site = Site::in_memory();
    let notice = async |session: Session<Shop>| format!("{:?}", session.notice.get());
    let tell = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    let [some, none] = ["Some(\"Hello\")", "None"];
    for (kept, after) in [(false, none), (true, some)] {
        let mut visitor = guest(&site, &[]).await;
        visitor.visit(tell).await;
        let read = async move |mut session: Session<Shop>| {
            assert!(session.notice.get().is_some());
            if kept {
                session.notice.keep();
            }
            session.login("ada").await.unwrap();
        };
        assert_eq!(visitor.visit(read).await.status, StatusCode::OK);
        assert_eq!(quietly(&mut visitor, notice).await, after, "kept: {kept}");
    }
    // Set before the login, and shown after it: it lives on to the next request.
    let mut visitor = site.visitor();
    let set = async |mut session: Session<Shop>| {
        session.notice.set("Hello".to_owned());
        session.login("ada").await.unwrap();
        assert!(session.notice.get().is_some());
    };
    assert_eq!(visitor.visit(set).await.status, StatusCode::OK);
    assert_eq!(quietly(&mut visitor, notice).await, some);
    assert_eq!(quietly(&mut visitor, notice).await, none);
    // For this request alone.
    let now = async |mut session: Session<Shop>| {
        session.notice.now("Hello".to_owned());
        session.login("ada").await.unwrap();
        format!("{:?}", session.notice.get())
    };
    assert_eq!(visitor.visit(now).await.body, some);
    assert_eq!(quietly(&mut visitor, notice).await, none);
}

#[tokio::test]
async fn what_is_set_before_the_login_counts_though_the_guests_session_has_ended_meanwhile() {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[1]).await;
    let mut tab = visitor.clone();
    let enter = async move |mut session: Session<Shop>| {
        let delete = async |mut session: Session<Shop>| session.delete("done").await;
        tab.visit(delete).await;
        add(&mut session, 2);
        session.login("ada").await
    };
    let reply = visitor.visit(enter).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(account(&site, "ada").await, "[2] 2");
}

#[tokio::test]
async fn a_login_brings_no_field_that_is_larger_than_it_may_be() {
    let site = Site::in_memory().with(|layer| layer.max_field(60));
    let mut visitor = site.visitor();
    let enter = async |mut handles: Handles| {
        handles.open::<Shop>().await.seen.set(vec![100_000_000; 9]);
        handles.open::<Club>().await.login("ada").await
    };
    let reply = visitor.visit(enter).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(load_user(&site, "ada").await, None);
}

/// The handler has given up its login, and cannot write what else it did: the id is sent all the same.
#[tokio::test(start_paused = true)]
async fn a_login_that_was_given_up_is_waited_for_though_the_response_is_an_error() {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[1]).await;
    let store = Arc::clone(&site.store);
    let enter = async move |mut handles: Handles| {
        let mut session = handles.open::<Shop>().await;
        let mut other = handles.open::<Measure>().await;
        store.plan([Fault::Held]);
        let entered = timeout(MS, session.login("ada")).await;
        assert!(entered.is_err());
        other.meters.set(f64::NAN);
        drop(other);
        tokio::spawn(async move {
            sleep(SECOND).await;
            store.release();
        });
    };
    let reply = visitor.visit(enter).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reply.set_cookies().len(), 1);
    assert!(quietly(&mut visitor, shown).await.starts_with("ada [1] 1 "));
}

/// Has a value that JSON has not.
#[derive(Session)]
struct Measure {
    meters: f64,
}
