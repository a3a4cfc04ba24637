//! How a session ends and what is said of it then; and how it gets another id without ending.

#![allow(clippy::unchecked_time_subtraction)] // a test that subtracts too much has failed

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::USER_AGENT;
use http::{Request, StatusCode};
use session_runtime::store::Store;
use session_runtime::transport::{CookieTransport, SameSite};
use session_runtime::{Change, Committed, Ended, Error, Kind, Saved, Session, SessionId, State};
use session_tests::customers::quietly;
use session_tests::{Handles, Reply, Site, Visitor, on_a_cache, on_each_store};
use tokio::sync::Barrier;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const TTL: Duration = Duration::from_secs(2 * 60 * 60);

#[derive(Session)]
struct Desk {
    owner: String,
    #[merge(sum)]
    stamps: u32,
    #[flash]
    notice: Option<String>,
}

async fn owner(session: Session<Desk>) -> String {
    session.owner.get().clone()
}

async fn sit(mut session: Session<Desk>) {
    session.owner.set("Ada".to_owned());
}

async fn stamp(mut session: Session<Desk>) {
    *session.stamps.get_mut() += 1;
}

async fn stamps(session: Session<Desk>) -> String {
    session.stamps.get().to_string()
}

async fn rotate(mut session: Session<Desk>) -> Result<(), Error> {
    session.rotate().await
}

async fn delete(mut session: Session<Desk>) -> Result<(), Error> {
    session.delete("closed").await
}

/// Why there is no session, and that there is none.
async fn why(session: Session<Desk>) -> String {
    if session.ended().is_some() {
        assert!(session.is_new());
        assert_eq!(session.id(), None);
        assert_eq!(session.owner.get(), "");
    }
    format!("{:?}", session.ended())
}

/// Somebody who has a session.
async fn ada(site: &Site<impl Store>) -> Visitor {
    let mut visitor = site.visitor();
    assert_eq!(visitor.visit(sit).await.set_cookies().len(), 1);
    visitor
}

on_each_store!(
    ended_says_why_and_takes_no_cookie_away,
    a_tombstone_is_there_for_a_day,
    a_late_commit_never_revives_a_deleted_session,
    a_request_whose_session_ends_learns_of_it,
    deleting_and_setting_begins_a_new_session_in_one_response,
    an_id_is_never_adopted,
    rotating_gives_a_new_id_and_keeps_the_data,
    an_old_id_is_good_until_the_new_one_is_presented_and_ten_seconds_more,
    a_lost_response_to_a_rotation_costs_nothing,
    rotating_again_leaves_the_first_id_no_longer_good_than_its_ten_seconds,
    two_rotations_in_one_request_issue_the_last_id,
    two_rotations_at_once_lose_nobody,
    deleting_ends_every_id_the_session_ever_had,
    requests_in_flight_around_a_rotation_lose_no_write_and_no_session,
    a_session_presented_by_another_client_is_ended,
);

on_a_cache!(
    a_late_commit_never_revives_a_deleted_session,
    a_request_whose_session_ends_learns_of_it,
    an_old_id_is_good_until_the_new_one_is_presented_and_ten_seconds_more,
    two_rotations_at_once_lose_nobody,
    requests_in_flight_around_a_rotation_lose_no_write_and_no_session,
);

async fn ended_says_why_and_takes_no_cookie_away(site: Site<impl Store>) {
    let expired = ada(&site).await;
    site.clock.advance(TTL);
    let (deleted, revoked) = (ada(&site).await, ada(&site).await);
    deleted.clone().visit(delete).await;
    let revoke = Change::new(Kind::End(Ended::Revoked), site.now());
    let ended = site.store.inner().commit(&revoked.key(), &revoke).await;
    assert_eq!(ended.unwrap(), Committed::Applied);

    let live = ada(&site).await;
    let twice = format!("{}; __Host-id={}", live.id(), live.id());
    for (visitor, reason) in [
        (site.visitor(), "None"),
        (live.clone(), "None"),
        (expired, "Some(Expired)"),
        (live.presenting(&"0".repeat(40)), "Some(Expired)"),
        (deleted, r#"Some(Deleted("closed"))"#),
        (revoked, "Some(Revoked)"),
        (live.presenting("malformed"), "Some(Malformed)"),
        (live.presenting(&twice), "Some(Malformed)"),
    ] {
        let mut visitor = visitor;
        assert_eq!(quietly(&mut visitor, why).await, reason);
        let guest = visitor.visit(stamp).await;
        assert_eq!(
            guest.set_cookies().len(),
            usize::from(visitor.id() != live.id())
        );
        assert_eq!(quietly(&mut visitor, why).await, "None");
    }
}

async fn a_tombstone_is_there_for_a_day(site: Site<impl Store>) {
    let mut visitor = ada(&site).await;
    let mut tab = visitor.clone();
    visitor.visit(delete).await;
    site.clock.advance(24 * HOUR - MS);
    assert_eq!(quietly(&mut tab, why).await, r#"Some(Deleted("closed"))"#);
    site.clock.advance(MS);
    assert_eq!(quietly(&mut tab, why).await, "Some(Expired)");
}

async fn a_late_commit_never_revives_a_deleted_session(site: Site<impl Store>) {
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

async fn a_request_whose_session_ends_learns_of_it(site: Site<impl Store>) {
    let slow = |finds: fn(&Session<Desk>), mut tab: Visitor, refreshes: bool| {
        async move |mut session: Session<Desk>| {
            session.owner.set("Bob".to_owned());
            tab.visit(delete).await;
            assert_eq!(session.ended(), None);
            if refreshes {
                session.refresh().await.unwrap();
            } else {
                assert_eq!(session.save().await.unwrap(), Saved::Ended);
            }
            finds(&session);
            assert!(session.is_new());
            assert_eq!(session.id(), None);
            assert_eq!(session.owner.get(), "");
            session.owner.set("Bob".to_owned());
            session.rotate().await.unwrap();
            assert_eq!(session.save().await.unwrap(), Saved::Ended);
        }
    };
    let mut visitor = ada(&site).await;
    let revoked = |session: &Session<Desk>| assert_eq!(session.ended(), Some(Ended::Revoked));
    quietly(&mut visitor.clone(), slow(revoked, visitor.clone(), false)).await;
    visitor = ada(&site).await;
    let closed = |session: &Session<Desk>| {
        assert_eq!(session.ended(), Some(Ended::Deleted("closed".to_owned())));
    };
    quietly(&mut visitor.clone(), slow(closed, visitor.clone(), true)).await;
}

async fn deleting_and_setting_begins_a_new_session_in_one_response(site: Site<impl Store>) {
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

async fn an_id_is_never_adopted(site: Site<impl Store>) {
    let live = ada(&site).await;
    let id = live.id();
    let key = live.key().to_string();
    let digest = key.split('}').next_back().unwrap();
    let malformed = [
        String::new(),
        "user:42".to_owned(),
        "user:{42}".to_owned(),
        key.clone(),
        digest.to_owned(),
        id.to_uppercase(),
        format!("{id}0"),
        format!("\"{id}\""),
        format!("%{:x}{}", id.as_bytes()[0], &id[1..]),
        id[1..].to_owned(),
        "0".repeat(4096),
        "g".repeat(40),
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
    // Well-formed, but never issued: random ones, one digit off, and what a stolen store would tell.
    let random = (0..500).map(|_| SessionId::generate().unwrap().expose().to_owned());
    let near = (0..40).map(|at| {
        let other = if id[at..].starts_with('0') { "1" } else { "0" };
        [&id[..at], other, &id[at + 1..]].concat()
    });
    let stolen = [digest[..40].to_owned(), digest[24..].to_owned()];
    for forged in random.chain(near).chain(stolen) {
        let mut visitor = live.presenting(&forged);
        site.store.round_trips();
        assert_eq!(quietly(&mut visitor, why).await, "Some(Expired)");
        assert_eq!(site.store.round_trips(), (1, 0));
        visitor.visit(stamp).await;
        assert!(visitor.id() != forged && visitor.id() != live.id());
    }
    assert_eq!(quietly(&mut live.clone(), owner).await, "Ada");
}

async fn rotating_gives_a_new_id_and_keeps_the_data(site: Site<impl Store>) {
    let mut visitor = ada(&site).await;
    let before = site.record(&visitor).await.unwrap();
    let old = visitor.clone();
    site.clock.advance(SECOND);
    site.store.round_trips();
    let both = async |mut session: Session<Desk>| {
        let created = session.created_at();
        session.stamps.set(3);
        session.rotate().await.unwrap();
        assert_eq!(session.created_at(), created);
        session.id().unwrap().expose().to_owned()
    };
    let reply = visitor.visit(both).await;
    assert_eq!(
        site.store.round_trips(),
        (1, 1),
        "the change goes with the move"
    );
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(reply.body, visitor.id());
    assert_ne!(visitor.id(), old.id());
    assert_eq!(visitor.id()[..4], old.id()[..4], "the tag stays");
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
    assert_eq!(quietly(&mut visitor, stamps).await, "3");
    assert_eq!(
        site.record(&old).await.unwrap().state,
        State::Moved(visitor.key())
    );
    let after = site.record(&visitor).await.unwrap();
    assert_eq!(after.slot("@created"), before.slot("@created"));
}

async fn an_old_id_is_good_until_the_new_one_is_presented_and_ten_seconds_more(
    site: Site<impl Store>,
) {
    let mut visitor = ada(&site).await;
    let mut old = visitor.clone();
    visitor.visit(rotate).await;
    for _ in 0..24 {
        site.clock.advance(HOUR);
        assert_eq!(quietly(&mut old, owner).await, "Ada");
    }
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
    site.clock.advance(5 * SECOND);
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
    site.clock.advance(5 * SECOND - MS);
    assert_eq!(quietly(&mut old, owner).await, "Ada");
    site.clock.advance(MS);
    assert_eq!(quietly(&mut old, why).await, "Some(Expired)");
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
}

async fn a_lost_response_to_a_rotation_costs_nothing(site: Site<impl Store>) {
    let mut visitor = ada(&site).await;
    visitor.clone().visit(rotate).await;
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
    for count in 1..=3 {
        quietly(&mut visitor, stamp).await;
        site.clock.advance(HOUR);
        assert_eq!(quietly(&mut visitor, stamps).await, count.to_string());
    }
    // The next rotation gets through.
    assert_eq!(visitor.visit(rotate).await.set_cookies().len(), 1);
    assert_eq!(quietly(&mut visitor, stamps).await, "3");
}

async fn rotating_again_leaves_the_first_id_no_longer_good_than_its_ten_seconds(
    site: Site<impl Store>,
) {
    let mut visitor = ada(&site).await;
    let mut first = visitor.clone();
    visitor.visit(rotate).await;
    let mut second = visitor.clone();
    visitor.visit(rotate).await; // this presents the second id
    site.clock.advance(10 * SECOND - MS);
    assert_eq!(quietly(&mut first, owner).await, "Ada");
    site.clock.advance(MS);
    assert_eq!(quietly(&mut first, why).await, "Some(Expired)");
    assert_eq!(
        quietly(&mut second, owner).await,
        "Ada",
        "the third was never presented"
    );
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
    site.clock.advance(10 * SECOND);
    assert_eq!(quietly(&mut second, why).await, "Some(Expired)");
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
}

async fn two_rotations_in_one_request_issue_the_last_id(site: Site<impl Store>) {
    let mut visitor = ada(&site).await;
    let mut old = visitor.clone();
    let twice = async |mut session: Session<Desk>| {
        session.rotate().await.unwrap();
        let first = session.id();
        session.rotate().await.unwrap();
        assert_ne!(session.id(), first);
        session.stamps.set(2);
        session.id().unwrap().expose().to_owned()
    };
    let reply = visitor.visit(twice).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(reply.body, visitor.id());
    assert_eq!(quietly(&mut old, stamps).await, "2");
    assert_eq!(quietly(&mut visitor, stamps).await, "2");
    site.clock.advance(10 * SECOND);
    assert_eq!(quietly(&mut old, why).await, "Some(Expired)");
}

async fn two_rotations_at_once_lose_nobody(site: Site<impl Store>) {
    let visitor = ada(&site).await;
    let (mut one, mut other) = (visitor.clone(), visitor.clone());
    let meanwhile = other.clone();
    let slow = async move |mut session: Session<Desk>| {
        let mut other = meanwhile;
        other.visit(rotate).await;
        session.stamps.set(1);
        session.rotate().await.unwrap();
        other.id()
    };
    other = visitor.presenting(&one.visit(slow).await.body);
    assert_ne!(one.id(), other.id());
    for tab in [&mut other, &mut one] {
        assert_eq!(quietly(tab, stamps).await, "1");
    }
}

async fn deleting_ends_every_id_the_session_ever_had(site: Site<impl Store>) {
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

async fn requests_in_flight_around_a_rotation_lose_no_write_and_no_session(site: Site<impl Store>) {
    const TABS: usize = 32;
    let mut visitor = ada(&site).await;
    for round in 1..=10 {
        // Half of them have loaded before the rotation and commit after it; the others come as they may.
        let waiting = Arc::new(Barrier::new(TABS / 2 + 1));
        let tabs = (0..TABS).map(|tab| {
            let (mut visitor, waiting) = (visitor.clone(), Arc::clone(&waiting));
            let count = async move |mut session: Session<Desk>| {
                assert!(!session.is_new());
                if tab % 2 == 0 {
                    waiting.wait().await; // for the rotation to begin
                    waiting.wait().await; // for it to end
                }
                *session.stamps.get_mut() += 1;
            };
            tokio::spawn(async move { quietly(&mut visitor, count).await })
        });
        let tabs: Vec<_> = tabs.collect();
        waiting.wait().await;
        assert_eq!(visitor.visit(rotate).await.set_cookies().len(), 1);
        waiting.wait().await;
        for tab in tabs {
            tab.await.unwrap();
        }
        assert_eq!(
            quietly(&mut visitor, stamps).await,
            (round * TABS).to_string()
        );
    }
}

/// A request from an address, by a browser.
fn from(address: &str, agent: &str) -> Request<Body> {
    let request = Request::builder()
        .header("x-peer", address)
        .header(USER_AGENT, agent);
    request.body(Body::empty()).unwrap()
}

async fn a_session_presented_by_another_client_is_ended(site: Site<impl Store>) {
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
async fn a_request_that_a_rotation_overtakes_does_not_count_as_presenting_its_id() {
    let site = Site::in_memory();
    let mut visitor = ada(&site).await;
    let mut tab = visitor.clone();
    let slow = async move |mut session: Session<Desk>| {
        *session.stamps.get_mut() += 1;
        tab.visit(stamp).await; // so that there is something to merge
        tab.visit(rotate).await;
    };
    quietly(&mut visitor, slow).await;
    site.clock.advance(HOUR);
    assert_eq!(quietly(&mut visitor, stamps).await, "2");
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
async fn a_late_rotation_issues_no_id() {
    let site = Site::in_memory();
    let mut visitor = ada(&site).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Desk>| {
        tab.visit(delete).await;
        session.owner.set("Bob".to_owned());
        session.rotate().await.unwrap();
        format!("{:?}", (session.id(), session.ended()))
    };
    assert_eq!(quietly(&mut visitor, late).await, "(None, Some(Revoked))");
    assert_eq!(
        quietly(&mut visitor, why).await,
        r#"Some(Deleted("closed"))"#
    );
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

#[tokio::test]
async fn rotating_a_session_that_is_not_stored_yet_costs_nothing_and_issues_one_id() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let new = async |mut session: Session<Desk>| {
        session.owner.set("Ada".to_owned());
        session.rotate().await.unwrap();
    };
    assert_eq!(visitor.visit(new).await.set_cookies().len(), 1);
    assert_eq!(site.store.round_trips(), (0, 1));
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
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
