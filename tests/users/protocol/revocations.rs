//! Revocations: one that has returned leaves no session of whoever began before, and none is live and unlisted on the way.

use super::actor::Actor::{Login as L, Request as R, Revoke as V};
use super::checks::{
    ensure, guest_of_before, is_ended, last_login, logins, none_slips_through, opens,
};
use super::explore::{Scenario, State};
use super::login::Login;
use super::request::{Does, Request};
use super::revoke::{Revoke, What};
use super::rules::{Break, Rules};
use super::user::User;
use super::world::{FOREVER, Id, Source, World};
use super::{catches, crashes, holds};

const GUEST: Id = Id { key: 0, secret: 0 };
const SENT: Source = Source::Sent(GUEST);
const JAR: Source = Source::Jar(0);

fn all(known: bool, crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        none_slips_through(state, rules)?;
        leaving_are_ended(state, rules)?;
        guest_of_before(state, GUEST, rules)
    }
    let actors = vec![
        L(Login::new(1, SENT)),
        L(Login::new(2, Source::None)),
        V(Revoke::new(What::All)),
    ];
    let name = if known {
        "revoke all of a known user"
    } else {
        "revoke all of an unknown user"
    };
    let world = World::with_guest(10, 1, 0, FOREVER).put_user_if(known, 0, User::with(5));
    Scenario::new(name, world, actors, crashes, finally)
}

/// Checks that the next login ends what a revocation that broke off has left.
fn leaving_are_ended(state: &State, rules: Rules) -> Result<(), String> {
    let world = last_login(state, Source::None, rules)?;
    let left = state
        .world
        .user(0)
        .into_iter()
        .flat_map(|user| &user.places)
        .filter(|place| place.leaving);
    for place in left {
        ensure!(
            is_ended(&world, place.key),
            "a session that is leaving has not been ended"
        );
        ensure!(
            world
                .user(0)
                .is_some_and(|user| user.place(place.key).is_none()),
            "a session that has left is listed"
        );
    }
    Ok(())
}

/// Two revocations at once, and a login that may begin before, between or after.
fn twice(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        none_slips_through(state, rules)
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        L(Login::new(2, JAR)),
        V(Revoke::new(What::All)),
        V(Revoke::new(What::All)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new(
        "two logins, and revoke all twice",
        world,
        actors,
        crashes,
        finally,
    )
}

/// All others than the guest's session: that of a second device goes, and the first one's stays.
fn others(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        let kept = state
            .world
            .user(0)
            .is_none_or(|user| user.place(0).is_none_or(|place| !place.leaving));
        ensure!(
            kept && !is_ended(&state.world, 0),
            "revoked its own session"
        );
        let held =
            state.world.jars[0].is_none_or(|id| id == GUEST || opens(&state.world, id, rules));
        ensure!(
            held || state.crashed_any(),
            "the browser that revoked has lost its session"
        );
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        L(Login::new(2, Source::None)),
        R(Request::new(3, JAR, Does::Read)),
        V(Revoke::new(What::Others(0))),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new("revoke all others", world, actors, crashes, finally)
}

/// As `others`, where the browser that revokes rotates, and logs in again meanwhile.
fn others_again(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        ensure!(!is_ended(&state.world, 0), "revoked its own session");
        let mut sent = logins(state).filter_map(Login::sent);
        let (only, more) = (sent.next(), sent.next().is_some());
        let holds = only
            .filter(|_| !more && !state.crashed_any())
            .filter(|id| state.world.jars[0] == Some(*id));
        ensure!(
            holds.is_none_or(|id| opens(&state.world, id, rules)),
            "the browser that revoked has lost its session"
        );
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        L(Login::new(2, JAR)),
        R(Request::new(3, JAR, Does::Rotate)),
        V(Revoke::new(What::Others(0))),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new(
        "revoke all others amid a second login",
        world,
        actors,
        crashes,
        finally,
    )
}

/// One session, on which the user is logging in again.
fn one(crashes: u8) -> Scenario {
    fn finally(state: &State, _: Rules) -> Result<(), String> {
        let place = state
            .world
            .user(0)
            .is_some_and(|user| user.place(0).is_some());
        ensure!(
            !place || !is_ended(&state.world, 0) || state.crashed_any(),
            "a place of a session that has ended"
        );
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        L(Login::new(2, JAR)),
        R(Request::new(3, JAR, Does::Write)),
        V(Revoke::new(What::One(0))),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new("revoke one", world, actors, crashes, finally)
}

#[test]
fn a_revocation_leaves_no_session_of_whoever_began_before() {
    for crashes in crashes(1, 3) {
        holds(&all(true, crashes));
        holds(&all(false, crashes));
    }
    for crashes in crashes(0, 1) {
        holds(&twice(crashes));
    }
}

#[test]
fn revoking_all_others_leaves_the_own_session() {
    for crashes in crashes(1, 2) {
        holds(&others(crashes));
        holds(&others_again(crashes));
    }
}

#[test]
fn a_session_that_is_revoked_is_listed_until_it_has_ended() {
    for crashes in crashes(1, 2) {
        holds(&one(crashes));
    }
}

#[test]
fn without_the_number_a_login_slips_through() {
    catches(Break::Number, "slipped through", &all(true, 0));
}

#[test]
fn a_revocation_that_finds_nobody_lets_a_login_slip_through() {
    catches(Break::RevokeNobody, "slipped through", &all(false, 0));
}

#[test]
fn striking_off_first_leaves_a_session_unlisted() {
    catches(Break::StrikeFirst, "sent, live and unlisted", &one(0));
}
