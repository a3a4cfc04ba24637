//! Logouts: one that returned leaves nothing that opens, and loses nothing that was set apart.

use super::actor::Actor::{Login as L, Logout as O, Request as R};
use super::checks::{ensure, exactly_once, logins, none_fails, opens};
use super::explore::{Jump, Scenario, State};
use super::login::Login;
use super::logout::Logout;
use super::request::{Does, Request};
use super::rules::{Break, Rules};
use super::world::{Event, FOREVER, Id, MINUTE, Source, World};
use super::{catches, crashes, holds};

const JAR: Source = Source::Jar(0);
const SENT: Source = Source::Sent(Id { key: 0, secret: 0 });

/// A request that was under way at the login, and a logout after it.
fn after_a_login(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        none_fails(state)?;
        if state.world.has(Event::Abandoned) {
            Ok(())
        } else {
            exactly_once(state, JAR, rules)
        }
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        R(Request::new(2, SENT, Does::Write)),
        R(Request::new(3, JAR, Does::Write)),
        O(Logout::new(JAR)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new(
        "a request under way, and a logout",
        world,
        actors,
        crashes,
        finally,
    )
}

/// A browser that logs in twice and logs out, whose answers may come late.
fn with_late_answers(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        let events = &state.world.events;
        let began = events
            .iter()
            .position(|event| matches!(event, Event::LogoutBegan { .. }));
        let Some(began) = began.filter(|_| !state.crashed_any()) else {
            return Ok(());
        };
        let last =
            logins(state).all(|login| events[..began].contains(&Event::Looked(login.issues())));
        let held =
            state.world.jars[0].is_some_and(|id| id.key == 0 && opens(&state.world, id, rules));
        ensure!(!last || !held, "logged in after a logout");
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        L(Login::new(2, JAR)),
        O(Logout::new(JAR)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new(
        "two logins with late answers, and a logout",
        world,
        actors,
        crashes,
        finally,
    )
}

/// A logout that is slower than the minute of its secret, and a request that is slower than the logout.
fn slow(crashes: u8) -> Scenario {
    fn finally(state: &State, _: Rules) -> Result<(), String> {
        let began = state.world.has(Event::LogoutBegan { opened: true }) && !state.crashed_any();
        ensure!(
            !began || state.world.has(Event::LoggedOut(0)),
            "a logout ended nothing"
        );
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        R(Request::new(2, JAR, Does::Rotate)),
        R(Request::new(3, JAR, Does::Write)),
        O(Logout::new(JAR)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario {
        jumps: &[Jump::Any(MINUTE)],
        ..Scenario::new("a slow logout", world, actors, crashes, finally)
    }
}

#[test]
fn a_logout_loses_nothing_that_was_set_apart() {
    for crashes in crashes(1, 2) {
        holds(&after_a_login(crashes));
    }
}

#[test]
fn a_logout_leaves_nothing_that_opens() {
    for crashes in crashes(1, 2) {
        holds(&with_late_answers(crashes));
        holds(&slow(crashes));
    }
}

#[test]
fn a_logout_that_does_not_credit_again_loses_units() {
    catches(Break::EndUncredited, "not exactly once", &after_a_login(0));
}

#[test]
fn a_superseded_secret_that_cannot_log_out_leaves_a_late_answer() {
    catches(
        Break::SupersededNeverEnds,
        "logged in after a logout",
        &with_late_answers(0),
    );
}

#[test]
fn a_logout_whose_secret_has_run_out_still_ends_the_session() {
    catches(Break::RetiredForgotten, "a logout ended nothing", &slow(0));
}

#[test]
fn a_writer_that_knows_no_end_revives_a_session() {
    catches(Break::Revive, "revived after a logout", &slow(0));
}
