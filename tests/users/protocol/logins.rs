//! Logins from one browser: what a guest brings is credited once, and who was refused is the guest of before.

use super::actor::Actor::{Login as L, Request as R, Revoke as V};
use super::checks::{
    always, ensure, exactly_once, guest_of_before, known, logins, none_fails, none_slips_through,
    opens, units,
};
use super::explore::{Jump, Scenario, State};
use super::login::Login;
use super::request::{Does, Request};
use super::revoke::{Revoke, What};
use super::rules::{Break, Rules};
use super::user::User;
use super::world::{FIVE_MINUTES, FOREVER, Id, MINUTE, Source, World};
use super::{catches, crashes, holds};

const GUEST: Id = Id { key: 0, secret: 0 };
const SENT: Source = Source::Sent(GUEST);
const JAR: Source = Source::Jar(0);

fn two_tabs(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        none_fails(state)?;
        for id in logins(state).filter_map(Login::sent) {
            ensure!(
                opens(&state.world, id, rules),
                "a returned id opens nothing"
            );
        }
        exactly_once(state, SENT, rules)
    }
    let actors = vec![
        L(Login::new(1, SENT)),
        L(Login::new(2, SENT)),
        R(Request::new(3, SENT, Does::Write)),
    ];
    let world = World::with_guest(10, 1, 0, FOREVER);
    Scenario {
        jumps: &[Jump::Any(FIVE_MINUTES)],
        ..Scenario::new("two tabs and a request", world, actors, crashes, finally)
    }
}

fn in_a_browser(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        none_fails(state)?;
        exactly_once(state, JAR, rules)
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        L(Login::new(2, JAR)),
        R(Request::new(3, SENT, Does::Write)),
        R(Request::new(4, JAR, Does::Write)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new(
        "two logins and two requests of a browser",
        world,
        actors,
        crashes,
        finally,
    )
}

fn together(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        let (known, got) = (known(state), units(&state.world, 0));
        ensure!(got <= 5 + known, "credited twice: {got} of {known}");
        none_slips_through(state, rules)?;
        guest_of_before(state, GUEST, rules)
    }
    let actors = vec![
        L(Login::new(1, SENT)),
        R(Request::new(2, SENT, Does::Write)),
        V(Revoke::new(What::All)),
    ];
    let world = World::with_guest(10, 1, 0, FOREVER).put_user(0, User::with(5));
    Scenario::new(
        "a login, a request and revoke all",
        world,
        actors,
        crashes,
        finally,
    )
}

fn two_refused(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        none_slips_through(state, rules)?;
        guest_of_before(state, GUEST, rules)
    }
    let actors = vec![
        L(Login::new(1, SENT)),
        L(Login::new(2, SENT)),
        R(Request::new(3, SENT, Does::Write)),
        V(Revoke::new(What::All)),
    ];
    let world = World::with_guest(10, 1, 0, FOREVER);
    Scenario::new(
        "two tabs, a request and revoke all",
        world,
        actors,
        crashes,
        finally,
    )
}

fn rotated_and_refused(crashes: u8) -> Scenario {
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
        R(Request::new(3, JAR, Does::Write)),
        V(Revoke::new(What::All)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new(
        "a guest who rotates, logs in and is refused",
        world,
        actors,
        crashes,
        finally,
    )
}

fn another_user(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        none_fails(state)?;
        let (known, got) = (
            known(state),
            units(&state.world, 0) + units(&state.world, 1),
        );
        ensure!(got <= known, "credited twice: {got} of {known}");
        let waits = state.world.session(0).map_or(0, |session| {
            session.units
                + session
                    .brought
                    .iter()
                    .map(|brought| brought.units)
                    .sum::<u8>()
        });
        ensure!(
            state.crashed_any() || got + waits == known,
            "lost: {got} and {waits} of {known}"
        );
        let held = state.world.jars[0].filter(|id| id.key != 0);
        ensure!(
            held.is_none_or(|id| opens(&state.world, id, rules)),
            "a returned id opens nothing"
        );
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        L(Login::new(2, JAR).of(1)),
        R(Request::new(3, SENT, Does::Write)),
        R(Request::new(4, JAR, Does::Read)),
    ];
    let world = World::with_guest(10, 2, 1, FOREVER);
    Scenario::new("a login as another user", world, actors, crashes, finally)
}

fn discarded(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        exactly_once(state, JAR, rules)
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        R(Request::new(2, SENT, Does::Write)),
        R(Request::new(3, JAR, Does::Discard)),
        R(Request::new(4, JAR, Does::Read)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new(
        "one request credits, another discards",
        world,
        actors,
        crashes,
        finally,
    )
}

fn rotated_meanwhile(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        none_fails(state)?;
        exactly_once(state, JAR, rules)
    }
    let actors = vec![
        L(Login::new(1, JAR)),
        R(Request::new(2, JAR, Does::Rotate)),
        R(Request::new(3, JAR, Does::Write)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario {
        jumps: &[Jump::Any(MINUTE)],
        ..Scenario::new(
            "a slow login of a guest who rotates",
            world,
            actors,
            crashes,
            finally,
        )
    }
}

fn under_way(crashes: u8) -> Scenario {
    let actors = vec![
        L(Login::new(1, JAR)),
        R(Request::new(2, SENT, Does::Write)),
        R(Request::new(3, JAR, Does::Rotate)),
        R(Request::new(4, JAR, Does::Read)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    let jumps = &[Jump::Any(MINUTE / 2), Jump::Any(MINUTE / 2)];
    Scenario {
        jumps,
        ..Scenario::new(
            "a guest's request that is slow",
            world,
            actors,
            crashes,
            always,
        )
    }
}

#[test]
fn what_a_guest_brings_is_credited_exactly_once() {
    for crashes in crashes(1, 3) {
        holds(&two_tabs(crashes));
        holds(&in_a_browser(crashes));
        holds(&discarded(crashes));
        holds(&rotated_meanwhile(crashes));
    }
}

#[test]
fn who_is_refused_is_the_guest_of_before() {
    for crashes in crashes(1, 2) {
        holds(&together(crashes));
        holds(&two_refused(crashes));
        holds(&rotated_and_refused(crashes));
    }
}

#[test]
fn another_user_starts_clean() {
    for crashes in crashes(1, 2) {
        holds(&another_user(crashes));
    }
}

#[test]
fn a_guests_request_writes_for_a_minute() {
    for crashes in crashes(0, 1) {
        holds(&under_way(crashes));
    }
}

#[test]
fn without_the_note_units_are_credited_twice() {
    catches(Break::Note, "credited twice", &two_tabs(1));
}

#[test]
fn without_confirmation_a_session_is_unlisted() {
    catches(Break::Confirm, "sent, live and unlisted", &two_tabs(0));
}

#[test]
fn an_undo_that_gives_up_loses_the_guest() {
    catches(Break::UndoOnce, "the guest has lost", &together(0));
}

#[test]
fn two_undos_that_wait_for_each_other_lose_the_guest() {
    catches(
        Break::UndoOnlyCurrent,
        "the guest has lost the session",
        &two_refused(0),
    );
}

#[test]
fn a_superseded_secret_forgotten_by_time_loses_units() {
    catches(Break::ForgetByTime, "not exactly once", &two_tabs(1));
}

#[test]
fn a_login_whose_secret_has_run_out_still_brings_what_the_guest_has() {
    catches(
        Break::RetiredForgotten,
        "not exactly once",
        &rotated_meanwhile(0),
    );
}

#[test]
fn a_discard_in_the_session_alone_is_credited_as_well() {
    catches(Break::DiscardInSession, "credited twice", &discarded(0));
}

#[test]
fn a_login_that_keeps_old_secrets_lets_them_in() {
    catches(Break::LoginKeeps, "the old id opens", &two_tabs(0));
}

#[test]
fn a_guests_request_without_a_last_minute_writes_too_late() {
    catches(Break::NoLastMinute, "wrote too late", &under_way(0));
}

#[test]
fn a_last_minute_that_begins_anew_is_too_long() {
    catches(Break::MinuteOfLast, "wrote too late", &under_way(0));
}
