//! A user's sessions: listed, labelled, limited in number, revoked.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{Request, StatusCode};
use session_runtime::store::{MemoryStore, Store, StoreError, Swept};
use session_runtime::{Change, Committed, Device, Ended, Error, Key, Kind, Record, Session};
use session_runtime::{SessionLayer, Sessions, State, UserId, WhenFull};
use session_tests::customers::{
    Club, NOTHING, Shop, add, ask, club, gather, guest, login, logout, rotate, shown, try_login,
    user, why,
};
use session_tests::{
    Choices, Fault, Handles, Held, Reply, Site, Visitor, on_a_cache, on_each_store,
};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

async fn device(session: Session<Shop>) -> String {
    session.device().unwrap_or_default()
}

async fn list(site: &Site<impl Store>, user: &str) -> Vec<Device> {
    site.layer.sessions().list(&user.into()).await.unwrap()
}

/// The ids of all sessions of a user.
async fn ids(site: &Site<impl Store>, user: &str) -> BTreeSet<String> {
    let listed = list(site, user).await;
    listed.iter().map(|device| device.id().to_owned()).collect()
}

async fn id_of(visitor: &mut Visitor) -> String {
    ask(visitor, device).await
}

on_each_store!(
    no_login_slips_through_because_its_instance_reads_from_a_cache,
    a_users_sessions_are_listed_with_what_tells_them_apart,
    the_id_of_a_device_opens_nothing,
    a_device_keeps_its_id_when_it_is_rotated_and_its_label_when_it_logs_in_again,
    a_label_is_refused_to_whom_it_does_not_belong,
    a_revoked_session_is_told_so_and_others_live_on,
    none_of_a_thousand_sessions_is_live_after_they_are_revoked,
    a_deleted_user_starts_from_nothing_and_what_is_under_way_stays_out,
    what_follows_the_user_is_dropped_where_it_is_not_to_migrate,
    a_rule_for_the_whole_struct_merges_as_per_user_did,
    a_login_over_the_limit_is_refused_and_can_be_tried_again_after_a_logout,
    a_login_over_the_limit_ends_the_oldest,
    a_login_in_the_same_browser_needs_no_second_seat,
    a_login_that_breaks_off_blocks_its_seat_for_ten_seconds_at_most,
    a_login_that_fails_for_good_gives_guest_and_seat_back_at_once,
    a_login_that_may_have_been_credited_gives_nothing_back,
    a_login_that_fails_for_good_ends_no_other_session,
    a_login_that_broke_off_while_the_clock_was_ahead_blocks_nobody_for_longer,
    logins_that_race_never_exceed_the_limit,
    a_session_without_a_user_agent_is_bound_to_that,
    an_unbound_session_is_not_bound_again_by_a_login,
);

on_a_cache!(
    a_revoked_session_is_told_so_and_others_live_on,
    a_deleted_user_starts_from_nothing_and_what_is_under_way_stays_out,
    a_login_over_the_limit_ends_the_oldest,
    logins_that_race_never_exceed_the_limit,
);

fn address_of(parts: &Parts) -> Option<IpAddr> {
    parts.headers.get("x-address")?.to_str().ok()?.parse().ok()
}

/// A request from that address, of that browser.
fn from(address: &str, agent: &str) -> Request<Body> {
    let request = Request::builder().header("x-address", address);
    let request = request.header(USER_AGENT, agent).body(Body::empty());
    request.unwrap()
}

async fn enter(mut session: Session<Shop>) -> Result<(), Error> {
    session.login("ada").await
}

async fn a_users_sessions_are_listed_with_what_tells_them_apart(site: Site<impl Store>) {
    let site = site.with(|layer| layer.client_address(address_of));
    let started = site.now();
    let (mut phone, mut desk) = (site.visitor(), site.visitor());
    phone.send(from("192.0.2.1", "Phone"), enter).await;
    site.clock.advance(MINUTE);
    desk.send(from("2001:db8::1", "Desk"), enter).await;
    drop(user(&site, "bob", &[]).await);
    drop(guest(&site, &[1]).await);

    let listed = list(&site, "ada").await;
    let told: Vec<_> = listed
        .iter()
        .map(|device| (device.address(), device.user_agent(), device.label()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("192.0.2.1"), Some("Phone"), None),
            (Some("2001:db8::1"), Some("Desk"), None),
        ]
    );
    let times = |listed: &[Device]| -> Vec<_> {
        let times = listed
            .iter()
            .map(|device| [device.created_at(), device.last_seen(), device.expires_at()]);
        times.collect()
    };
    let at = |after: Duration| SystemTime::from(started + after);
    assert_eq!(
        times(&listed),
        [
            [at(Duration::ZERO), at(Duration::ZERO), at(2 * HOUR)],
            [at(MINUTE), at(MINUTE), at(2 * HOUR + MINUTE)],
        ]
    );
    assert_eq!(listed[0].id(), id_of(&mut phone).await);

    // Used from elsewhere: where the user logged in stays.
    site.clock.advance(HOUR);
    phone.send(from("198.51.100.7", "Other"), shown).await;
    let listed = list(&site, "ada").await;
    assert_eq!(listed[0].address(), Some("192.0.2.1"));
    assert_eq!(
        times(&listed),
        [
            [at(Duration::ZERO), at(HOUR + MINUTE), at(3 * HOUR + MINUTE)],
            [at(MINUTE), at(MINUTE), at(2 * HOUR + MINUTE)],
        ]
    );

    // What has expired or ended is not listed.
    site.clock.advance(HOUR - MS);
    assert_eq!(list(&site, "ada").await.len(), 2);
    site.clock.advance(MS);
    assert_eq!(ids(&site, "ada").await, [id_of(&mut phone).await].into());
    ask(&mut phone, logout).await;
    assert!(list(&site, "ada").await.is_empty());
    assert!(list(&site, "nobody").await.is_empty());
}

async fn the_id_of_a_device_opens_nothing(site: Site<impl Store>) {
    let mut visitor = user(&site, "ada", &[]).await;
    gather(&mut visitor, 1).await;
    let id = id_of(&mut visitor).await;
    assert_ne!(id, visitor.id());
    assert_ne!(id, visitor.key().to_string());
    for length in [id.len(), 40] {
        let presented: String = id.chars().cycle().take(length).collect();
        let mut thief = site.visitor().presenting(&presented);
        assert_eq!(ask(&mut thief, shown).await, NOTHING);
    }
    let mut one = guest(&site, &[1]).await;
    assert_eq!(id_of(&mut one).await, "", "a guest has no device");
}

async fn a_device_keeps_its_id_when_it_is_rotated_and_its_label_when_it_logs_in_again(
    site: Site<impl Store>,
) {
    let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
    let mut visitor = user(&site, "ada", &[]).await;
    let id = id_of(&mut visitor).await;
    let label = async |device: &str, label: Option<&str>| {
        let label = label.map(str::to_owned);
        sessions.label(&ada, device, label).await.unwrap()
    };
    let labels = async || {
        let listed = list(&site, "ada").await;
        let labels = listed
            .iter()
            .map(|device| device.label().map(str::to_owned));
        labels.collect::<Vec<_>>()
    };
    let kitchen = [Some("Kitchen".to_owned())];
    assert!(label(&id, Some("Hall")).await);
    assert!(label(&id, Some("Kitchen")).await);
    assert_eq!(labels().await, kitchen);

    // A rotated session is listed once, before its new id is presented and after.
    let old = visitor.clone();
    ask(&mut visitor, rotate).await;
    assert_ne!(visitor.id(), old.id());
    for _ in 0..2 {
        assert_eq!(ids(&site, "ada").await, [id.clone()].into());
        assert_eq!(labels().await, kitchen);
        assert_eq!(id_of(&mut visitor).await, id);
    }

    login(&mut visitor, "ada").await;
    assert_eq!(labels().await, kitchen);
    let id = id_of(&mut visitor).await;
    assert!(label(&id, None).await);
    assert_eq!(labels().await, [None]);
    assert!(label(&id, None).await, "there is nothing to take away");
    assert!(label(&id, Some("Garden")).await);

    // Another user's, or a guest's, it is not.
    login(&mut visitor, "bob").await;
    assert_eq!(list(&site, "bob").await[0].label(), None);
}

async fn a_label_is_refused_to_whom_it_does_not_belong(site: Site<impl Store>) {
    let site = site.with(|layer| layer.max_field(100));
    let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
    let mut visitor = user(&site, "ada", &[]).await;
    let mut other = user(&site, "bob", &[]).await;
    let label = async |device: &str, text: &str| {
        let label = Some(text.to_owned());
        sessions.label(&ada, device, label).await
    };
    let of_bob = id_of(&mut other).await;
    assert!(!label(&of_bob, "Mine").await.unwrap());
    assert_eq!(list(&site, "bob").await[0].label(), None);
    let id = id_of(&mut visitor).await;
    let refusal = label(&id, &"x".repeat(100)).await.unwrap_err();
    assert!(refusal.is_too_large());
    assert!(!label(&id[..id.len() - 1], "Mine").await.unwrap());

    // Nor to a session that is frozen: what is written to it would be lost.
    let claim = Change::new(Kind::Claim(ada.clone()), site.now());
    let claimed = site.store.inner().commit(&visitor.key(), &claim).await;
    assert_eq!(claimed.unwrap(), Committed::Applied);
    assert!(!label(&id, "Mine").await.unwrap());

    ask(&mut other, logout).await;
    let bob = UserId::from("bob");
    let late = sessions.label(&bob, &of_bob, Some("Late".to_owned()));
    assert!(!late.await.unwrap());
}

async fn a_revoked_session_is_told_so_and_others_live_on(site: Site<impl Store>) {
    let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
    let mut bob = user(&site, "bob", &[]).await;
    let of_bob = id_of(&mut bob).await;
    let mut browsers = Vec::new();
    for _ in 0..4 {
        browsers.push(user(&site, "ada", &[]).await);
    }
    gather(&mut browsers[0], 1).await;
    assert!(!sessions.revoke(&ada, &of_bob).await.unwrap());
    assert!(
        !sessions
            .revoke(&"bob".into(), &id_of(&mut browsers[0]).await)
            .await
            .unwrap()
    );
    assert_eq!(ask(&mut bob, shown).await, "bob [] 0 plain");

    let [mut one, mut two, mut three, mut four] = <[Visitor; 4]>::try_from(browsers).unwrap();
    let first = id_of(&mut one).await;
    assert!(sessions.revoke(&ada, &first).await.unwrap());
    assert!(!sessions.revoke(&ada, &first).await.unwrap(), "it is over");
    let reply = one.clone().visit(shown).await;
    assert_eq!(reply.body, NOTHING);
    assert_eq!(ask(&mut one, why).await, "Some(Revoked)");

    // From within a request, as an app does it.
    let others = async |session: Session<Shop>, sessions: Sessions| {
        let (user, device) = (session.user().unwrap(), session.device().unwrap());
        sessions
            .revoke_others(&user, &device)
            .await
            .unwrap()
            .to_string()
    };
    assert_eq!(ask(&mut two, others).await, "2");
    assert_eq!(ask(&mut two, others).await, "0");
    assert_eq!(ask(&mut two, shown).await, "ada [1] 1 plain");
    for ended in [&mut three, &mut four] {
        assert_eq!(ask(ended, shown).await, NOTHING);
        assert_eq!(ask(ended, why).await, "Some(Revoked)");
    }

    login(&mut three, "ada").await;
    assert_eq!(sessions.revoke_all(&ada).await.unwrap(), 2);
    assert_eq!(sessions.revoke_all(&ada).await.unwrap(), 0);
    assert_eq!(sessions.revoke_all(&"nobody".into()).await.unwrap(), 0);
    for ended in [&mut two, &mut three] {
        assert_eq!(ask(ended, why).await, "Some(Revoked)");
        // Whoever it was goes on as a guest, and can log in again.
        gather(ended, 7).await;
        assert_eq!(ask(ended, shown).await, "guest [7] 7 plain");
    }
    login(&mut two, "ada").await;
    assert_eq!(ask(&mut two, shown).await, "ada [1, 7] 8 plain");
    assert_eq!(ask(&mut bob, shown).await, "bob [] 0 plain");
}

/// A thousand browsers of one user: some rotated, one in the middle of a login.
async fn a_thousand(site: &Site<impl Store>, name: &str) -> Vec<Visitor> {
    let mut tasks = JoinSet::new();
    for task in 0..50 {
        let (layer, name) = (site.layer.clone(), name.to_owned());
        tasks.spawn(async move {
            let mut visitors = Vec::new();
            for _ in 0..20 {
                let mut visitor = Visitor::of(layer.clone());
                login(&mut visitor, &*name).await;
                if task % 10 == 0 {
                    ask(&mut visitor, rotate).await;
                }
                visitors.push(visitor);
            }
            visitors
        });
    }
    let visitors = tasks.join_all().await.concat();
    let claim = Change::new(Kind::Claim(name.into()), site.now());
    let claimed = site
        .store
        .inner()
        .commit(&visitors[500].key(), &claim)
        .await;
    assert_eq!(claimed.unwrap(), Committed::Applied);
    visitors
}

/// How many of them are live: to be opened, now or once a login is given up.
async fn live(site: &Site<impl Store>, visitors: &[Visitor]) -> usize {
    let mut live = 0;
    for visitor in visitors {
        let record = site.record(visitor).await.unwrap();
        live += usize::from(record.state.is_open());
    }
    live
}

async fn none_of_a_thousand_sessions_is_live_after_they_are_revoked(site: Site<impl Store>) {
    let sessions = site.layer.sessions();
    let mut bob = user(&site, "bob", &[]).await;

    let mut visitors = a_thousand(&site, "ada").await;
    let ada = UserId::from("ada");
    assert_eq!(live(&site, &visitors).await, 1000);
    let first = id_of(&mut visitors[0]).await;
    assert!(sessions.revoke(&ada, &first).await.unwrap());
    assert_eq!(live(&site, &visitors[..1]).await, 0);
    assert_eq!(live(&site, &visitors).await, 999);
    let spared = id_of(&mut visitors[999]).await;
    assert_eq!(sessions.revoke_others(&ada, &spared).await.unwrap(), 998);
    assert_eq!(live(&site, &visitors[..999]).await, 0);
    assert_eq!(live(&site, &visitors).await, 1);

    let visitors = a_thousand(&site, "eve").await;
    assert_eq!(sessions.revoke_all(&"eve".into()).await.unwrap(), 1000);
    assert_eq!(live(&site, &visitors).await, 0);

    let visitors = a_thousand(&site, "dan").await;
    sessions.delete(&"dan".into()).await.unwrap();
    assert_eq!(live(&site, &visitors).await, 0);

    assert_eq!(list(&site, "bob").await.len(), 1);
    assert_eq!(ask(&mut bob, shown).await, "bob [] 0 plain");
}

async fn a_deleted_user_starts_from_nothing_and_what_is_under_way_stays_out(
    site: Site<impl Store>,
) {
    let sessions = site.layer.sessions();
    for saves in [false, true] {
        for logs_in_again in [false, true] {
            let mut browser = user(&site, "ada", &[]).await;
            gather(&mut browser, 1).await;
            let (deleter, mut again) = (sessions.clone(), site.visitor());
            let late = async move |mut session: Session<Shop>| {
                deleter.delete(&"ada".into()).await.unwrap();
                if logs_in_again {
                    login(&mut again, "ada").await;
                }
                add(&mut session, 2);
                if saves {
                    let _ = session.save().await.unwrap();
                    add(&mut session, 4);
                    session.refresh().await.unwrap();
                    let _ = session.save().await.unwrap();
                }
                again.id()
            };
            let reply = browser.visit(late).await;
            assert_eq!(ask(&mut browser, shown).await, NOTHING);
            assert_eq!(ask(&mut browser, why).await, "Some(Revoked)");
            let mut newer = if logs_in_again {
                browser.presenting(&reply.body)
            } else {
                let record = site.store.inner().load(&Key::User("ada".into())).await;
                let record = record.unwrap().unwrap();
                assert!(matches!(record.state, State::Ended(_)) && record.slots().is_empty());
                user(&site, "ada", &[]).await
            };
            assert_eq!(
                ask(&mut newer, shown).await,
                "ada [] 0 plain",
                "saves: {saves}"
            );
            gather(&mut newer, 8).await;
            assert_eq!(ask(&mut newer, shown).await, "ada [8] 8 plain");
            sessions.delete(&"ada".into()).await.unwrap();
            sessions.delete(&"ada".into()).await.unwrap();
        }
    }
}

async fn what_follows_the_user_is_dropped_where_it_is_not_to_migrate(site: Site<impl Store>) {
    let site = site.with(|layer| layer.migrate(false));
    let mut desk = user(&site, "ada", &[]).await;
    gather(&mut desk, 1).await;
    let mut visitor = guest(&site, &[2]).await;
    let join = async |mut session: Session<Club>| {
        session.stamps.set(3);
        session.badge.set("gold".to_owned());
    };
    visitor.visit(join).await;
    let enter = async |mut handles: Handles| {
        handles.open::<Club>().await.badge.set("silver".to_owned());
        let mut session = handles.open::<Shop>().await;
        add(&mut session, 4);
        session.login("ada").await
    };
    assert_eq!(visitor.visit(enter).await.status, StatusCode::OK);
    assert_eq!(ask(&mut visitor, shown).await, "ada [1] 1 dark");
    for _ in 0..2 {
        assert_eq!(ask(&mut visitor, club).await, "0 silver", "nothing waits");
        assert_eq!(ask(&mut desk, club).await, "0 ");
    }
    let record = site.record(&visitor).await.unwrap();
    let lingers = |name: &str| {
        ["seen", "points", "stamps", "@pending"]
            .iter()
            .any(|part| name.contains(part))
    };
    let names: Vec<_> = record
        .slots()
        .iter()
        .map(|slot| slot.name().as_str())
        .collect();
    assert!(!names.iter().any(|name| lingers(name)), "{names:?}");

    // What is gathered after the login is the user's; what a second login finds, too.
    gather(&mut visitor, 8).await;
    login(&mut visitor, "ada").await;
    assert_eq!(ask(&mut desk, shown).await, "ada [1, 8] 9 plain");

    // And nothing comes back with the guest's old id.
    let mut one = guest(&site, &[16]).await;
    let mut old = one.clone();
    login(&mut one, "ada").await;
    login(&mut one, "ada").await;
    site.clock.advance(6 * MINUTE);
    assert_eq!(ask(&mut old, shown).await, NOTHING);
    assert_eq!(ask(&mut one, shown).await, "ada [1, 8] 9 dark");
}

/// A session whose every field merges as in Catalyst by `PerUser`.
#[derive(Session)]
#[session(merge = right_precedent)]
struct Loose {
    scalar: serde_json::Value,
    hash: serde_json::Value,
    list: serde_json::Value,
    mixed: serde_json::Value,
}

async fn a_rule_for_the_whole_struct_merges_as_per_user_did(site: Site<impl Store>) {
    use serde_json::json;
    let enter = async |mut session: Session<Loose>| session.login("ada").await;
    let loose = async |session: Session<Loose>| {
        let [scalar, hash, list, mixed] = [
            &session.scalar,
            &session.hash,
            &session.list,
            &session.mixed,
        ]
        .map(session_runtime::Field::get);
        json!([scalar, hash, list, mixed]).to_string()
    };
    let mut first = site.visitor();
    let of_the_user = async |mut session: Session<Loose>| {
        session.assign(Loose {
            scalar: json!("user"),
            hash: json!({"a": 1, "deep": {"x": 1, "y": [1], "z": {"p": 1}}, "only": "user"}),
            list: json!([1, 2]),
            mixed: json!([1, {"k": 2}]),
        });
    };
    first.visit(of_the_user).await;
    assert_eq!(first.visit(enter).await.status, StatusCode::OK);

    // A guest who has nothing overwrites nothing.
    let mut second = site.visitor();
    assert_eq!(second.visit(enter).await.status, StatusCode::OK);
    let of_the_user = ask(&mut first, loose).await;
    assert_eq!(ask(&mut second, loose).await, of_the_user);

    // Where both have something the guest's is right: it precedes, hash by hash.
    let mut third = site.visitor();
    let of_the_guest = async |mut session: Session<Loose>| {
        session.assign(Loose {
            scalar: json!("guest"),
            hash: json!({"a": 2, "deep": {"x": 3, "y": [4], "z": {"q": 5}}, "new": "guest"}),
            list: json!([2, 3]),
            mixed: json!({"k": 7}),
        });
    };
    third.visit(of_the_guest).await;
    assert_eq!(third.visit(enter).await.status, StatusCode::OK);
    let merged = json!([
        "guest",
        {
            "a": 2,
            "deep": {"x": 3, "y": [1, 4], "z": {"p": 1, "q": 5}},
            "new": "guest",
            "only": "user",
        },
        [1, 2, 2, 3],
        {"k": 7},
    ]);
    for browser in [&mut first, &mut second, &mut third] {
        let seen: serde_json::Value = serde_json::from_str(&ask(browser, loose).await).unwrap();
        assert_eq!(seen, merged);
    }
}

fn at_most(limit: usize, when_full: WhenFull) -> impl FnOnce(SessionLayer) -> SessionLayer {
    move |layer| layer.max_sessions(limit, when_full)
}

async fn a_login_over_the_limit_is_refused_and_can_be_tried_again_after_a_logout(
    site: Site<impl Store>,
) {
    let site = site.with(at_most(2, WhenFull::Refuse));
    let mut one = user(&site, "ada", &[]).await;
    let mut two = user(&site, "ada", &[]).await;
    let held = ids(&site, "ada").await;
    let mut three = guest(&site, &[1]).await;
    for _ in 0..3 {
        let id = three.id();
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
        assert_eq!(ask(&mut three, shown).await, "guest [1] 1 dark");
        assert_eq!(three.id(), id);
    }
    assert_eq!(ids(&site, "ada").await, held, "nobody's session is ended");
    for browser in [&mut one, &mut two] {
        assert_eq!(ask(browser, shown).await, "ada [] 0 plain");
    }
    drop(user(&site, "bob", &[]).await); // the limit is each user's own
    ask(&mut one, logout).await;
    login(&mut three, "ada").await;
    assert_eq!(ask(&mut three, shown).await, "ada [1] 1 dark");
    assert_eq!(
        try_login(&mut one, "ada").await.status,
        StatusCode::FORBIDDEN
    );

    // What has expired takes no seat.
    site.clock.advance(HOUR);
    ask(&mut three, shown).await;
    site.clock.advance(HOUR);
    login(&mut one, "ada").await;
    assert_eq!(
        try_login(&mut two, "ada").await.status,
        StatusCode::FORBIDDEN
    );
}

async fn a_login_over_the_limit_ends_the_oldest(site: Site<impl Store>) {
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
    // More than there may be, from before there was a limit.
    for _ in 0..4 {
        let mut browser = Visitor::of(lax.clone());
        login(&mut browser, "ada").await;
        site.clock.advance(SECOND);
    }
    assert_eq!(list(&site, "ada").await.len(), 7);
    let mut last = user(&site, "ada", &[]).await;
    assert_eq!(list(&site, "ada").await.len(), 3);
    assert!(ids(&site, "ada").await.contains(&id_of(&mut last).await));
}

async fn a_login_in_the_same_browser_needs_no_second_seat(site: Site<impl Store>) {
    for when_full in [WhenFull::Refuse, WhenFull::EndOldest] {
        let layer = site.layer.clone().max_sessions(2, when_full);
        let name = format!("{when_full:?}");
        let mut other = Visitor::of(layer.clone());
        login(&mut other, &*name).await;
        let mut visitor = Visitor::of(layer);
        for number in 0..3 {
            login(&mut visitor, &*name).await;
            gather(&mut visitor, number).await;
        }
        // Also if another tab has rotated the session since it was loaded.
        let mut tab = visitor.clone();
        let user = UserId::from(&*name);
        let slow = async move |mut session: Session<Shop>| {
            ask(&mut tab, rotate).await;
            session.login(user).await
        };
        let reply = visitor.visit(slow).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        let seen = format!("{name} [0, 1, 2] 3 plain");
        assert_eq!(ask(&mut visitor, shown).await, seen);
        assert_eq!(ask(&mut other, shown).await, seen);
        assert_eq!(list(&site, &name).await.len(), 2);
    }
}

/// How many sessions of a user can be opened: what is frozen for a login cannot.
async fn open_sessions(site: &Site<impl Store>, user: &str) -> usize {
    let mut open = 0;
    for key in site.store.inner().owned_by(&user.into()).await.unwrap() {
        let record = site.store.inner().load(&key).await.unwrap();
        let is_open =
            |record: Arc<Record>| record.state == State::Live && record.is_live(site.now());
        open += usize::from(record.is_some_and(is_open));
    }
    open
}

/// How many calls of the store a login makes.
async fn calls(site: &Site<impl Store>, visitor: &mut Visitor, user: &str) -> usize {
    // Listing is not counted as a round trip: one for each time it is listed.
    site.store.round_trips();
    login(visitor, user).await;
    let (loads, commits) = site.store.round_trips();
    loads + commits + 1
}

/// Logs in while the `call`th call of the store and all later ones fail.
async fn break_off(
    site: &Site<impl Store>,
    visitor: &mut Visitor,
    user: &str,
    (call, fault, then): (usize, Fault, Fault),
) -> Reply {
    site.store.fail_after(call, fault, then);
    let reply = try_login(visitor, user).await;
    site.store.heal();
    reply
}

async fn a_login_that_breaks_off_blocks_its_seat_for_ten_seconds_at_most(site: Site<impl Store>) {
    its_seat_is_free_after_ten_seconds(site, Fault::Full).await;
}

#[tokio::test(start_paused = true)]
async fn so_does_one_that_the_deadline_has_ended() {
    let site = Site::in_memory().with(|layer| layer.deadline(20 * MS));
    its_seat_is_free_after_ten_seconds(site, Fault::Before).await;
}

async fn its_seat_is_free_after_ten_seconds(site: Site<impl Store>, then: Fault) {
    let site = site.with(at_most(1, WhenFull::Refuse));
    for again in [false, true] {
        ask(&mut user(&site, "somebody", &[]).await, logout).await;
        let mut browser = guest(&site, &[1]).await;
        if again {
            login(&mut browser, "somebody").await;
        }
        let (mut refused, mut let_in) = (0, 0);
        let calls = calls(&site, &mut browser, "somebody").await;
        ask(&mut browser, logout).await;
        for call in 0..calls {
            for fault in [Fault::Before, Fault::After] {
                let name = format!("ada {again} {fault:?} at call {call}");
                ask(&mut user(&site, &*name, &[]).await, logout).await;
                let mut browser = guest(&site, &[1]).await;
                if again {
                    login(&mut browser, &*name).await;
                }
                let reply = break_off(&site, &mut browser, &name, (call, fault, then)).await;
                assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
                site.clock.advance(10 * SECOND);

                // The browser may have got its session all the same: then it is that which has the seat.
                let seen = ask(&mut browser, shown).await;
                let is_in = seen.starts_with(&name);
                assert_eq!(
                    open_sessions(&site, &name).await,
                    usize::from(is_in),
                    "{name}: {seen}"
                );
                let mut other = site.visitor();
                let reply = try_login(&mut other, &*name).await;
                if is_in {
                    refused += 1;
                    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{name}");
                    login(&mut browser, &*name).await;
                    assert_eq!(ask(&mut browser, shown).await, format!("{name} [1] 1 dark"));
                    ask(&mut browser, logout).await;
                    login(&mut other, &*name).await;
                } else {
                    let_in += 1;
                    assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.body);
                }
                assert_eq!(open_sessions(&site, &name).await, 1, "{name}");
            }
        }
        assert!(refused > 1 && let_in > 1, "{again}: {refused} {let_in}");
    }
}

async fn a_login_that_fails_for_good_gives_guest_and_seat_back_at_once(site: Site<impl Store>) {
    let site = site.with(at_most(1, WhenFull::Refuse));
    let mut desk = user(&site, "ada", &[]).await;
    for number in 10..20 {
        gather(&mut desk, number).await;
    }
    ask(&mut desk, logout).await;
    let mut visitor = guest(&site, &[1]).await;
    let narrow = site.layer.clone().max_field(30);
    let guests = "guest [1] 1 dark";

    // What would come of it is too large.
    let reply = try_login(&mut visitor.moved_to(&narrow), "ada").await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(ask(&mut visitor, shown).await, guests);

    // There is no room for it, whichever commit finds that out before it is the user's.
    for full in 0..4 {
        let loads = [Fault::None; 4];
        let calls = match full {
            0 => vec![
                Fault::None,
                Fault::None,
                Fault::None,
                Fault::None,
                Fault::Full,
            ], // the seat
            1 => [loads.to_vec(), vec![Fault::None, Fault::Full]].concat(), // the claim
            2 => [loads.to_vec(), vec![Fault::None; 3], vec![Fault::Full]].concat(), // the credit
            _ => vec![Fault::Full],
        };
        site.store.plan(calls);
        let reply = try_login(&mut visitor, "ada").await;
        site.store.heal();
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{full}");
        assert!(reply.set_cookies().is_empty(), "{full}");
        assert_eq!(ask(&mut visitor, shown).await, guests, "{full}");
    }

    // Another tab has changed what must not be changed by two.
    let mut tab = visitor.clone();
    let conflicting = async move |mut session: Session<Shop>| {
        session.order.set(1);
        let order = async |mut session: Session<Shop>| session.order.set(2);
        ask(&mut tab, order).await;
        let error = session.login("ada").await.unwrap_err();
        assert!(error.is_conflict());
        error
    };
    let reply = visitor.visit(conflicting).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(ask(&mut visitor, shown).await, guests);

    assert!(list(&site, "ada").await.is_empty());
    login(&mut visitor, "ada").await;
    let seen = ask(&mut visitor, shown).await;
    assert!(seen.ends_with("19, 1] 146 dark"), "{seen}");
}

async fn a_login_that_may_have_been_credited_gives_nothing_back(site: Site<impl Store>) {
    let mut visitor = guest(&site, &[1]).await;
    let mut ada = user(&site, "ada", &[]).await;
    // The credit gets there, but its answer is lost; and then there is no room to ask again.
    let calls = [Fault::None; 4].into_iter();
    site.store.plan(calls.chain([Fault::After, Fault::Full]));
    let reply = try_login(&mut visitor, "ada").await;
    site.store.heal();
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&mut ada, shown).await, "ada [1] 1 plain");
    for wait in [Duration::ZERO, 11 * SECOND] {
        site.clock.advance(wait);
        assert_eq!(ask(&mut visitor, shown).await, NOTHING);
    }
    login(&mut visitor, "ada").await;
    assert_eq!(ask(&mut visitor, shown).await, "ada [1] 1 dark");
}

async fn a_login_that_fails_for_good_ends_no_other_session(site: Site<impl Store>) {
    let site = site.with(at_most(1, WhenFull::EndOldest));
    let mut desk = user(&site, "ada", &[]).await;
    for number in 10..20 {
        gather(&mut desk, number).await;
    }
    let mut visitor = guest(&site, &[1]).await;
    let narrow = site.layer.clone().max_field(30);
    let reply = try_login(&mut visitor.moved_to(&narrow), "ada").await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(ask(&mut desk, shown).await.starts_with("ada"));
    assert_eq!(ask(&mut visitor, shown).await, "guest [1] 1 dark");
    login(&mut visitor, "ada").await;
    assert_eq!(ask(&mut desk, shown).await, NOTHING);
}

async fn a_login_that_broke_off_while_the_clock_was_ahead_blocks_nobody_for_longer(
    site: Site<impl Store>,
) {
    for when_full in [WhenFull::Refuse, WhenFull::EndOldest] {
        let site = &site;
        let layer = at_most(1, when_full)(site.layer.clone());
        let name = format!("ada {when_full:?}");
        ask(&mut user(site, &*name, &[]).await, logout).await;
        let mut visitor = guest(site, &[1]).await.moved_to(&layer);
        site.clock.step_forward(HOUR);
        // The session, the user, the seat: looked up, listed, reserved; the claim. No further.
        site.store.fail_after(6, Fault::Full, Fault::Full);
        let reply = try_login(&mut visitor, &*name).await;
        site.store.heal();
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        let record = site.record(&visitor).await.unwrap();
        assert!(matches!(record.state, State::Claimed { .. }), "{record:?}");
        site.clock.step_back(HOUR);
        assert_eq!(ask(&mut visitor, shown).await, "guest [1] 1 dark");
        login(&mut Visitor::of(layer), &*name).await;
    }
}

async fn logins_that_race_never_exceed_the_limit(site: Site<impl Store>) {
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
            assert!(listed <= limit, "{name}: {listed}");
            if when_full == WhenFull::Refuse {
                assert_eq!((let_in, listed), (limit, limit), "{name}");
                for (let_in, mut visitor) in ended {
                    assert_eq!(ask(&mut visitor, shown).await.starts_with(&name), let_in);
                }
            } else {
                assert!(let_in >= 1 && listed >= 1, "{name}: {let_in} {listed}");
            }
        }
    }
}

async fn a_session_without_a_user_agent_is_bound_to_that(site: Site<impl Store>) {
    let site = site.with(SessionLayer::bind_user_agent);
    for logged_in in [false, true] {
        let mut visitor = guest(&site, &[1]).await;
        if logged_in {
            login(&mut visitor, "ada").await;
        }
        assert_ne!(ask(&mut visitor, shown).await, NOTHING);
        let reply = visitor
            .clone()
            .send(from("192.0.2.1", "Other"), shown)
            .await;
        assert_eq!(reply.body, NOTHING, "logged in: {logged_in}");
    }
}

async fn an_unbound_session_is_not_bound_again_by_a_login(site: Site<impl Store>) {
    let site = site.with(SessionLayer::bind_user_agent);
    let from = |agent| from("192.0.2.1", agent);
    let unbind = async |mut session: Session<Shop>| {
        session.theme.set("dark".to_owned());
        session.unbind();
    };
    let enter = async |mut session: Session<Shop>| session.login("ada").await;
    let unbind_and_enter = async |mut session: Session<Shop>| {
        session.unbind();
        session.login("ada").await
    };
    let mut before = site.visitor();
    before.send(from("One"), unbind).await;
    before.send(from("Two"), enter).await;
    let mut with_it = site.visitor();
    with_it.send(from("One"), unbind_and_enter).await;
    for mut visitor in [before, with_it] {
        for agent in ["Three", "Four"] {
            let reply = visitor.send(from(agent), shown).await;
            assert!(reply.body.starts_with("ada"), "{}", reply.body);
        }
        visitor.send(from("Five"), enter).await;
        let reply = visitor.send(from("Six"), shown).await;
        assert!(reply.body.starts_with("ada"), "{}", reply.body);
    }
}

/// A near cache whose server tells it nothing: it forgets what it writes itself, and nothing else. All of ada's
/// sessions are revoked, by another instance, just before this one creates one.
struct Untold<S> {
    store: Arc<S>,
    kept: Mutex<HashMap<Key, Option<Arc<Record>>>>,
    elsewhere: Sessions,
}

impl<S: Store> Store for Untold<S> {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let kept = self.kept.lock().unwrap().get(key).cloned();
        let record = match kept {
            Some(record) => record,
            None => self.store.load(key).await?,
        };
        let mut kept = self.kept.lock().unwrap();
        kept.insert(key.clone(), record.clone());
        Ok(record)
    }

    async fn commit(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        if change.kind == Kind::Create && matches!(key, Key::Session(_)) {
            self.elsewhere.revoke_all(&"ada".into()).await.unwrap();
        }
        let committed = self.store.commit(key, change).await;
        self.kept.lock().unwrap().remove(key);
        committed
    }

    async fn owned_by(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        self.store.owned_by(owner).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.store.sweep(limit).await
    }
}

async fn no_login_slips_through_because_its_instance_reads_from_a_cache(site: Site<impl Store>) {
    login(&mut site.visitor(), "ada").await;
    for limit in [None, Some(5)] {
        let untold = Untold {
            store: Arc::clone(&site.store),
            kept: Mutex::default(),
            elsewhere: site.layer.sessions(),
        };
        let mut layer = SessionLayer::new(untold).clock(site.clock.clone());
        if let Some(limit) = limit {
            layer = layer.max_sessions(limit, WhenFull::Refuse);
        }
        let mut browser = Visitor::of(layer);
        let reply = try_login(&mut browser, "ada").await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(list(&site, "ada").await.is_empty());
    }
}

type Raced = (Reply, Visitor);

/// Has browsers log in as ada at once, their calls of the store in the order chosen.
async fn race(
    site: &Site<Held<MemoryStore>>,
    browsers: Vec<Visitor>,
    choices: &mut Choices,
) -> Vec<Raced> {
    let mut tasks = JoinSet::new();
    for mut browser in browsers {
        tasks.spawn(async move {
            let reply = try_login(&mut browser, "ada").await;
            (reply, browser)
        });
    }
    site.store.inner().run(tasks, choices).await
}

fn held() -> Site<Held<MemoryStore>> {
    Site::new(|clock| Held::new(MemoryStore::new().with_clock(clock)))
}

/// Looks at many orders of logins at once, of `logins` browsers besides `before` that are logged in already.
async fn the_limit_holds(
    (limit, when_full): (usize, WhenFull),
    (before, logins): (usize, usize),
    mut choices: Choices,
) -> usize {
    let mut orders = 0;
    while orders == 0 || choices.again() {
        orders += 1;
        let site = held().with(at_most(limit, when_full));
        let mut first = Vec::new();
        for _ in 0..before {
            first.push(user(&site, "ada", &[]).await);
            site.clock.advance(SECOND);
        }
        let browsers = (0..logins).map(|_| site.visitor()).collect();
        let ended = race(&site, browsers, &mut choices).await;
        let listed = list(&site, "ada").await;
        assert!(listed.len() <= limit, "{} {choices:?}", listed.len());
        let let_in = ended
            .iter()
            .filter(|(reply, _)| reply.status == StatusCode::OK);
        let let_in = let_in.count();
        if when_full == WhenFull::Refuse {
            assert_eq!(let_in, logins.min(limit - before), "{choices:?}");
            for mut browser in first {
                assert_eq!(ask(&mut browser, shown).await, "ada [] 0 plain");
            }
        } else {
            assert!(let_in >= 1, "{choices:?}");
        }
        for (reply, mut browser) in ended {
            let seen = ask(&mut browser, shown).await;
            match reply.status {
                StatusCode::OK if when_full == WhenFull::Refuse => {
                    assert_eq!(seen, "ada [] 0 plain", "{choices:?}");
                }
                StatusCode::OK => {}
                StatusCode::FORBIDDEN => assert_eq!(seen, NOTHING, "{choices:?}"),
                status => panic!("{status} {} {choices:?}", reply.body),
            }
        }
    }
    orders
}

#[tokio::test(start_paused = true)]
async fn in_no_order_is_anybody_let_in_who_is_one_too_many() {
    for when_full in [WhenFull::Refuse, WhenFull::EndOldest] {
        for (limit, before, logins) in [(1, 0, 2), (2, 1, 2), (2, 0, 3), (1, 0, 3)] {
            let some = Choices::sample(150);
            the_limit_holds((limit, when_full), (before, logins), some).await;
        }
    }
}

/// What ends all sessions of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Revoked,
    OthersRevoked,
    Deleted,
    /// And then somebody logs in under that name.
    Reused,
}

impl Blow {
    async fn fall(self, sessions: &Sessions, spared: &str) {
        let ada = UserId::from("ada");
        match self {
            Self::Revoked => sessions.revoke_all(&ada).await.map(drop),
            Self::OthersRevoked => sessions.revoke_others(&ada, spared).await.map(drop),
            Self::Deleted | Self::Reused => sessions.delete(&ada).await,
        }
        .expect("the store answers");
    }
}

/// Lets a blow fall while a login is under way, that of a guest who has 1 (or of a browser where ada is logged in
/// already), and looks what is left.
async fn no_login_slips_through(
    blow: Blow,
    (known, again, limited): (bool, bool, bool),
    mut choices: Choices,
) -> usize {
    let ada = Key::User("ada".into());
    let (sampled, mut orders, mut outcomes) = (choices.is_sample(), 0, BTreeSet::new());
    while orders == 0 || choices.again() {
        orders += 1;
        let limit = if limited { 5 } else { usize::MAX };
        let mut site = held();
        if limited {
            site = site.with(at_most(limit, WhenFull::Refuse));
        }
        let mut spared = site.visitor();
        if known {
            login(&mut spared, "ada").await;
            gather(&mut spared, 5).await;
        }
        let mut browser = guest(&site, &[1]).await;
        if again {
            login(&mut browser, "ada").await;
        }
        let device = id_of(&mut spared).await;
        let (store, sessions) = (Arc::clone(&site.store), site.layer.sessions());
        let (key, before) = (ada.clone(), browser.clone());
        let mut newer = site.visitor();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let reply = try_login(&mut browser, "ada").await;
            (Some(reply), browser)
        });
        tasks.spawn(async move {
            // Before that the login has not begun.
            store.inner().until(if known { 1 } else { 2 }, &key).await;
            blow.fall(&sessions, &device).await;
            if blow == Blow::Reused {
                login(&mut newer, "ada").await;
            }
            (None, newer)
        });
        let ended = site.store.inner().run(tasks, &mut choices).await;
        let ([(Some(reply), mut browser), (None, mut newer)]
        | [(None, mut newer), (Some(reply), mut browser)]) = <[_; 2]>::try_from(ended).unwrap()
        else {
            panic!("one of each has ended");
        };
        let told = (orders, reply.status, &choices);
        let is_in = match reply.status {
            StatusCode::OK => true,
            StatusCode::SERVICE_UNAVAILABLE => false,
            _ => panic!("{} {told:?}", reply.body),
        };
        outcomes.insert(is_in);

        let left = [Blow::OthersRevoked, Blow::Reused].contains(&blow);
        let listed = list(&site, "ada").await.len();
        assert_eq!(listed, usize::from(left), "{told:?}");
        if blow == Blow::Reused {
            let seen = ask(&mut newer, shown).await;
            assert_eq!(seen, "ada [] 0 plain", "{told:?}");
        }
        for carried in [&mut browser, &mut before.clone()] {
            let seen = ask(carried, shown).await;
            assert!(seen.starts_with("guest"), "{seen} {told:?}");
        }
        site.clock.advance(11 * SECOND);
        let mut again_in = browser.clone();
        login(&mut again_in, "ada").await;
        let seen = ask(&mut again_in, shown).await;
        let (mut ours, mut others) = ("1", if known { "5" } else { "" });
        if [Blow::Deleted, Blow::Reused].contains(&blow) {
            others = "";
            // What was the user's when the user was deleted is gone.
            if is_in || again {
                ours = "";
            }
        }
        let mut numbers = vec![others, ours];
        numbers.retain(|number| !number.is_empty());
        let numbers = numbers.join(", ");
        assert!(
            seen.starts_with(&format!("ada [{numbers}] ")),
            "{seen} {told:?}"
        );
    }
    assert!(
        outcomes.contains(&false),
        "{blow:?}: it comes amid the login"
    );
    assert!(
        sampled || outcomes.contains(&true),
        "{blow:?}: it comes after the login"
    );
    orders
}

#[tokio::test(start_paused = true)]
async fn in_no_order_does_a_login_slip_through_while_all_is_revoked_or_the_user_deleted() {
    for blow in [Blow::Revoked, Blow::Deleted] {
        for known in [true, false] {
            let orders = no_login_slips_through(blow, (known, false, false), Choices::default());
            let orders = orders.await;
            assert!(orders > 20, "only {orders} orders");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_hardly_any_order_does_a_login_slip_through_whatever_it_is() {
    for blow in [
        Blow::Revoked,
        Blow::OthersRevoked,
        Blow::Deleted,
        Blow::Reused,
    ] {
        for (again, limited) in [(false, false), (false, true), (true, false), (true, true)] {
            let some = Choices::sample(60);
            no_login_slips_through(blow, (true, again, limited), some).await;
        }
    }
}

#[tokio::test]
async fn a_revoked_session_is_over_whatever_it_is_in_the_middle_of() {
    let site = Site::in_memory();
    let mut visitor = user(&site, "ada", &[]).await;
    let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
    let mid = async move |mut session: Session<Shop>| {
        sessions.revoke_all(&ada).await.unwrap();
        session.theme.set("late".to_owned());
        drop(session.rotate().await);
        drop(session.save().await);
    };
    let reply = visitor.visit(mid).await;
    assert_eq!(reply.status, StatusCode::OK);
    let record = site.record(&visitor).await.unwrap();
    assert_eq!(record.state, State::Ended(Ended::Revoked));
    assert!(list(&site, "ada").await.is_empty());
}
