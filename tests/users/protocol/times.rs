//! Time: sessions that lapse lose their places, those that live keep them, and cookies outlive answers that come late.

use super::actor::Actor::{Login as L, Request as R, Revoke as V};
use super::actor::alone;
use super::checks::{always, ensure, guest_of_before, is_ended, none_slips_through, opens};
use super::explore::{Jump, Scenario, State};
use super::login::Login;
use super::request::{Does, Request};
use super::revoke::{Revoke, What};
use super::rules::{Break, Rules};
use super::session::Standing;
use super::world::{
    FIVE_MINUTES, FOREVER, HOUR, MINUTE, Moment, Source, TEN_MINUTES, World, later,
};
use super::{catches, crashes, holds, is_full};

const JAR: Source = Source::Jar(0);
const TTL: Moment = 3;

/// A session that a slow request writes to after it has lapsed, and logins that tend the list meanwhile.
fn lapsing(jumps: &'static [Jump], crashes: u8) -> Scenario {
    fn live_are_listed(state: &State, rules: Rules) -> Result<(), String> {
        always(state, rules)?;
        for (key, session) in state.world.sessions.iter().enumerate().skip(1) {
            let sent = state.actors.iter().any(
                |actor| matches!(actor, L(login) if login.sent().is_some_and(|id| id.key == key)),
            );
            let live = session
                .as_ref()
                .is_some_and(|session| !session.ended && state.world.now < session.lapses);
            let listed = state
                .world
                .user(0)
                .is_some_and(|user| user.place(key).is_some());
            ensure!(!sent || !live || listed, "struck off, and live");
        }
        Ok(())
    }
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        let mut world = state.world.clone();
        world.now = later(world.now, TTL + TEN_MINUTES);
        let (_, world) = alone(L(Login::new(8, Source::None)), &world, rules);
        let left: Vec<_> = world.user(0).map_or_else(Vec::new, |user| {
            user.places.iter().map(|place| place.key).collect()
        });
        ensure!(left == [8], "places of sessions that have lapsed: {left:?}");
        Ok(())
    }
    let mut actors = vec![
        L(Login::new(1, JAR)),
        R(Request::new(2, JAR, Does::Write)),
        L(Login::new(3, Source::None)),
    ];
    if is_full() {
        actors.push(L(Login::new(4, Source::None)));
    }
    let mut world = World::with_guest(10, 1, 1, TTL);
    world.jars[0] = None;
    Scenario {
        jumps,
        always: live_are_listed,
        ..Scenario::new("sessions that lapse", world, actors, crashes, finally)
    }
}

/// Logins and rotations of one browser. Its cookie opens the session, unless the session has ended or a login has superseded the cookie.
fn logins_and_rotations(jumps: &'static [Jump], crashes: u8) -> Scenario {
    fn opens_or_superseded(state: &State, rules: Rules) -> Result<(), String> {
        always(state, rules)?;
        let Some(id) = state.world.jars[0] else {
            return Ok(());
        };
        let superseded = state
            .world
            .session(id.key)
            .and_then(|session| session.secret(id.secret))
            .is_some_and(|secret| matches!(secret.standing, Standing::Superseded { .. }));
        ensure!(
            superseded || is_ended(&state.world, id.key) || opens(&state.world, id, rules),
            "the browser's cookie opens nothing"
        );
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        L(Login::new(2, JAR)),
        R(Request::new(3, JAR, Does::Rotate)),
        R(Request::new(4, JAR, Does::Rotate)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario {
        jumps,
        always: opens_or_superseded,
        ..Scenario::new(
            "logins and rotations of a browser",
            world,
            actors,
            crashes,
            opens_or_superseded,
        )
    }
}

/// A guest who rotates twice, logs in and is refused, while time passes.
fn refused(jumps: &'static [Jump], crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        none_slips_through(state, rules)?;
        let Some(held) = state.world.jars[0] else {
            return Ok(());
        };
        guest_of_before(state, held, rules)
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        R(Request::new(2, JAR, Does::Rotate)),
        R(Request::new(3, JAR, Does::Rotate)),
        V(Revoke::new(What::All)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario {
        jumps,
        ..Scenario::new(
            "a guest who rotates, logs in and is refused, in time",
            world,
            actors,
            crashes,
            finally,
        )
    }
}

const LAPSING: &[Jump] = &[Jump::Any(TTL), Jump::Any(TEN_MINUTES)];
const IN_TIME: &[Jump] = &[Jump::Any(MINUTE), Jump::Any(FIVE_MINUTES)];
const AN_HOUR: &[Jump] = &[Jump::Any(MINUTE), Jump::Calm(HOUR)];

#[test]
fn places_go_with_their_sessions_and_not_before() {
    for crashes in crashes(0, 1) {
        holds(&lapsing(LAPSING, crashes));
    }
}

#[test]
fn a_cookie_opens_until_a_login_supersedes_it() {
    holds(&logins_and_rotations(&[Jump::Calm(HOUR)], 0));
    if is_full() {
        holds(&logins_and_rotations(&[Jump::Any(MINUTE)], 1));
    }
}

#[test]
fn who_is_refused_is_the_guest_of_before_however_late() {
    for crashes in crashes(0, 1) {
        holds(&refused(IN_TIME, crashes));
        holds(&refused(AN_HOUR, crashes));
    }
}

#[test]
fn striking_off_what_has_lapsed_without_ending_it_leaves_it_unlisted() {
    catches(Break::StrikeLapsed, "unlisted", &lapsing(LAPSING, 0));
}
