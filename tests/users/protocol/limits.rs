//! Limits: no more sessions than may stay, and one that may always does.

use super::actor::Actor::{Login as L, Logout as O, Request as R, Revoke as V};
use super::actor::alone;
use super::checks::{ensure, guest_of_before, is_ended, known, logins, opens, units};
use super::explore::{Jump, Scenario, State};
use super::login::Login;
use super::logout::Logout;
use super::request::{Does, Request};
use super::revoke::{Revoke, What};
use super::rules::{Break, Rules};
use super::session::Session;
use super::user::{Limit, Place, User};
use super::world::{FOREVER, Id, MINUTE, Source, World};
use super::{catches, crashes, holds};

const JAR: Source = Source::Jar(0);
const GUEST: Id = Id { key: 0, secret: 0 };
const OTHER: Id = Id { key: 5, secret: 5 };
const ONE: Limit = Limit::EndOldest(1);
const FULL: Limit = Limit::Refuse(1);

/// Returns how many logins have sent an id that opens a session.
fn usable(state: &State, rules: Rules) -> usize {
    let mut keys: Vec<usize> = logins(state)
        .filter_map(Login::sent)
        .filter(|id| opens(&state.world, *id, rules))
        .map(|id| id.key)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys.len()
}

fn one_stays(state: &State, rules: Rules) -> Result<(), String> {
    let usable = usable(state, rules);
    ensure!(state.crashed_any() || usable == 1, "usable: {usable}");
    Ok(())
}

fn three_devices(crashes: u8) -> Scenario {
    let actors = (1..=3)
        .map(|name| L(Login::new(name, Source::None).under(ONE)))
        .collect();
    let world = World::with_guest(10, 1, 0, FOREVER);
    Scenario::new(
        "three logins where one may stay",
        world,
        actors,
        crashes,
        one_stays,
    )
}

/// Two logins of one browser, and one of another device.
fn again(crashes: u8) -> Scenario {
    let actors = vec![
        L(Login::new(1, JAR).under(ONE)),
        L(Login::new(2, JAR).under(ONE)),
        L(Login::new(3, Source::None).under(ONE)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario::new(
        "two logins of a browser and one more, where one may stay",
        world,
        actors,
        crashes,
        one_stays,
    )
}

/// Two logins where the one that is there stays, unless nobody has used it for a minute.
fn refusing(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        let usable = usable(state, rules);
        ensure!(state.crashed_any() || usable == 1, "usable: {usable}");
        let later = state.world.now > 0 && requests_served(state) == 0;
        ensure!(
            !later || state.crashed_any() || logins(state).any(|login| login.sent().is_some()),
            "all are refused"
        );
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, JAR).under(FULL)),
        L(Login::new(2, Source::None).under(FULL)),
        R(Request::new(3, JAR, Does::Read)),
        R(Request::new(4, JAR, Does::Write)),
    ];
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario {
        jumps: &[Jump::Any(MINUTE)],
        ..Scenario::new(
            "two logins where the first one stays",
            world,
            actors,
            crashes,
            finally,
        )
    }
}

fn requests_served(state: &State) -> usize {
    super::checks::told(state)
        .filter(|told| told.served)
        .count()
}

/// A lost answer: whoever logs in a minute later from elsewhere gets the place.
fn after_a_crash(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        let mut world = state.world.clone();
        world.now += MINUTE;
        let (last, world) = alone(L(Login::new(9, Source::None).under(FULL)), &world, rules);
        let L(last) = last else {
            return Err("not a login".to_owned());
        };
        ensure!(
            last.sent().is_some_and(|id| opens(&world, id, rules)),
            "a session that nobody uses keeps its place"
        );
        Ok(())
    }
    let actors = vec![
        L(Login::new(1, Source::None).under(FULL)),
        L(Login::new(2, Source::None).under(FULL)),
        V(Revoke::new(What::One(1))),
    ];
    let world = World::with_guest(10, 1, 0, FOREVER);
    Scenario::new(
        "two logins whose answers are lost",
        world,
        actors,
        crashes,
        finally,
    )
}

/// A guest's two tabs, where another device has the only place, and uses it or logs out.
fn full(crashes: u8) -> Scenario {
    fn finally(state: &State, rules: Rules) -> Result<(), String> {
        let other = opens(&state.world, OTHER, rules) || is_ended(&state.world, OTHER.key);
        ensure!(other, "in use, and displaced");
        let usable = usable(state, rules) + usize::from(!is_ended(&state.world, OTHER.key));
        ensure!(usable <= 1, "usable: {usable}");
        let known = known(state);
        ensure!(units(&state.world, 0) <= known, "credited twice");
        guest_of_before(state, GUEST, rules)
    }
    let sent = Source::Sent(GUEST);
    let actors = vec![
        L(Login::new(1, sent).under(FULL)),
        L(Login::new(2, sent).under(FULL)),
        R(Request::new(3, sent, Does::Write)),
        O(Logout::new(Source::Sent(OTHER))),
    ];
    let other = Session::of(0, OTHER.secret, 0, FOREVER).in_hand(0);
    let place = Place {
        key: OTHER.key,
        credited: 0,
        leaving: false,
        certain: FOREVER,
    };
    let user = User {
        places: vec![place],
        ..User::default()
    };
    let world = World::with_guest(10, 1, 0, FOREVER)
        .put(OTHER.key, other)
        .put_user(0, user);
    Scenario::new(
        "two logins where another has the place",
        world,
        actors,
        crashes,
        finally,
    )
}

#[test]
fn no_more_stay_than_may() {
    for crashes in crashes(1, 2) {
        holds(&three_devices(crashes));
        holds(&again(crashes));
    }
}

#[test]
fn a_session_in_use_keeps_its_place_where_others_are_refused() {
    for crashes in crashes(1, 2) {
        holds(&refusing(crashes));
        holds(&after_a_crash(crashes));
    }
    for crashes in crashes(0, 1) {
        holds(&full(crashes));
    }
}

#[test]
fn forgetting_who_has_to_leave_leaves_a_session_unlisted() {
    catches(Break::Leaving, "sent, live and unlisted", &three_devices(0));
}

#[test]
fn a_login_on_a_session_that_is_leaving_leaves_nobody() {
    catches(Break::ConfirmLeaving, "usable: 0", &again(0));
}

#[test]
fn a_login_on_a_session_that_has_gone_leaves_nobody() {
    catches(Break::ConfirmGone, "usable: 0", &again(0));
}

#[test]
fn marking_what_was_looked_up_displaces_a_session_in_use() {
    catches(Break::RefuseMarks, "displaced", &refusing(0));
}

#[test]
fn a_limit_that_looks_nothing_up_keeps_places_for_nobody() {
    catches(Break::RefuseBlindly, "keeps its place", &after_a_crash(0));
}
