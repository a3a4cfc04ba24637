//! How a session ends, and what is said of it then.

#![allow(clippy::unchecked_time_subtraction)] // a test that subtracts too much has failed

use std::time::Duration;

use axum::body::Body;
use http::header::USER_AGENT;
use http::{Request, StatusCode};
use session_runtime::transport::{CookieTransport, SameSite};
use session_runtime::{Ended, Error, Saved, Session, SessionId};
use session_tests::customers::quietly;
use session_tests::{Handles, Reply, Site, Visitor, on_a_cache, on_each_store};

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const TTL: Duration = Duration::from_secs(2 * 60 * 60);

#[derive(Session)]
pub(crate) struct Desk {
    pub(crate) owner: String,
    #[merge(sum)]
    pub(crate) stamps: u32,
    #[flash]
    pub(crate) notice: Option<String>,
}

pub(crate) async fn owner(session: Session<Desk>) -> String {
    session.owner.get().clone()
}

pub(crate) async fn sit(mut session: Session<Desk>) {
    session.owner.set("Ada".to_owned());
}

pub(crate) async fn stamp(mut session: Session<Desk>) {
    *session.stamps.get_mut() += 1;
}

pub(crate) async fn stamps(session: Session<Desk>) -> String {
    session.stamps.get().to_string()
}

pub(crate) async fn rotate(mut session: Session<Desk>) -> Result<(), Error> {
    session.rotate().await
}

pub(crate) async fn delete(mut session: Session<Desk>) -> Result<(), Error> {
    session.delete("closed").await
}

pub(crate) async fn login(mut session: Session<Desk>) -> Result<(), Error> {
    session.login("ada").await
}

pub(crate) async fn logout(mut session: Session<Desk>) -> Result<(), Error> {
    session.logout().await
}

/// Says why there is no session, and that there is none.
pub(crate) async fn why(session: Session<Desk>) -> String {
    if session.ended().is_some() {
        assert!(session.is_new());
        assert_eq!(session.id(), None);
        assert_eq!(session.owner.get(), "");
    }
    format!("{:?}", session.ended())
}

/// Somebody who has a session.
pub(crate) async fn ada(site: &Site) -> Visitor {
    let mut visitor = site.visitor();
    assert_eq!(visitor.visit(sit).await.set_cookies().len(), 1);
    visitor
}

on_each_store!(
    ended_says_why_and_takes_no_cookie_away,
    a_tombstone_is_there_for_a_day,
    however_long_a_reason_is_the_session_ends_and_a_kibibyte_of_it_is_told,
    a_late_commit_never_revives_a_deleted_session,
    a_request_whose_session_ends_learns_of_it,
    deleting_and_setting_begins_a_new_session_in_one_response,
    deleting_ends_every_id_the_session_ever_had,
    an_id_is_never_adopted,
    nothing_of_a_stolen_record_opens_its_session,
    an_id_from_before_a_login_or_logout_serves_an_empty_session_that_writes_nothing,
    a_session_presented_by_another_client_is_ended,
);

on_a_cache!(
    a_late_commit_never_revives_a_deleted_session,
    a_request_whose_session_ends_learns_of_it,
    an_id_from_before_a_login_or_logout_serves_an_empty_session_that_writes_nothing,
);

async fn however_long_a_reason_is_the_session_ends_and_a_kibibyte_of_it_is_told(site: Site) {
    let mut visitor = ada(&site).await;
    let mut tab = visitor.clone();
    let deletes = async |mut session: Session<Desk>| {
        session.delete(format!("-{}", "ü".repeat(1 << 21))).await
    };
    assert_eq!(visitor.visit(deletes).await.status, StatusCode::OK);
    let told = quietly(&mut tab, why).await;
    assert_eq!(told, format!("Some(Deleted(\"-{}\"))", "ü".repeat(511)));
}

async fn ended_says_why_and_takes_no_cookie_away(site: Site) {
    let expired = ada(&site).await;
    site.clock.advance(TTL);
    let deleted = ada(&site).await;
    deleted.clone().visit(delete).await;
    let mut logged_out = ada(&site).await;
    let mut revoked = ada(&site).await;
    revoked.visit(login).await;
    site.layer.sessions().revoke_all("ada").await.unwrap();
    logged_out.visit(login).await;
    let tab = logged_out.clone();
    logged_out.visit(logout).await;
    logged_out = tab;

    let live = ada(&site).await;
    let twice = format!("{}; __Host-id={}", live.id(), live.id());
    for (visitor, reason) in [
        (site.visitor(), "None"),
        (live.clone(), "None"),
        (expired, "Some(Expired)"),
        (live.presenting(&"0".repeat(48)), "Some(Expired)"),
        (live.presenting(&"0".repeat(40)), "Some(Malformed)"),
        (deleted, r#"Some(Deleted("closed"))"#),
        (revoked, "Some(Revoked)"),
        (logged_out, "Some(LoggedOut)"),
        (live.presenting("malformed"), "Some(Malformed)"),
        (live.presenting(&twice), "Some(Malformed)"),
    ] {
        let mut visitor = visitor;
        assert_eq!(quietly(&mut visitor, why).await, reason);
        if reason == "Some(LoggedOut)" {
            site.clock.advance(5 * MINUTE); // until then it may be a late request's
            assert_eq!(quietly(&mut visitor, why).await, reason);
        }
        let guest = visitor.visit(stamp).await;
        assert_eq!(
            guest.set_cookies().len(),
            usize::from(visitor.id() != live.id())
        );
        assert_eq!(quietly(&mut visitor, why).await, "None");
    }
}

async fn a_tombstone_is_there_for_a_day(site: Site) {
    let mut visitor = ada(&site).await;
    let mut tab = visitor.clone();
    visitor.visit(delete).await;
    site.clock.advance(24 * HOUR - MS);
    assert_eq!(quietly(&mut tab, why).await, r#"Some(Deleted("closed"))"#);
    site.clock.advance(MS);
    assert_eq!(quietly(&mut tab, why).await, "Some(Expired)");
}

async fn a_late_commit_never_revives_a_deleted_session(site: Site) {
    type Does = fn(&mut Session<Desk>);
    let late: [(&str, Does); 5] = [
        ("a change", |session| session.owner.set("Bob".to_owned())),
        ("a sum", |session| *session.stamps.get_mut() += 1),
        ("a flash", |session| session.notice.set("Hello".to_owned())),
        ("a lifetime", |session| session.set_ttl(TTL * 2)),
        ("reading alone, when an extension is due", |_| {}),
    ];
    for (what, does) in late {
        for saves in [false, true] {
            let mut visitor = ada(&site).await;
            site.clock.advance(HOUR);
            let mut tab = visitor.clone();
            let slow = async move |mut session: Session<Desk>| {
                assert_eq!(tab.visit(delete).await.status, StatusCode::OK);
                does(&mut session);
                if saves {
                    assert_eq!(session.save().await.unwrap(), Saved::Ended);
                    does(&mut session);
                }
            };
            quietly(&mut visitor, slow).await;
            assert_eq!(
                quietly(&mut visitor, why).await,
                r#"Some(Deleted("closed"))"#,
                "{what}, saves: {saves}"
            );
            let record = site.record(&visitor).await.unwrap();
            assert!(record.slots().is_empty());
        }
    }
}

async fn a_request_whose_session_ends_learns_of_it(site: Site) {
    let slow = |mut tab: Visitor, refreshes: bool| {
        async move |mut session: Session<Desk>| {
            session.owner.set("Bob".to_owned());
            tab.visit(delete).await;
            assert_eq!(session.ended(), None);
            if refreshes {
                session.refresh().await.unwrap();
            } else {
                assert_eq!(session.save().await.unwrap(), Saved::Ended);
            }
            assert_eq!(session.ended(), Some(Ended::Deleted("closed".to_owned())));
            assert!(session.is_new());
            assert_eq!(session.id(), None);
            assert_eq!(session.owner.get(), "");
            session.owner.set("Bob".to_owned());
            session.rotate().await.unwrap();
            assert_eq!(session.save().await.unwrap(), Saved::Ended);
        }
    };
    for refreshes in [false, true] {
        let visitor = ada(&site).await;
        quietly(&mut visitor.clone(), slow(visitor, refreshes)).await;
    }
}

async fn deleting_and_setting_begins_a_new_session_in_one_response(site: Site) {
    let mut visitor = ada(&site).await;
    let (mut tab, old) = (visitor.clone(), visitor.id());
    let anew = async |mut stale: Session<Desk>, mut session: Session<Desk>| {
        session.stamps.set(5);
        stale.stamps.set(7);
        session.delete("anew").await.unwrap();
        assert!(session.is_new());
        assert_eq!(session.owner.get(), "");
        assert_eq!(session.stamps.get(), &0);
        session.notice.set("Welcome back.".to_owned());
    };
    let reply = visitor.visit(anew).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_ne!(visitor.id(), old);
    assert_eq!(quietly(&mut visitor, owner).await, "");
    assert_eq!(quietly(&mut visitor, stamps).await, "0");
    assert_eq!(
        site.payload(&visitor, "notice").await.unwrap(),
        r#""Welcome back.""#
    );
    assert_eq!(quietly(&mut tab, why).await, r#"Some(Deleted("anew"))"#);
}

async fn an_id_is_never_adopted(site: Site) {
    let live = ada(&site).await;
    let id = live.id();
    let key = live.key().to_string();
    let (selector, secret) = id.split_at(16);
    let malformed = [
        String::new(),
        "user:42".to_owned(),
        "user:{42}".to_owned(),
        key.clone(),
        format!("{key}{secret}"),
        selector.to_owned(),
        secret.to_owned(),
        id.to_uppercase(),
        format!("{id}0"),
        format!("\"{id}\""),
        format!("%{:x}{}", id.as_bytes()[0], &id[1..]),
        id[1..].to_owned(),
        "0".repeat(4096),
        "g".repeat(48),
    ];
    for forged in malformed {
        let mut visitor = live.presenting(&forged);
        site.store.round_trips();
        assert_eq!(quietly(&mut visitor, owner).await, "", "{forged}");
        assert_eq!(site.store.round_trips(), (0, 0), "{forged}");
        visitor.visit(stamp).await;
        assert_eq!(site.store.round_trips(), (0, 1), "{forged}");
        assert!(visitor.id() != forged && visitor.id() != id);
    }
    // Well-formed, but never issued: random ones, those of a known session with another secret, and one digit off.
    let random = || SessionId::generate().unwrap().expose().to_owned();
    let randoms = (0..500).map(|_| random());
    let others = (0..500).map(|_| [selector, &random()[16..]].concat());
    let near = (0..48).map(|at| {
        let other = if id[at..].starts_with('0') { "1" } else { "0" };
        [&id[..at], other, &id[at + 1..]].concat()
    });
    let swapped = [[secret, selector].concat(), selector.repeat(3)];
    for forged in randoms.chain(others).chain(near).chain(swapped) {
        let mut visitor = live.presenting(&forged);
        site.store.round_trips();
        assert_eq!(quietly(&mut visitor, why).await, "Some(Expired)");
        assert_eq!(site.store.round_trips(), (1, 0));
        visitor.visit(stamp).await;
        assert!(visitor.id() != forged && visitor.id() != live.id());
    }
    assert_eq!(quietly(&mut live.clone(), owner).await, "Ada");
}

async fn nothing_of_a_stolen_record_opens_its_session(site: Site) {
    let mut live = ada(&site).await;
    live.visit(rotate).await;
    live.visit(login).await;
    let stolen = site.record(&live).await.unwrap().to_bytes();
    let selector = &live.id()[..16];
    for window in stolen.windows(16) {
        let number = u128::from_be_bytes(window.try_into().unwrap());
        let secret = format!("{number:032x}");
        let mut thief = live.presenting(&format!("{selector}{secret}"));
        let found = quietly(&mut thief, why).await;
        assert_eq!(found, "Some(Expired)");
    }
    assert_eq!(quietly(&mut live, owner).await, "Ada");
}

async fn an_id_from_before_a_login_or_logout_serves_an_empty_session_that_writes_nothing(
    site: Site,
) {
    let tries = async |mut session: Session<Desk>| {
        assert_eq!((session.id(), session.user()), (None, None));
        assert_eq!(
            (session.owner.get().as_str(), session.stamps.get()),
            ("", &0)
        );
        *session.stamps.get_mut() += 1;
        session.owner.set("Eve".to_owned());
        assert_eq!(session.save().await.unwrap(), Saved::Ended);
        session.rotate().await.unwrap();
        session.delete("closed").await.unwrap();
        session.owner.set("Eve".to_owned());
    };
    for (logs_out, reason) in [(false, "Some(LoggedIn)"), (true, "Some(LoggedOut)")] {
        for presents in [false, true] {
            let mut visitor = ada(&site).await;
            quietly(&mut visitor, stamp).await;
            let mut late = visitor.clone();
            assert_eq!(visitor.visit(login).await.set_cookies().len(), 1);
            if logs_out {
                late = visitor.clone();
                visitor.clone().visit(logout).await;
            } else if presents {
                site.clock.advance(3 * MINUTE);
                assert_eq!(quietly(&mut visitor, owner).await, "Ada");
            }
            let before = site.record(&late).await;
            site.store.round_trips();
            assert_eq!(quietly(&mut late, why).await, reason);
            quietly(&mut late, tries).await;
            assert_eq!(site.store.round_trips().1, 0);
            site.clock.advance(5 * MINUTE - MS);
            assert_eq!(quietly(&mut late, why).await, reason);
            quietly(&mut late, tries).await;
            assert_eq!(site.record(&late).await, before);
            site.clock.advance(MS);
            let after = if logs_out { reason } else { "Some(Expired)" };
            assert_eq!(quietly(&mut late, why).await, after);
            assert_eq!(late.visit(stamp).await.set_cookies().len(), 1);
            if !logs_out {
                assert_eq!(quietly(&mut visitor, owner).await, "Ada");
            }
        }
    }
}

async fn deleting_ends_every_id_the_session_ever_had(site: Site) {
    let mut visitor = ada(&site).await;
    let first = visitor.clone();
    visitor.visit(rotate).await;
    let second = visitor.clone();
    visitor.visit(rotate).await;
    let third = visitor.clone();
    // Through the oldest id that still leads there.
    assert_eq!(first.clone().visit(delete).await.status, StatusCode::OK);
    for mut tab in [first, second, third] {
        assert_eq!(quietly(&mut tab, why).await, r#"Some(Deleted("closed"))"#);
    }
}

/// A request from an address, by a browser.
fn from(address: &str, agent: &str) -> Request<Body> {
    let request = Request::builder()
        .header("x-peer", address)
        .header(USER_AGENT, agent);
    request.body(Body::empty()).unwrap()
}

async fn a_session_presented_by_another_client_is_ended(site: Site) {
    let address =
        |request: &http::request::Parts| request.headers.get("x-peer")?.to_str().ok()?.parse().ok();
    let site = site.with(|layer| layer.bind_address(address).bind_user_agent());
    let others = [
        ("10.0.0.2", "Firefox", "Some(AddressDiffers)"),
        ("", "Firefox", "Some(AddressDiffers)"),
        ("10.0.0.1", "Chrome", "Some(UserAgentDiffers)"),
        ("10.0.0.1", "", "Some(UserAgentDiffers)"),
    ];
    let home = || from("10.0.0.1", "Firefox");
    let free = async |mut session: Session<Desk>| session.unbind();
    let free_from_the_start = async |mut session: Session<Desk>| {
        session.unbind();
        session.owner.set("Ada".to_owned());
    };
    for (peer, agent, reason) in others {
        let mut visitor = site.visitor();
        visitor.send(home(), sit).await;
        visitor.send(home(), rotate).await;
        assert_eq!(visitor.send(home(), owner).await.body, "Ada");
        let mut thief = visitor.clone();
        let reply = thief.send(from(peer, agent), why).await;
        assert_eq!(reply.body, reason);
        assert_eq!(reply.set_cookies().len(), 1);
        assert_eq!(thief.id(), "", "the cookie is removed");
        let reply = visitor.send(home(), why).await;
        assert_eq!(reply.body, reason, "the owner is told, too");
        assert!(reply.set_cookies().is_empty());

        let mut unbound = site.visitor();
        unbound.send(home(), sit).await;
        unbound.send(home(), free).await;
        let mut never_bound = site.visitor();
        never_bound.send(home(), free_from_the_start).await;
        for mut visitor in [unbound, never_bound] {
            assert_eq!(visitor.send(from(peer, agent), owner).await.body, "Ada");
        }
    }
}

#[tokio::test]
async fn sessions_from_before_the_binding_are_not_bound() {
    let site = Site::in_memory();
    let visitor = ada(&site).await;
    let site = site.with(session_runtime::SessionLayer::bind_user_agent);
    let mut visitor = visitor.moved_to(&site.layer);
    assert_eq!(visitor.send(from("", "Firefox"), owner).await.body, "Ada");
    assert_eq!(visitor.send(from("", "Chrome"), owner).await.body, "Ada");
}

#[tokio::test]
async fn a_slow_deletion_does_not_take_the_cookie_of_a_newer_session_away() {
    let site = Site::in_memory();
    let visitor = ada(&site).await;
    let (mut slow, newer) = (visitor.clone(), visitor.clone());
    let deletes = async move |session: Session<Desk>| {
        let mut newer = newer;
        newer.visit(delete).await;
        newer.visit(sit).await;
        delete(session).await
    };
    assert_eq!(quietly(&mut slow, deletes).await, "");
}

#[tokio::test]
async fn deleting_twice_is_deleting_once() {
    let site = Site::in_memory();
    let mut visitor = ada(&site).await;
    let twice = async |mut handles: Handles| {
        for reason in ["first", "second"] {
            handles.open::<Desk>().await.delete(reason).await.unwrap();
        }
        why(handles.open().await).await
    };
    let mut tab = visitor.clone();
    site.store.round_trips();
    let reply = visitor.visit(twice).await;
    assert_eq!(site.store.round_trips(), (1, 1));
    assert_eq!(reply.body, r#"Some(Deleted("first"))"#);
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(quietly(&mut tab, why).await, r#"Some(Deleted("first"))"#);
}

/// The user logs in again in another tab, and comes with the new id; then the slower request ends its session.
#[tokio::test]
async fn a_late_request_that_ends_its_session_begins_none_in_place_of_a_newer_one() {
    for logs_out in [false, true] {
        let site = Site::in_memory();
        let mut visitor = ada(&site).await;
        assert_eq!(visitor.visit(login).await.status, StatusCode::OK);
        let mut tab = visitor.clone();
        let late = async move |mut session: Session<Desk>| {
            assert_eq!(tab.visit(login).await.status, StatusCode::OK);
            assert_eq!(tab.visit(owner).await.body, "Ada");
            if logs_out {
                session.logout().await.unwrap();
            } else {
                session.delete("closed").await.unwrap();
            }
            assert_eq!(session.ended(), Some(Ended::LoggedIn));
            session.notice.set("Goodbye.");
            assert_eq!(session.save().await.unwrap(), Saved::Ended);
            session.owner.set("Nobody");
            tab.id()
        };
        let newer = quietly(&mut visitor, late).await;
        assert_eq!(visitor.presenting(&newer).visit(owner).await.body, "Ada");
    }
}

#[tokio::test]
async fn what_has_expired_is_not_counted_among_those_that_are_revoked() {
    let site = Site::in_memory();
    let sessions = site.layer.sessions();
    let mut visitor = ada(&site).await;
    assert_eq!(visitor.visit(login).await.status, StatusCode::OK);
    let device = sessions.list("ada").await.unwrap().remove(0);
    site.clock.advance(TTL);
    assert!(sessions.list("ada").await.unwrap().is_empty());
    let mut slow = visitor.clone();
    assert!(!sessions.revoke("ada", device.id()).await.unwrap());
    assert_eq!(quietly(&mut slow, why).await, "Some(Expired)");

    let mut visitor = ada(&site).await;
    assert_eq!(visitor.visit(login).await.status, StatusCode::OK);
    site.clock.advance(TTL);
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 0);
    assert_eq!(quietly(&mut visitor, why).await, "Some(Expired)");
}

/// The attributes of the one cookie that a response sets, sorted; without its value.
fn attributes(reply: &Reply) -> Vec<&str> {
    let [cookie] = reply.set_cookies()[..] else {
        panic!("one cookie: {:?}", reply.set_cookies());
    };
    let mut attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    attributes.sort_unstable();
    attributes
}

#[tokio::test]
async fn the_removal_cookie_repeats_every_attribute() {
    let shared = CookieTransport::new()
        .name("desk")
        .domain("example.org")
        .path("/office")
        .same_site(SameSite::Strict);
    let cases = [
        (
            CookieTransport::new(),
            "__Host-id=",
            vec!["HttpOnly", "Path=/", "SameSite=Lax", "Secure"],
        ),
        (
            shared,
            "desk=",
            vec![
                "Domain=example.org",
                "HttpOnly",
                "Path=/office",
                "SameSite=Strict",
                "Secure",
            ],
        ),
    ];
    for (transport, name, kept) in cases {
        let site = Site::in_memory().with(|layer| layer.transport(transport));
        let mut visitor = site.visitor();
        let begun = visitor.visit(sit).await;
        let rotated = visitor.visit(rotate).await;
        let removed = visitor.visit(delete).await;
        let age = |reply: &Reply| {
            let (aged, rest): (Vec<_>, Vec<_>) =
                attributes(reply).into_iter().partition(|attribute| {
                    attribute.starts_with("Max-Age") || attribute.starts_with("Expires")
                });
            assert_eq!(rest, kept);
            assert!(reply.set_cookies()[0].starts_with(name));
            aged.join("; ")
        };
        assert_eq!(age(&begun), "Max-Age=2592000");
        assert_eq!(age(&rotated), "Max-Age=2592000");
        assert_eq!(
            age(&removed),
            "Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"
        );
        assert!(removed.set_cookies()[0].starts_with(&format!("{name};")));
    }
}
