//! Rotations: whatever cookie a browser ends with opens the session, and a planted id never opens a user's.

use super::actor::Actor::{Login as L, Logout as O, Request as R};
use super::checks::{always, ensure, exactly_once, opens, requests};
use super::explore::{Jump, Scenario, State};
use super::login::Login;
use super::logout::Logout;
use super::request::{Does, Request};
use super::rules::{Break, Rules};
use super::world::{FOREVER, HOUR, Id, MINUTE, Source, World};
use super::{catches, crashes, holds, is_full};

const GUEST: Id = Id { key: 0, secret: 0 };
const VICTIM: Source = Source::Jar(0);
const ATTACKER: Source = Source::Jar(1);

/// The browser's cookie opens the session.
fn jar_opens(state: &State, rules: Rules) -> Result<(), String> {
    let opens = state.world.jars[0].is_some_and(|id| opens(&state.world, id, rules));
    ensure!(opens, "the browser's cookie opens nothing");
    Ok(())
}

/// As `always`, and the browser's cookie opens the session in every state, be answers on their way or lost.
fn always_opens(state: &State, rules: Rules) -> Result<(), String> {
    always(state, rules)?;
    jar_opens(state, rules)
}

fn rotate(issues: u8) -> super::actor::Actor {
    R(Request::new(issues, VICTIM, Does::Rotate))
}

/// Rotations of one browser, which end and whose answers arrive in any order, late, or not at all.
fn at_once(rotations: u8, reads: u8, jumps: &'static [Jump], crashes: u8) -> Scenario {
    let reads = (0..reads).map(|read| R(Request::new(rotations + 1 + read, VICTIM, Does::Read)));
    let actors = (1..=rotations).map(rotate).chain(reads).collect();
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario {
        jumps,
        always: always_opens,
        ..Scenario::new("rotations at once", world, actors, crashes, jar_opens)
    }
}

/// An attacker holds the id that the victim logs in with.
fn planted(does: [Does; 2], jumps: &'static [Jump], crashes: u8) -> Scenario {
    fn never_opens(state: &State, rules: Rules) -> Result<(), String> {
        always(state, rules)?;
        let issued = requests(state)
            .filter(|request| request.from() == ATTACKER)
            .filter_map(Request::issued);
        for id in issued.chain([GUEST]) {
            let of_a_user = state
                .world
                .session(id.key)
                .is_some_and(|session| session.user.is_some());
            ensure!(
                !(of_a_user && opens(&state.world, id, rules)),
                "a planted id opens a user's session"
            );
        }
        Ok(())
    }
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        let ended = state.world.session(0).is_some_and(|session| session.ended);
        if ended {
            Ok(())
        } else {
            exactly_once(state, VICTIM, rules)
        }
    }
    let actors = vec![
        L(Login::new(1, VICTIM)),
        R(Request::new(2, VICTIM, Does::Read)),
        R(Request::new(3, ATTACKER, does[0])),
        R(Request::new(4, ATTACKER, does[1])),
        O(Logout::new(ATTACKER)),
    ];
    let world = World::with_guest(10, 1, 2, FOREVER);
    Scenario {
        jumps,
        always: never_opens,
        ..Scenario::new("a planted id", world, actors, crashes, finally)
    }
}

/// The attacker logs in as another user, under the id that the victim holds.
fn planted_login(crashes: u8) -> Scenario {
    fn apart(state: &State, rules: Rules) -> Result<(), String> {
        always(state, rules)?;
        for (jar, other) in [(0, 1), (1, 0)] {
            let found = state.world.jars[jar].filter(|id| opens(&state.world, *id, rules));
            let user = found
                .and_then(|id| state.world.session(id.key))
                .and_then(|session| session.user);
            ensure!(
                user != Some(other),
                "one user's cookie opens another's session"
            );
        }
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, VICTIM)),
        R(Request::new(2, VICTIM, Does::Rotate)),
        L(Login::new(3, ATTACKER).of(1)),
        R(Request::new(4, ATTACKER, Does::Rotate)),
    ];
    let world = World::with_guest(10, 2, 2, FOREVER);
    Scenario {
        always: apart,
        ..Scenario::new(
            "a planted id, and an attacker who logs in",
            world,
            actors,
            crashes,
            apart,
        )
    }
}

/// As `planted`, where the victim logs in twice.
fn planted_twice(crashes: u8) -> Scenario {
    let mut scenario = planted([Does::Rotate, Does::Write], &[], crashes);
    scenario.actors[3] = L(Login::new(4, VICTIM));
    scenario.name = "a planted id, and two logins";
    scenario
}

const MINUTES: &[Jump] = &[Jump::Any(MINUTE), Jump::Any(MINUTE)];
const AN_HOUR: &[Jump] = &[Jump::Calm(HOUR), Jump::Any(MINUTE)];

#[test]
fn whatever_cookie_a_browser_ends_with_opens_the_session() {
    for crashes in crashes(0, 1) {
        holds(&at_once(3, 1, MINUTES, crashes));
        holds(&at_once(3, 1, AN_HOUR, crashes));
        holds(&at_once(4, 0, MINUTES, crashes));
    }
    if is_full() {
        holds(&at_once(4, 1, MINUTES, 0));
        holds(&at_once(5, 0, AN_HOUR, 0));
    }
}

#[test]
fn a_planted_id_never_opens_a_users_session() {
    for crashes in crashes(0, 1) {
        holds(&planted([Does::Rotate, Does::Write], &[], crashes));
        holds(&planted([Does::Rotate, Does::Rotate], &[], crashes));
        holds(&planted_twice(crashes));
        holds(&planted_login(crashes));
    }
    if is_full() {
        // In time, an attacker's rotation takes a guest's session away; no more than that.
        let mut scenario = planted([Does::Rotate, Does::Write], MINUTES, 0);
        scenario.finally = scenario.always;
        holds(&scenario);
    }
}

#[test]
fn retiring_unpresented_secrets_loses_the_session() {
    catches(
        Break::RetireUnpresented,
        "opens nothing",
        &at_once(3, 1, MINUTES, 0),
    );
}

#[test]
fn a_minute_that_begins_with_the_rotation_loses_the_session() {
    catches(
        Break::MinuteAtRotation,
        "opens nothing",
        &at_once(2, 0, MINUTES, 0),
    );
}

#[test]
fn a_minute_that_any_younger_secret_begins_loses_the_session() {
    catches(
        Break::MinuteByAge,
        "opens nothing",
        &at_once(4, 1, MINUTES, 0),
    );
}

#[test]
fn an_unpresented_secret_that_falls_by_time_alone_loses_the_session() {
    catches(
        Break::FallByTime,
        "opens nothing",
        &at_once(1, 0, AN_HOUR, 0),
    );
}

#[test]
fn a_fifth_unpresented_secret_in_place_of_the_oldest_loses_the_session() {
    catches(Break::FallByNumber, "opens nothing", &at_once(5, 0, &[], 0));
}

#[test]
fn a_superseded_secret_that_issues_lets_a_planted_id_in() {
    catches(
        Break::SupersededIssues,
        "a planted id opens",
        &planted([Does::Rotate, Does::Write], &[], 0),
    );
}

#[test]
fn a_superseded_secret_that_ends_sessions_lets_an_attacker_end_them() {
    catches(
        Break::SupersededEnds,
        "had been replaced",
        &planted([Does::Rotate, Does::Write], &[], 0),
    );
}

#[test]
fn a_later_login_lets_an_older_secret_end_nothing() {
    catches(
        Break::SupersededEndsLater,
        "had been replaced",
        &planted_twice(0),
    );
}
