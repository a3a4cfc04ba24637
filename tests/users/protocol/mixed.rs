//! All together: logins, rotations and requests of a browser, beside what ends its session.

use super::actor::Actor::{self, Login as L, Logout as O, Request as R, Revoke as V};
use super::checks::{ensure, known, last_login, none_slips_through, units};
use super::explore::{Jump, Scenario, State};
use super::login::Login;
use super::logout::Logout;
use super::request::{Does, Request};
use super::revoke::{Revoke, What};
use super::rules::Rules;
use super::user::Limit;
use super::world::{FIVE_MINUTES, FOREVER, Id, MINUTE, Source, World};
use super::{crashes, holds, is_full};

const JAR: Source = Source::Jar(0);
const SENT: Source = Source::Sent(Id { key: 0, secret: 0 });

fn finally(state: &State, rules: Rules) -> Result<(), String> {
    none_slips_through(state, rules)?;
    let (known, got) = (known(state), units(&state.world, 0));
    ensure!(got <= known, "credited twice: {got} of {known}");
    last_login(state, JAR, rules)?;
    Ok(())
}

fn beside(name: &'static str, ends: Vec<Actor>, jumps: &'static [Jump], crashes: u8) -> Scenario {
    let mut actors = vec![
        L(Login::new(1, JAR)),
        R(Request::new(2, JAR, Does::Rotate)),
        R(Request::new(3, SENT, Does::Write)),
    ];
    actors.extend(ends);
    let world = World::with_guest(10, 1, 1, FOREVER);
    Scenario {
        jumps,
        ..Scenario::new(name, world, actors, crashes, finally)
    }
}

/// Logins and a request, beside a logout, where only one session may stay.
fn limited() -> Scenario {
    let one = |issues, from| L(Login::new(issues, from).under(Limit::EndOldest(1)));
    let mut scenario = beside(
        "beside logins where one may stay",
        vec![one(4, Source::None), O(Logout::new(JAR))],
        &[],
        0,
    );
    scenario.actors[0] = one(1, JAR);
    scenario.actors[1] = one(5, JAR);
    scenario
}

const IN_TIME: &[Jump] = &[Jump::Any(MINUTE), Jump::Any(FIVE_MINUTES)];

#[test]
fn all_holds_together() {
    let revoke = |what| V(Revoke::new(what));
    for crashes in crashes(0, 1) {
        let jumps: &[Jump] = if is_full() { IN_TIME } else { &[] };
        holds(&beside(
            "beside a logout and a revocation",
            vec![O(Logout::new(JAR)), revoke(What::All)],
            jumps,
            crashes,
        ));
        holds(&beside(
            "beside a logout and a deletion",
            vec![O(Logout::new(JAR)), revoke(What::User)],
            jumps,
            crashes,
        ));
    }
    if is_full() {
        let again = || L(Login::new(4, JAR));
        holds(&beside(
            "beside a login and a revocation of one",
            vec![again(), revoke(What::One(0))],
            IN_TIME,
            0,
        ));
        holds(&beside(
            "beside a login and a revocation of others",
            vec![again(), revoke(What::Others(0))],
            IN_TIME,
            0,
        ));
        holds(&beside(
            "beside a login and a logout",
            vec![again(), O(Logout::new(JAR))],
            IN_TIME,
            0,
        ));
        holds(&limited());
    }
}
