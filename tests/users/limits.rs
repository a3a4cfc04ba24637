//! How many sessions a user may have, and what a login does that would be one too many.

use std::sync::Arc;

use http::StatusCode;
use session_runtime::{Ended, Session, SessionLayer, UserId, WhenFull};
use session_tests::customers::{
    NOTHING, Shop, add, ask, entering, gather, guest, login, logout, quietly, rotate, shown,
    try_login, user, why,
};
use session_tests::{Fault, Site, Visitor, on_a_cache, on_each_store, wait_for};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::breaks::{CONFIRMATION, break_off, breaks, logs_in};
use super::stored::{HOUR, MINUTE, MS, SECOND, account, admitted, list, load, places};

on_each_store!(
    a_login_over_the_limit_is_refused_and_can_be_tried_again_after_a_logout,
    a_login_over_the_limit_ends_the_oldest,
    a_login_in_the_same_browser_needs_no_second_place,
    a_place_whose_id_nobody_has_come_back_with_gives_way_after_a_minute,
    a_place_whose_id_is_presented_at_the_last_moment_does_not_give_way,
    a_login_that_breaks_off_blocks_its_place_for_a_minute_at_most,
    refused_at_the_last_moment_a_login_leaves_the_guest_as_before,
    a_login_that_fails_ends_no_other_session,
    a_login_that_ends_the_oldest_can_break_off_anywhere,
    of_logins_that_displace_each_other_the_last_is_in,
    logins_that_race_never_exceed_the_limit,
);

on_a_cache!(
    a_login_over_the_limit_ends_the_oldest,
    logins_that_race_never_exceed_the_limit,
);

fn at_most(limit: usize, when_full: WhenFull) -> impl FnOnce(SessionLayer) -> SessionLayer {
    move |layer| layer.max_sessions(limit, when_full)
}

async fn a_login_over_the_limit_is_refused_and_can_be_tried_again_after_a_logout(site: Site) {
    let site = site.with(at_most(2, WhenFull::Refuse));
    let mut one = user(&site, "ada", &[]).await;
    let mut two = user(&site, "ada", &[]).await;
    for browser in [&mut one, &mut two] {
        assert_eq!(ask(browser, shown).await, "ada [] 0 plain");
    }
    let held = admitted(&site, "ada").await;
    let mut three = guest(&site, &[1]).await;
    let (id, before) = (three.id(), site.record(&three).await);
    for wait in [MS, MINUTE, HOUR] {
        site.clock.advance(wait);
        let refused = async |mut session: Session<Shop>| {
            add(&mut session, 2);
            let error = session.login("ada").await.unwrap_err();
            assert!(error.is_too_many_sessions());
            assert_eq!(session.user(), None);
            session.seen.get_mut().pop();
            *session.points.get_mut() -= 2;
            error
        };
        let reply = three.visit(refused).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert!(reply.set_cookies().is_empty());
        assert_eq!(three.id(), id);
        for browser in [&mut one, &mut two] {
            assert_eq!(ask(browser, shown).await, "ada [] 0 plain");
        }
        if wait == MS {
            assert_eq!(site.record(&three).await, before, "nothing is written");
        }
        assert_eq!(ask(&mut three, shown).await, "guest [1] 1 dark");
    }
    assert_eq!(
        admitted(&site, "ada").await,
        held,
        "nobody's session is ended"
    );
    drop(user(&site, "bob", &[]).await); // the limit is each user's own
    ask(&mut one, logout).await;
    login(&mut three, "ada").await;
    assert_eq!(ask(&mut three, shown).await, "ada [1] 1 dark");
    let reply = try_login(&mut one, "ada").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);

    // What has expired takes no place, once no slow request can bring it back.
    site.clock.advance(HOUR);
    ask(&mut three, shown).await;
    site.clock.advance(HOUR + 10 * MINUTE - MS);
    let reply = try_login(&mut one, "ada").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    site.clock.advance(MS);
    login(&mut one, "ada").await;
    assert_eq!(ask(&mut two, why).await, "Some(Expired)");
    let reply = try_login(&mut two, "ada").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
}

async fn a_login_over_the_limit_ends_the_oldest(site: Site) {
    let lax = site.layer.clone();
    let site = site.with(at_most(3, WhenFull::EndOldest));
    let mut browsers = Vec::new();
    for number in 0..5 {
        let mut browser = guest(&site, &[number]).await;
        login(&mut browser, "ada").await;
        browsers.push(browser);
        site.clock.advance(SECOND);
    }
    for (number, browser) in browsers.iter_mut().enumerate() {
        let lives = number >= 2;
        let seen = ask(browser, shown).await;
        assert_eq!(seen.starts_with("ada"), lives, "{number}: {seen}");
        let ended = ask(browser, why).await;
        assert_eq!(ended == "Some(Revoked)", !lives, "{number}: {ended}");
    }
    // Who logs in again is no longer among the oldest.
    login(&mut browsers[2], "ada").await;
    site.clock.advance(SECOND);
    drop(user(&site, "ada", &[]).await);
    assert!(ask(&mut browsers[2], shown).await.starts_with("ada"));
    assert_eq!(ask(&mut browsers[3], shown).await, NOTHING);
    // More than there may be, from before there was a limit.
    for _ in 0..4 {
        let mut browser = Visitor::of(lax.clone());
        login(&mut browser, "ada").await;
        site.clock.advance(SECOND);
    }
    assert_eq!(list(&site, "ada").await.len(), 7);
    let last = user(&site, "ada", &[]).await;
    assert_eq!(list(&site, "ada").await.len(), 3);
    assert!(admitted(&site, "ada").await.contains(&last.key()));
    assert_eq!(places(&site, "ada").await.len(), 3);
}

async fn a_login_in_the_same_browser_needs_no_second_place(site: Site) {
    for when_full in [WhenFull::Refuse, WhenFull::EndOldest] {
        let layer = site.layer.clone().max_sessions(2, when_full);
        let name = format!("{when_full:?}");
        let mut other = Visitor::of(layer.clone());
        login(&mut other, &*name).await;
        ask(&mut other, shown).await;
        let mut visitor = Visitor::of(layer);
        for number in 0..3 {
            login(&mut visitor, &*name).await;
            gather(&mut visitor, number).await;
        }
        // Also if another tab has rotated the session since it was loaded, or logged in.
        for changes in [false, true] {
            let (mut tab, user) = (visitor.clone(), UserId::from(&*name));
            let slow = async move |mut session: Session<Shop>| {
                if changes {
                    login(&mut tab, user.clone()).await;
                } else {
                    ask(&mut tab, rotate).await;
                }
                session.login(user).await
            };
            let reply = visitor.visit(slow).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        }
        let seen = format!("{name} [0, 1, 2] 3 plain");
        assert_eq!(ask(&mut visitor, shown).await, seen);
        assert_eq!(ask(&mut other, shown).await, seen);
        assert_eq!(list(&site, &name).await.len(), 2);
    }
}

async fn a_place_whose_id_nobody_has_come_back_with_gives_way_after_a_minute(site: Site) {
    let site = site.with(at_most(1, WhenFull::Refuse));
    let mut one = user(&site, "ada", &[]).await; // whose answer was lost, say
    site.clock.advance(MINUTE - MS);
    let mut two = guest(&site, &[1]).await;
    let reply = try_login(&mut two, "ada").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    site.clock.advance(MS);
    login(&mut two, "ada").await;
    assert_eq!(admitted(&site, "ada").await, [two.key()]);
    assert_eq!(ask(&mut one, shown).await, NOTHING);
    assert_eq!(ask(&mut two, shown).await, "ada [1] 1 dark");
    // Now it is in use.
    site.clock.advance(MINUTE);
    let reply = try_login(&mut one, "ada").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    // Also after it has been rotated, or logged in again, and nobody has come back yet.
    for again in [false, true] {
        if again {
            login(&mut two.clone(), "ada").await;
        } else {
            ask(&mut two.clone(), rotate).await;
        }
        site.clock.advance(MINUTE);
        let mut other = site.visitor();
        let reply = try_login(&mut other, "ada").await;
        assert_eq!(reply.status == StatusCode::OK, again, "{}", reply.body);
        if !again {
            assert_eq!(ask(&mut two, shown).await, "ada [1] 1 dark");
        }
    }
}

async fn a_place_whose_id_is_presented_at_the_last_moment_does_not_give_way(site: Site) {
    let site = site.with(at_most(1, WhenFull::Refuse));
    let mut one = user(&site, "ada", &[]).await;
    site.clock.advance(MINUTE);
    let two = guest(&site, &[2]).await;
    // The guest, the user, the session of the place; and its end.
    site.store.plan_after(3, [Fault::Held]);
    let login_of_two = logs_in(two.clone(), "ada");
    site.store.until_held(1).await;
    assert_eq!(quietly(&mut one, shown).await, "ada [] 0 plain");
    site.store.release();
    let (mut two, reply) = login_of_two.await.unwrap();
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.body);
    assert_eq!(quietly(&mut one, shown).await, "ada [] 0 plain");
    assert_eq!(quietly(&mut two, shown).await, "guest [2] 2 dark");
}

async fn a_login_that_breaks_off_blocks_its_place_for_a_minute_at_most(site: Site) {
    let site = site.with(at_most(1, WhenFull::Refuse));
    let (mut in_time, mut confirmed) = (0, 0);
    for at in breaks(CONFIRMATION + 2) {
        let name = format!("ada {at:?}");
        ask(&mut user(&site, &*name, &[1]).await, logout).await;
        let mut browser = guest(&site, &[2]).await;
        let reply = break_off(&site, &mut browser, at, entering(&*name)).await;
        if reply.status == StatusCode::OK {
            in_time += 1;
            assert_eq!(at.0, CONFIRMATION + 1, "{name}");
            continue;
        }
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
        confirmed += usize::from(!admitted(&site, &name).await.is_empty());
        site.clock.advance(MINUTE);
        let mut other = user(&site, &*name, &[4]).await;
        ask(&mut other, shown).await;
        assert_eq!(admitted(&site, &name).await, [other.key()], "{name}");
        let reply = try_login(&mut browser, &*name).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{name}");
        ask(&mut other, logout).await;
        login(&mut browser, &*name).await;
        let seen = account(&site, &name).await;
        assert!(
            ["[1,4,2] 7", "[1,2,4] 7"].contains(&&*seen),
            "{name}: {seen}"
        );
        assert_eq!(admitted(&site, &name).await, [browser.key()]);
    }
    assert!(in_time > 0 && confirmed > 0, "{in_time} {confirmed}");
}

async fn refused_at_the_last_moment_a_login_leaves_the_guest_as_before(site: Site) {
    let site = site.with(at_most(1, WhenFull::Refuse));
    for number in 0..3 {
        let name = format!("ada {number}");
        let mut one = guest(&site, &[1]).await;
        site.plant(&one, "@guest/token", "\"secret\"").await;
        let before = site.record(&one).await.unwrap();
        site.store.plan_after(CONFIRMATION, [Fault::Held]);
        let first = logs_in(one.clone(), &name);
        site.store.until_held(1).await;
        let mut two = guest(&site, &[2]).await;
        login(&mut two, &*name).await;
        site.store.release();
        let (tab, reply) = first.await.unwrap();
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.body);
        assert_eq!((tab.id(), reply.set_cookies().len()), (one.id(), 0));
        let after = site.record(&one).await.unwrap();
        assert_eq!(after.slots(), before.slots());
        assert_eq!((after.user(), after.expires()), (None, before.expires()));
        assert_eq!(ask(&mut one, shown).await, "guest [1] 1 dark");
        assert_eq!(ask(&mut two, shown).await, format!("{name} [2] 2 dark"));
        ask(&mut two, logout).await;
        login(&mut one, &*name).await;
        assert_eq!(account(&site, &name).await, "[2,1] 3");
    }
}

async fn a_login_that_fails_ends_no_other_session(site: Site) {
    let site = site.with(at_most(1, WhenFull::EndOldest));
    let mut desk = user(&site, "ada", &[10, 20]).await;
    let mut visitor = guest(&site, &[1]).await;
    site.store.plan_after(CONFIRMATION, [Fault::Full]);
    let reply = try_login(&mut visitor, "ada").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&mut desk, shown).await, "ada [10, 20] 30 plain");
    assert_eq!(ask(&mut visitor, shown).await, "guest [1] 1 dark");
    login(&mut visitor, "ada").await;
    assert_eq!(ask(&mut desk, shown).await, NOTHING);
    assert_eq!(ask(&mut desk, why).await, "Some(Revoked)");
}

async fn a_login_that_ends_the_oldest_can_break_off_anywhere(site: Site) {
    let site = site.with(at_most(1, WhenFull::EndOldest));
    // The session, the user, the opening, the confirmation; the oldest, its end, the strike-off; and what is dropped.
    for at in breaks(8) {
        let name = format!("ada {at:?}");
        let mut desk = user(&site, &*name, &[1]).await;
        let key = desk.key();
        let mut visitor = guest(&site, &[2]).await;
        let reply = break_off(&site, &mut visitor, at, entering(&*name)).await;
        let is_in = !reply.set_cookies().is_empty();
        assert_eq!(is_in, reply.status == StatusCode::OK, "{name}");
        let staying = admitted(&site, &name).await;
        assert_eq!(staying.len(), 1, "{name}");
        let seen = ask(&mut desk, shown).await;
        assert_eq!(seen == NOTHING, staying != [key.clone()], "{name}: {seen}");
        if is_in {
            assert_eq!(seen, NOTHING, "{name}");
            let seen = ask(&mut visitor, shown).await;
            assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
        }
        login(&mut visitor, &*name).await;
        let seen = ask(&mut visitor, shown).await;
        assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
        let ended = load(&site, &key).await.unwrap();
        assert_eq!(ended.ended(), Some(&Ended::Revoked), "{name}");
        assert_eq!(places(&site, &name).await.len(), 1, "{name}");
    }
}

async fn of_logins_that_displace_each_other_the_last_is_in(site: Site) {
    let site = site.with(at_most(1, WhenFull::EndOldest));
    let one = guest(&site, &[1]).await;
    // One tab has looked, and seen no place.
    site.store.plan_after(2, [Fault::Held]);
    let late = logs_in(one.clone(), "ada");
    site.store.until_held(1).await;
    // Another is in; then the first opens the session, too.
    let mut tab = one.clone();
    login(&mut tab, "ada").await;
    // Its swap is stale, the next is not; and it does not get to confirm.
    site.store.plan([Fault::None, Fault::Held]);
    let before = site.record(&tab).await;
    site.store.release();
    wait_for("the opening", async || site.record(&tab).await != before).await;
    site.store.until_held(1).await;
    // A device takes the place, and is in; then the first confirms.
    let mut device = site.visitor();
    login(&mut device, "ada").await;
    site.store.release();
    let (mut late, reply) = late.await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    let mut live = 0;
    for browser in [&mut late, &mut tab, &mut device] {
        let seen = ask(browser, shown).await;
        live += usize::from(seen.starts_with("ada [1] 1"));
        assert!(seen == NOTHING || seen.starts_with("ada [1] 1"), "{seen}");
    }
    assert_eq!(live, 1);
    assert_eq!(admitted(&site, "ada").await, [late.key()]);
    assert_eq!(account(&site, "ada").await, "[1] 1");
}

async fn logins_that_race_never_exceed_the_limit(site: Site) {
    for (limit, when_full) in [
        (1, WhenFull::Refuse),
        (3, WhenFull::Refuse),
        (1, WhenFull::EndOldest),
        (3, WhenFull::EndOldest),
    ] {
        let layer = site.layer.clone().max_sessions(limit, when_full);
        for race in 0..10 {
            let name = format!("{limit} {when_full:?} {race}");
            let barrier = Arc::new(Barrier::new(6));
            let mut tasks = JoinSet::new();
            for _ in 0..6 {
                let (mut visitor, barrier) = (Visitor::of(layer.clone()), Arc::clone(&barrier));
                let user = UserId::from(&*name);
                tasks.spawn(async move {
                    let handler = async move |mut session: Session<Shop>| {
                        barrier.wait().await;
                        session.login(user).await
                    };
                    let reply = visitor.visit(handler).await;
                    assert!([StatusCode::OK, StatusCode::FORBIDDEN].contains(&reply.status));
                    (reply.status == StatusCode::OK, visitor)
                });
            }
            let ended = tasks.join_all().await;
            let let_in = ended.iter().filter(|(let_in, _)| *let_in).count();
            let listed = list(&site, &name).await.len();
            assert_eq!(listed, limit, "{name}");
            assert_eq!(admitted(&site, &name).await.len(), limit, "{name}");
            let mut live = 0;
            for (is_in, mut visitor) in ended {
                let lives = ask(&mut visitor, shown).await.starts_with(&name);
                live += usize::from(lives);
                assert!(is_in || !lives, "{name}");
                assert!(when_full == WhenFull::EndOldest || is_in == lives, "{name}");
            }
            assert_eq!(live, limit, "{name}");
            assert!(let_in >= limit, "{name}");
        }
    }
}
