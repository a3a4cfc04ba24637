//! What logins, logouts and lists of sessions may cost: round trips to the store, exact.

use std::time::Duration;

use axum::routing::any;
use http::StatusCode;
use session_runtime::{Error, Session, Sessions, UserId, WhenFull};
use session_tests::{Fault, PATIENCE, Site, Visitor, cost};
use tokio::time::timeout;

const TTL: Duration = Duration::from_secs(2 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

/// A struct of which something follows the user.
#[derive(Session)]
struct Member {
    page: u32,
    #[merge(sum)]
    points: u32,
}

/// One of which nothing does.
#[derive(Session)]
struct Plain {
    page: u32,
}

async fn turn(mut session: Session<Member>) {
    *session.page.get_mut() += 1;
}

async fn score(mut session: Session<Member>) {
    *session.points.get_mut() += 1;
}

async fn look(_: Session<Member>) {}

async fn look_plainly(_: Session<Plain>) {}

async fn login(mut session: Session<Member>) -> Result<(), Error> {
    session.login("ada").await
}

async fn login_plainly(mut session: Session<Plain>) -> Result<(), Error> {
    session.login("ada").await
}

async fn score_and_login(mut session: Session<Member>) -> Result<(), Error> {
    *session.points.get_mut() += 1;
    session.login("ada").await
}

async fn logout(mut session: Session<Member>) -> Result<(), Error> {
    session.logout().await
}

async fn logout_plainly(mut session: Session<Plain>) -> Result<(), Error> {
    session.logout().await
}

/// Somebody who has turned a page.
async fn guest(site: &Site) -> Visitor {
    let mut visitor = site.visitor();
    assert_eq!(cost(site, &mut visitor, turn).await, [0, 1, 1]);
    visitor
}

/// Somebody who has logged in, and has been here since.
async fn member(site: &Site) -> Visitor {
    let mut visitor = guest(site).await;
    visitor.visit(login).await;
    visitor.visit(look).await;
    visitor
}

async fn members(site: &Site, count: usize) -> Vec<Visitor> {
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(member(site).await);
    }
    site.store.round_trips();
    members
}

fn ada() -> UserId {
    UserId::new("ada")
}

#[tokio::test]
async fn a_login_costs_four_calls() {
    for handler in [any(login), any(login_plainly)] {
        let site = Site::in_memory();
        for times in ["first", "second", "third"] {
            let mut visitor = guest(&site).await;
            let costs = cost(&site, &mut visitor, handler.clone()).await;
            assert_eq!(costs, [2, 2, 1], "the user's {times}");
        }
    }
}

#[tokio::test]
async fn a_login_costs_a_fifth_where_the_guest_brings_something() {
    let site = Site::in_memory();
    for _ in 0..3 {
        let mut visitor = guest(&site).await;
        visitor.visit(score).await;
        assert_eq!(cost(&site, &mut visitor, login).await, [2, 3, 1]);
        let mut visitor = guest(&site).await;
        assert_eq!(cost(&site, &mut visitor, score_and_login).await, [2, 3, 1]);
    }
}

#[tokio::test]
async fn a_login_where_no_session_came_costs_three_calls() {
    for handler in [any(login), any(login_plainly)] {
        let site = Site::in_memory();
        for _ in 0..3 {
            let mut visitor = site.visitor();
            assert_eq!(cost(&site, &mut visitor, handler.clone()).await, [1, 2, 1]);
        }
    }
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    assert_eq!(cost(&site, &mut visitor, score_and_login).await, [1, 3, 1]);
}

#[tokio::test]
async fn a_login_as_another_user_costs_four_more_than_where_no_session_came() {
    let as_bob = async |mut session: Session<Member>| session.login("bob").await;
    let as_bob_plainly = async |mut session: Session<Plain>| session.login("bob").await;
    for handler in [any(as_bob), any(as_bob_plainly)] {
        let site = Site::in_memory();
        let mut visitor = member(&site).await;
        assert_eq!(cost(&site, &mut visitor, handler).await, [3, 4, 1]);
        assert!(site.layer.sessions().list(ada()).await.unwrap().is_empty());
    }
    let site = Site::in_memory();
    let mut visitor = member(&site).await;
    let score_and_leave = async |mut session: Session<Member>| {
        *session.points.get_mut() += 1;
        session.login("bob").await
    };
    assert_eq!(cost(&site, &mut visitor, score_and_leave).await, [3, 5, 1]);
}

#[tokio::test]
async fn a_login_again_costs_as_much_as_the_first_and_what_a_request_of_a_user_does() {
    let site = Site::in_memory();
    let mut visitor = member(&site).await;
    assert_eq!(cost(&site, &mut visitor, login_plainly).await, [2, 2, 1]);
    assert_eq!(cost(&site, &mut visitor, login).await, [3, 2, 1]);
}

#[tokio::test]
async fn the_first_request_under_a_logins_id_costs_one_more_swap() {
    let firsts = [
        (any(look), [2, 1, 0]),
        (any(look_plainly), [1, 1, 0]),
        (any(turn), [2, 1, 0]),  // shared with the change
        (any(score), [2, 2, 0]), // of the user's record
    ];
    for (first, costs) in firsts {
        let site = Site::in_memory();
        let mut visitor = guest(&site).await;
        visitor.visit(login).await;
        assert_eq!(cost(&site, &mut visitor, first).await, costs);
        assert_eq!(cost(&site, &mut visitor, look).await, [2, 0, 0]);
    }
}

#[tokio::test]
async fn a_logout_costs_four_calls_and_a_guests_none() {
    for handler in [any(logout), any(logout_plainly)] {
        let site = Site::in_memory();
        let mut visitor = member(&site).await;
        assert_eq!(cost(&site, &mut visitor, handler.clone()).await, [2, 2, 1]);
        let mut visitor = guest(&site).await;
        assert_eq!(cost(&site, &mut visitor, handler.clone()).await, [1, 0, 0]);
        assert_eq!(cost(&site, &mut site.visitor(), handler).await, [0, 0, 0]);
    }
    let site = Site::in_memory();
    let mut visitor = member(&site).await;
    let delete = async |mut session: Session<Member>| session.delete("done").await;
    assert_eq!(cost(&site, &mut visitor, delete).await, [2, 2, 1]);
    let mut visitor = member(&site).await;
    let score_and_leave = async |mut session: Session<Member>| {
        *session.points.get_mut() += 1;
        session.logout().await
    };
    assert_eq!(cost(&site, &mut visitor, score_and_leave).await, [2, 3, 1]);
}

#[tokio::test]
async fn a_login_that_ends_another_session_costs_three_more() {
    let site = Site::in_memory().with(|layer| layer.max_sessions(1, WhenFull::EndOldest));
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut visitor = guest(&site).await;
        let ends = usize::from(!others.is_empty());
        let costs = cost(&site, &mut visitor, login).await;
        assert_eq!(costs, [2 + ends, 2 + 2 * ends, 1]);
        assert_eq!(cost(&site, &mut visitor, look).await, [2, 1, 0]);
        others.push(visitor);
    }
}

// ---- many at once

/// Does `work`, after `before` calls of which `count` have to be under way at once.
async fn at_once<T: Send + 'static>(
    site: &Site,
    (before, count): (usize, usize),
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    site.store.fail_after(before, Fault::Held, Fault::Held);
    let working = tokio::spawn(work);
    let held = timeout(PATIENCE, site.store.until_held(count)).await;
    held.expect("they are under way at once");
    site.store.heal();
    (0..count).for_each(|_| site.store.release());
    working.await.expect("it ends well")
}

#[tokio::test]
async fn listing_costs_one_load_and_one_for_each_session_at_once() {
    for count in [1, 2, 5] {
        let site = Site::in_memory();
        let _members = members(&site, count).await;
        let sessions = site.layer.sessions();
        let listed = at_once(&site, (1, count), async move {
            sessions.list(ada()).await.unwrap().len()
        });
        assert_eq!(listed.await, count);
        assert_eq!(site.store.round_trips(), (1 + count, 0));
    }
}

#[tokio::test]
async fn revoking_one_session_costs_four_calls() {
    let site = Site::in_memory();
    let _members = members(&site, 3).await;
    let sessions = site.layer.sessions();
    for device in sessions.list(ada()).await.unwrap() {
        site.store.round_trips();
        assert!(sessions.revoke(ada(), device.id()).await.unwrap());
        assert_eq!(site.store.round_trips(), (2, 2));
        assert!(!sessions.revoke(ada(), device.id()).await.unwrap());
        assert_eq!(site.store.round_trips(), (1, 0));
    }
}

/// What ends many sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Revoke {
    All,
    Others,
    Delete,
}

impl Revoke {
    async fn run(self, sessions: Sessions, own: String) {
        match self {
            Self::All => drop(sessions.revoke_all(ada()).await.unwrap()),
            Self::Others => drop(sessions.revoke_others(ada(), &own).await.unwrap()),
            Self::Delete => sessions.delete(ada()).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn revoking_many_costs_three_calls_and_two_for_each_session_at_once() {
    for revoke in [Revoke::All, Revoke::Others, Revoke::Delete] {
        for count in [1, 2, 5] {
            let site = Site::in_memory();
            let spared = usize::from(revoke == Revoke::Others);
            let _members = members(&site, count + spared).await;
            let sessions = site.layer.sessions();
            let own = sessions.list(ada()).await.unwrap()[0].id().to_owned();
            site.store.round_trips();
            at_once(&site, (2, count), revoke.run(sessions.clone(), own)).await;
            let calls = (1 + count, 2 + count);
            assert_eq!(site.store.round_trips(), calls, "{revoke:?}");
            let left = sessions.list(ada()).await.unwrap().len();
            assert_eq!(left, spared, "{revoke:?}");
        }
    }
}

#[tokio::test]
async fn labelling_costs_three_calls() {
    let site = Site::in_memory();
    let _members = members(&site, 2).await;
    let sessions = site.layer.sessions();
    let device = sessions.list(ada()).await.unwrap().remove(1);
    let label = Some("The phone".to_owned());
    site.store.round_trips();
    assert!(sessions.label(ada(), device.id(), label).await.unwrap());
    assert_eq!(site.store.round_trips(), (2, 1));
}

/// Looks up those whose certain time has passed; ends those of them that nobody can bring back.
#[tokio::test]
async fn a_login_looks_up_at_most_eight_sessions_at_once() {
    let site = Site::in_memory();
    let _members = members(&site, 10).await;
    let enter = |site: &Site| {
        let mut visitor = site.visitor();
        async move { visitor.visit(login).await.status }
    };
    site.clock.advance(TTL);
    let status = at_once(&site, (1, 8), enter(&site)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(site.store.round_trips(), (1 + 8, 2));
    site.clock.advance(10 * MINUTE);
    let status = at_once(&site, (1, 8), enter(&site)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(site.store.round_trips(), (1 + 8, 2 + 8));
    let status = at_once(&site, (1, 2), enter(&site)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(site.store.round_trips(), (1 + 2, 2 + 2));
    assert_eq!(enter(&site).await, StatusCode::OK);
    assert_eq!(site.store.round_trips(), (1, 2));
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_asked_to_extend_the_session() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor.visit(login).await;
    visitor.visit(look).await;
    site.clock.advance(TTL / 2);
    site.store.round_trips();
    // The session is there, and its user's record cannot be had.
    site.store.plan([Fault::None, Fault::Before]);
    let reply = visitor.visit(look).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.store.round_trips(), (2, 0));
}

#[tokio::test]
async fn to_ask_for_the_lifetime_that_a_session_has_writes_nothing_before_it_is_due() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor.visit(login_plainly).await;
    let stays = async |mut session: Session<Plain>| session.set_ttl(2 * TTL);
    visitor.visit(stays).await;
    site.clock.advance(MINUTE);
    assert_eq!(cost(&site, &mut visitor, stays).await, [1, 0, 0]);
}
