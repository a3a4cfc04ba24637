//! Logins that are cut off, refused, or of which nobody knows whether they happened: what there is, and what comes next.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{Request, StatusCode};
use session_runtime::store::Record;
use session_runtime::{Session, Timestamp, UserId};
use session_tests::customers::{
    NOTHING, Shop, entering, gather, guest, login, logout, paint, quietly, shown, try_login, user,
    why,
};
use session_tests::{Fault, Reply, Site, Visitor, on_a_cache, on_each_store};

use super::breaks::{
    CONFIRMATION, OPENING, WAITS, break_login, break_off, breaks, cut_off, logs_in,
};
use super::stored::{HOUR, MINUTE, MS, account, admitted, holds_any, names, places};

on_each_store!(
    cut_off_before_the_session_is_opened_all_is_as_before,
    cut_off_before_the_login_is_confirmed_the_session_waits_for_the_same_user,
    cut_off_after_that_the_login_is_done_but_for_its_id,
    refused_a_login_leaves_the_guest_as_before,
    in_doubt_nothing_is_undone,
    an_opening_that_arrives_late_loses_nothing,
    a_confirmation_that_arrives_late_doubles_nothing,
    a_confirmation_of_which_nobody_can_tell_any_more_is_not_undone,
);

on_a_cache!(
    cut_off_before_the_login_is_confirmed_the_session_waits_for_the_same_user,
    refused_a_login_leaves_the_guest_as_before,
);

async fn cut_off_before_the_session_is_opened_all_is_as_before(site: Site) {
    let calls = breaks(OPENING).chain([
        (OPENING, Fault::Before, Fault::Full),
        (OPENING, Fault::Full, Fault::Full),
    ]);
    for at in calls {
        let name = format!("ada {at:?}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = guest(&site, &[2]).await;
        let before = site.record(&visitor).await;
        let reply = break_off(&site, &mut visitor, at, entering(&*name)).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{at:?}");
        assert!(reply.set_cookies().is_empty(), "{at:?}");
        assert_eq!(site.record(&visitor).await, before, "{at:?}");
        assert_eq!(quietly(&mut visitor, shown).await, "guest [2] 2 dark");
        gather(&mut visitor, 4).await;
        login(&mut visitor, &*name).await;
        assert_eq!(account(&site, &name).await, "[1,2,4] 7", "{at:?}");
    }
}

async fn cut_off_before_the_login_is_confirmed_the_session_waits_for_the_same_user(site: Site) {
    let cut = [(OPENING, Fault::After), (CONFIRMATION, Fault::Before)];
    for (call, fault) in cut {
        for wait in WAITS {
            let name = format!("ada {call} {wait:?}");
            let at = (call, fault, Fault::Full);
            let (mut visitor, mut old) = break_login(&site, &name, at).await;
            let waits = site.record(&visitor).await.unwrap();
            assert_eq!(waits.user(), Some(&UserId::from(&*name)));
            let apart = ["@brought/1/points", "@brought/1/seen", "theme"];
            assert_eq!(names(&waits), apart);
            assert_eq!(account(&site, &name).await, "[1] 1");
            assert!(!admitted(&site, &name).await.contains(&visitor.key()));
            // Nobody has its id. That from before writes nothing.
            assert_eq!(quietly(&mut old, shown).await, NOTHING);
            assert_eq!(quietly(&mut old, why).await, "Some(LoggedIn)");
            assert!(gather(&mut old, 9).await.set_cookies().is_empty());

            site.clock.advance(wait);
            login(&mut visitor, &*name).await;
            assert_eq!(visitor.key(), old.key());
            let seen = quietly(&mut visitor, shown).await;
            assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
            assert!(admitted(&site, &name).await.contains(&visitor.key()));
            let done = site.record(&visitor).await.unwrap();
            assert_eq!(names(&done), ["theme"]);
            assert_eq!(quietly(&mut old, shown).await, NOTHING);
        }
    }
}

async fn cut_off_after_that_the_login_is_done_but_for_its_id(site: Site) {
    for wait in WAITS {
        let name = format!("ada {wait:?}");
        let at = (CONFIRMATION, Fault::After, Fault::Full);
        let (mut visitor, mut old) = break_login(&site, &name, at).await;
        assert_eq!(account(&site, &name).await, "[1,2] 3");
        assert!(admitted(&site, &name).await.contains(&visitor.key()));
        let places = places(&site, &name).await;
        let place = places.iter().find(|place| place.key == visitor.key());
        let credited = &place.unwrap().credited;
        assert_eq!((credited["seen"], credited["points"]), (1, 1));
        assert_eq!(quietly(&mut old, shown).await, NOTHING);

        site.clock.advance(wait);
        login(&mut visitor, &*name).await;
        assert_eq!(visitor.key(), old.key());
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
        assert!(!holds_any(&site.record(&visitor).await.unwrap(), "@"));
        assert_eq!(quietly(&mut old, shown).await, NOTHING);
    }
}

/// Has somebody go in between a login's opening and its confirmation.
async fn amid_a_login(
    site: &Site,
    guest: &Visitor,
    user: &str,
    happens: impl Future<Output = ()>,
) -> (Visitor, Reply) {
    site.store.plan_after(CONFIRMATION, [Fault::Held]);
    let login = logs_in(guest.clone(), user);
    site.store.until_held(1).await;
    happens.await;
    site.store.release();
    login.await.expect("the request ends well")
}

/// Returns what of a session is as it was before a login that was refused.
fn essence(record: &Record) -> (Vec<String>, Option<&UserId>, Timestamp) {
    let slots = record.slots().iter();
    let slots = slots.map(|slot| format!("{slot:?} {:?}", slot.payload()));
    (slots.collect(), record.user(), record.expires())
}

async fn refused_a_login_leaves_the_guest_as_before(site: Site) {
    let remember = async |mut session: Session<Shop>| session.set_ttl(4 * HOUR);
    for revoked in [false, true] {
        let name = format!("ada {revoked}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = guest(&site, &[2]).await;
        quietly(&mut visitor, remember).await;
        site.plant(&visitor, "@guest/token", "\"secret\"").await;
        site.plant(&visitor, "unknown", "[1]").await;
        let before = site.record(&visitor).await.unwrap();
        let (tab, reply) = if revoked {
            let sessions = site.layer.sessions();
            let ada = UserId::from(&*name);
            let all = async { assert_eq!(sessions.revoke_all(&ada).await.unwrap(), 1) };
            amid_a_login(&site, &visitor, &name, all).await
        } else {
            let mut tab = visitor.clone();
            site.store.plan_after(CONFIRMATION, [Fault::Full]);
            let reply = try_login(&mut tab, &*name).await;
            (tab, reply)
        };
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.set_cookies().is_empty());
        assert_eq!(tab.id(), visitor.id());
        let after = site.record(&visitor).await.unwrap();
        assert_eq!(essence(&after), essence(&before));
        assert_eq!(quietly(&mut visitor, shown).await, "guest [2] 2 dark");
        assert_eq!(account(&site, &name).await, "[1] 1");
        assert!(!admitted(&site, &name).await.contains(&visitor.key()));

        // The guest goes on, and the lifetime is the guest's.
        assert!(gather(&mut visitor, 4).await.set_cookies().is_empty());
        site.clock.advance(4 * HOUR - MS);
        assert_eq!(quietly(&mut visitor, shown).await, "guest [2, 4] 6 dark");
        login(&mut visitor, &*name).await;
        assert_eq!(account(&site, &name).await, "[1,2,4] 7");
    }
}

#[tokio::test]
async fn refused_a_login_gives_back_what_is_a_guests_alone_be_there_nothing_else() {
    let site = Site::in_memory();
    drop(user(&site, "ada", &[]).await);
    let mut visitor = site.visitor();
    paint(&mut visitor, "dark").await;
    site.plant(&visitor, "@guest/token", "\"secret\"").await;
    let before = site.record(&visitor).await.unwrap();
    site.store.plan_after(CONFIRMATION, [Fault::Full]);
    let reply = try_login(&mut visitor, "ada").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let after = site.record(&visitor).await.unwrap();
    assert_eq!(essence(&after), essence(&before));
}

#[tokio::test]
async fn refused_a_login_keeps_what_its_request_has_set_of_a_guests_alone() {
    #[derive(Session)]
    struct Invited {
        #[session(guest)]
        token: Option<String>,
    }

    let site = Site::in_memory();
    drop(user(&site, "ada", &[]).await);
    let mut visitor = guest(&site, &[2]).await;
    site.store.plan_after(CONFIRMATION, [Fault::Full]);
    let enter = async |mut session: Session<Invited>| {
        session.token.set("t");
        assert!(session.login("ada").await.is_err());
    };
    quietly(&mut visitor, enter).await;
    let token = async |session: Session<Invited>| format!("{:?}", session.token.get());
    assert_eq!(quietly(&mut visitor, token).await, r#"Some("t")"#);
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, token).await, "None");
}

#[tokio::test]
async fn refused_a_login_leaves_nothing_of_the_client_in_a_guests_session() {
    let address = |_: &Parts| Some(IpAddr::from([192, 0, 2, 1]));
    let site = Site::in_memory().with(|layer| layer.client_address(address));
    drop(user(&site, "ada", &[]).await);
    let mut visitor = guest(&site, &[2]).await;
    for fault in [Fault::Full, Fault::None] {
        site.store.plan_after(CONFIRMATION, [fault]);
        let request = Request::builder().header(USER_AGENT, "Phone");
        let request = request.body(Body::empty()).unwrap();
        visitor.send(request, entering("ada")).await;
        let record = site.record(&visitor).await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&record);
        let found = ["192.0.2.1", "Phone"].map(|fact| text.contains(fact));
        assert_eq!(found, [fault == Fault::None; 2]);
    }
}

#[tokio::test]
async fn a_login_whose_id_has_come_back_keeps_nothing_to_go_back_to() {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[2]).await;
    login(&mut visitor, "ada").await;
    let opened = site.record(&visitor).await.unwrap();
    quietly(&mut visitor, shown).await;
    let presented = site.record(&visitor).await.unwrap();
    let goes_back = |record: &Record| format!("{record:?}").contains("undo: Some");
    assert!(goes_back(&opened) && !goes_back(&presented));
}

#[tokio::test]
async fn refused_a_login_moves_no_limit() {
    let site = Site::in_memory().with(|layer| layer.absolute(3 * HOUR));
    let mut visitor = guest(&site, &[2]).await;
    site.clock.advance(HOUR + HOUR / 2);
    assert_eq!(quietly(&mut visitor, shown).await, "guest [2] 2 dark");
    site.clock.advance(HOUR);
    drop(user(&site, "ada", &[]).await);
    site.store.plan_after(CONFIRMATION, [Fault::Full]);
    try_login(&mut visitor, "ada").await;
    site.clock.advance(HOUR / 2 - MS);
    assert_eq!(quietly(&mut visitor, shown).await, "guest [2] 2 dark");
    site.clock.advance(MS);
    assert_eq!(quietly(&mut visitor, shown).await, NOTHING);
    assert_eq!(quietly(&mut visitor, why).await, "Some(Expired)");
}

async fn in_doubt_nothing_is_undone(site: Site) {
    for fault in [Fault::Before, Fault::After] {
        let name = format!("ada {fault:?}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = guest(&site, &[2]).await;
        // Nobody can tell, and there is room for anything else.
        site.store.plan_after(CONFIRMATION, [fault, Fault::Full]);
        let reply = try_login(&mut visitor, &*name).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{fault:?}");
        assert!(reply.set_cookies().is_empty());
        let waits = site.record(&visitor).await.unwrap();
        assert_eq!(waits.user(), Some(&UserId::from(&*name)));
        assert_eq!(quietly(&mut visitor, shown).await, NOTHING);
        login(&mut visitor, &*name).await;
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
    }
}

async fn an_opening_that_arrives_late_loses_nothing(site: Site) {
    for goes_on in [false, true] {
        let name = format!("ada {goes_on}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = guest(&site, &[2]).await;
        cut_off(&site, &visitor, &name, OPENING).await;
        site.clock.advance(MINUTE);
        if goes_on {
            gather(&mut visitor, 4).await;
        }
        site.store.arrival().await;
        if goes_on {
            assert_eq!(quietly(&mut visitor, shown).await, "guest [2, 4] 6 dark");
        }
        login(&mut visitor, &*name).await;
        let all = if goes_on { "[1, 2, 4] 7" } else { "[1, 2] 3" };
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{name} {all} dark"));
    }
}

async fn a_confirmation_that_arrives_late_doubles_nothing(site: Site) {
    for meanwhile in [
        "nothing",
        "another login begins",
        "another login",
        "two",
        "a logout",
    ] {
        let name = format!("ada {meanwhile}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = guest(&site, &[2]).await;
        cut_off(&site, &visitor, &name, CONFIRMATION).await;
        site.clock.advance(MINUTE);
        match meanwhile {
            "another login begins" => {
                site.store.plan_after(CONFIRMATION, [Fault::Held]);
                let login = logs_in(visitor.clone(), &name);
                site.store.until_held(2).await;
                site.store.arrival().await;
                site.store.release();
                visitor = login.await.unwrap().0;
            }
            "another login" => login(&mut visitor, &*name).await,
            "two" => {
                login(&mut visitor, &*name).await;
                gather(&mut visitor, 4).await;
                login(&mut visitor, &*name).await;
            }
            "a logout" => drop(quietly_out(&mut visitor).await),
            _ => {}
        }
        if meanwhile != "another login begins" {
            site.store.arrival().await;
        }
        let all = match meanwhile {
            "two" => "[1,2,4] 7",
            "nothing" | "another login begins" | "another login" => "[1,2] 3",
            _ => "[1] 1",
        };
        login(&mut visitor, &*name).await;
        let stored = account(&site, &name).await;
        // Whoever logs out before anything of the login is certain may lose what it brought, and nobody gets it twice.
        assert!(
            stored == all || meanwhile == "a logout" && stored == "[1,2] 3",
            "{name} {stored}"
        );
        assert!(admitted(&site, &name).await.contains(&visitor.key()));
    }
}

async fn quietly_out(visitor: &mut Visitor) -> String {
    let reply = visitor.visit(logout).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    reply.body
}

async fn a_confirmation_of_which_nobody_can_tell_any_more_is_not_undone(site: Site) {
    for fault in [Fault::After, Fault::Before] {
        let name = format!("ada {fault:?}");
        let mut desk = user(&site, &*name, &[1]).await;
        let mut visitor = guest(&site, &[2]).await;
        site.store.plan_after(CONFIRMATION, [fault, Fault::Held]);
        let login_of_guest = logs_in(visitor.clone(), &name);
        site.store.until_held(1).await;
        for _ in 0..20 {
            // More than a record remembers.
            quietly(&mut desk, async |mut session: Session<Shop>| {
                session.points.set(7);
            })
            .await;
            quietly(&mut desk, async |mut session: Session<Shop>| {
                session.points.set(8);
            })
            .await;
        }
        site.store.release();
        let (_, reply) = login_of_guest.await.unwrap();
        assert_eq!(
            reply.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            reply.body
        );
        assert_eq!(quietly(&mut visitor, shown).await, NOTHING);
        login(&mut visitor, &*name).await;
        let seen = quietly(&mut visitor, async |session: Session<Shop>| {
            format!("{:?}", session.seen.get())
        });
        assert_eq!(seen.await, "[1, 2]", "{fault:?}");
    }
}

/// A store that is slow for as long as a login takes.
#[tokio::test(start_paused = true)]
async fn a_login_that_takes_too_long_fails_in_time_and_loses_nothing() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let site = Site::in_memory().with(|layer| layer.deadline(DEADLINE));
    for (call, fault) in (1..=CONFIRMATION)
        .flat_map(|call| [Fault::Slow(HOUR), Fault::Late(HOUR)].map(|fault| (call, fault)))
    {
        let name = format!("ada {call} {fault:?}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = guest(&site, &[2]).await;
        site.store.plan_after(call, [fault]);
        let began = tokio::time::Instant::now();
        let reply = try_login(&mut visitor, &*name).await;
        assert!(
            began.elapsed() <= DEADLINE + 100 * MS,
            "{:?}",
            began.elapsed()
        );
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
        login(&mut visitor, &*name).await;
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
    }
    // Each call takes nine tenths of it.
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = guest(&site, &[2]).await;
    site.store.plan([Fault::None]);
    site.store.always(Some(Fault::Slow(DEADLINE * 9 / 10)));
    let began = tokio::time::Instant::now();
    let reply = try_login(&mut visitor, "ada").await;
    assert!(
        began.elapsed() <= DEADLINE + 100 * MS,
        "{:?}",
        began.elapsed()
    );
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    site.store.heal();
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 2] 3 dark");
}
