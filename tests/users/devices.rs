//! A user's sessions: listed, labelled, bound to what presents them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::Request;
use http::header::USER_AGENT;
use http::request::Parts;
use session_runtime::{Device, Error, Session, SessionLayer, UserId};
use session_tests::customers::{
    NOTHING, Shop, ask, gather, guest, login, logout, paint, rotate, shown, user,
};
use session_tests::{Site, Visitor, on_a_cache, on_each_store};

use super::stored::{HOUR, MINUTE, MS, list};

on_each_store!(
    a_users_sessions_are_listed_with_what_tells_them_apart,
    the_id_of_a_device_opens_nothing,
    a_device_keeps_its_id_and_label_for_as_long_as_the_session_lives,
    a_label_is_refused_to_whom_it_does_not_belong,
    a_session_without_a_user_agent_is_bound_to_that,
    an_unbound_session_is_not_bound_again_by_a_login,
);

on_a_cache!(
    a_users_sessions_are_listed_with_what_tells_them_apart,
    a_device_keeps_its_id_and_label_for_as_long_as_the_session_lives,
);

async fn device(session: Session<Shop>) -> String {
    session.device().unwrap_or_default()
}

/// The ids of all sessions of a user.
async fn ids(site: &Site, user: &str) -> BTreeSet<String> {
    let listed = list(site, user).await;
    listed.iter().map(|device| device.id().to_owned()).collect()
}

async fn id_of(visitor: &mut Visitor) -> String {
    ask(visitor, device).await
}

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

async fn a_users_sessions_are_listed_with_what_tells_them_apart(site: Site) {
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

async fn the_id_of_a_device_opens_nothing(site: Site) {
    let mut visitor = user(&site, "ada", &[]).await;
    gather(&mut visitor, 1).await;
    let id = id_of(&mut visitor).await;
    assert_ne!(id, visitor.id());
    assert_ne!(id, visitor.key().to_string());
    for length in [id.len(), 48] {
        let presented: String = id.chars().cycle().take(length).collect();
        let mut thief = site.visitor().presenting(&presented);
        assert_eq!(ask(&mut thief, shown).await, NOTHING);
    }
    let mut one = guest(&site, &[1]).await;
    assert_eq!(id_of(&mut one).await, "", "a guest has no device");
}

async fn a_device_keeps_its_id_and_label_for_as_long_as_the_session_lives(site: Site) {
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

    // However often it is rotated or logged in again, before its new id is presented and after.
    let old = visitor.clone();
    for changes in 0..4 {
        if changes % 2 == 0 {
            ask(&mut visitor, rotate).await;
        } else {
            login(&mut visitor, "ada").await;
        }
        assert_ne!(visitor.id(), old.id());
        for _ in 0..2 {
            assert_eq!(ids(&site, "ada").await, [id.clone()].into());
            assert_eq!(labels().await, kitchen);
            assert_eq!(id_of(&mut visitor).await, id);
        }
    }
    assert!(label(&id, None).await);
    assert_eq!(labels().await, [None]);
    assert!(label(&id, None).await, "there is nothing to take away");
    assert!(label(&id, Some("Garden")).await);

    // Another user's it is not, nor of whoever comes after a logout.
    login(&mut visitor, "bob").await;
    assert_eq!(list(&site, "bob").await[0].label(), None);
    login(&mut visitor, "ada").await;
    ask(&mut visitor, logout).await;
    login(&mut visitor, "ada").await;
    assert_eq!(labels().await, [None]);
    assert_ne!(id_of(&mut visitor).await, id);
}

async fn a_label_is_refused_to_whom_it_does_not_belong(site: Site) {
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
    let refusal = label(&id, &"x".repeat(101)).await.unwrap_err();
    assert!(refusal.is_too_large());
    assert!(label(&id, &"x".repeat(100)).await.unwrap());
    assert!(!label(&id[..id.len() - 1], "Mine").await.unwrap());
    assert!(!label(&visitor.id(), "Mine").await.unwrap());
    ask(&mut other, logout).await;
    let bob = UserId::from("bob");
    let late = sessions.label(&bob, &of_bob, Some("Late".to_owned()));
    assert!(!late.await.unwrap());
    // A session that has expired is not brought back by its name.
    site.clock.advance(2 * HOUR);
    assert!(!label(&id, "Late").await.unwrap());
    assert_eq!(ask(&mut visitor, shown).await, NOTHING);
}

async fn a_session_without_a_user_agent_is_bound_to_that(site: Site) {
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

#[tokio::test]
async fn a_user_agent_takes_no_more_room_than_it_may_whatever_it_is() {
    let (site, agent) = (Site::in_memory(), [0xe9; 600]);
    let request = Request::builder().header(USER_AGENT, &agent[..]);
    let request = request.body(Body::empty()).unwrap();
    site.visitor().send(request, enter).await;
    let listed = list(&site, "ada").await;
    let agent = listed[0].user_agent().unwrap();
    assert_eq!(agent.len(), 510, "{agent}");
}

async fn an_unbound_session_is_not_bound_again_by_a_login(site: Site) {
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

#[tokio::test]
async fn a_label_takes_nothing_from_what_a_request_changes_meanwhile() {
    let site = Site::in_memory();
    let mut visitor = user(&site, "ada", &[]).await;
    let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
    let id = id_of(&mut visitor).await;
    let slow = async move |mut session: Session<Shop>| {
        session.theme.set("dark".to_owned());
        let label = Some("Kitchen".to_owned());
        assert!(sessions.label(&ada, &id, label).await.unwrap());
    };
    ask(&mut visitor, slow).await;
    assert_eq!(list(&site, "ada").await[0].label(), Some("Kitchen"));
    assert_eq!(ask(&mut visitor, shown).await, "ada [] 0 dark");
    paint(&mut visitor, "loud").await;
    assert_eq!(list(&site, "ada").await[0].label(), Some("Kitchen"));
}
