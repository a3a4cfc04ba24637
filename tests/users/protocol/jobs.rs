//! A job of the app's own, beside logins, revocations and deletions of the user.

use super::actor::Actor::{self, Job as J, Login as L, Revoke as V};
use super::checks::{
    ensure, exactly_once, guest_of_before, known, none_fails, none_slips_through, units,
};
use super::explore::{Check, Scenario, State};
use super::job::Job;
use super::login::Login;
use super::revoke::{Revoke, What};
use super::rules::{Break, Rules};
use super::user::User;
use super::world::{Event, FOREVER, Id, Source, World};
use super::{catches, crashes, holds};

const GUEST: Id = Id { key: 0, secret: 0 };
const SENT: Source = Source::Sent(GUEST);
const JAR: Source = Source::Jar(0);

fn scenario(
    name: &'static str,
    known: bool,
    actors: Vec<Actor>,
    crashes: u8,
    finally: Check,
) -> Scenario {
    let world = World::with_guest(10, 1, 1, FOREVER).put_user_if(known, 0, User::default());
    Scenario::new(name, world, actors, crashes, finally)
}

/// Each unit counts once, and no login fails since a job has written.
fn counted(state: &State, rules: Rules) -> Result<(), String> {
    none_fails(state)?;
    exactly_once(state, JAR, rules)
}

fn beside_logins(known: bool, crashes: u8) -> Scenario {
    let actors = vec![L(Login::new(1, JAR)), L(Login::new(2, JAR)), J(Job::new(3))];
    scenario("a job beside logins", known, actors, crashes, counted)
}

/// A revocation costs a job nothing: it has no session.
fn revoked(state: &State, rules: Rules) -> Result<(), String> {
    none_slips_through(state, rules)?;
    let job = state.actors.iter().zip(&state.dead);
    for (actor, dead) in job {
        if let J(job) = actor {
            ensure!(*dead || job.saved() == 1, "a job fails");
        }
    }
    let (known, got) = (known(state), units(&state.world, 0));
    ensure!(got <= known, "credited twice: {got} of {known}");
    guest_of_before(state, GUEST, rules)
}

fn beside_a_revocation(known: bool, crashes: u8) -> Scenario {
    let actors = vec![
        L(Login::new(1, SENT)),
        J(Job::new(2)),
        V(Revoke::new(What::All)),
    ];
    let name = "a job beside a revocation";
    scenario(name, known, actors, crashes, revoked)
}

/// Nothing that a job began before a deletion comes after it, be there a new record by then or not.
fn deleted(state: &State, rules: Rules) -> Result<(), String> {
    none_slips_through(state, rules)?;
    let events = &state.world.events;
    let cut = events
        .iter()
        .position(|event| matches!(event, Event::Cut(..)));
    for (at, event) in events.iter().enumerate() {
        if let (Event::JobWrote(job), Some(cut)) = (event, cut.filter(|cut| *cut < at)) {
            let before = events[..cut].contains(&Event::JobLooked(*job));
            ensure!(!before, "a job brings a deleted user back");
        }
    }
    guest_of_before(state, GUEST, rules)
}

fn beside_a_deletion(known: bool, crashes: u8) -> Scenario {
    let actors = vec![
        L(Login::new(1, SENT)),
        L(Login::new(2, Source::None)),
        J(Job::new(3)),
        V(Revoke::new(What::User)),
    ];
    let name = "a job beside a deletion";
    scenario(name, known, actors, crashes, deleted)
}

#[test]
fn what_a_job_writes_counts_once_and_fails_no_login() {
    for crashes in crashes(1, 2) {
        holds(&beside_logins(true, crashes));
        holds(&beside_logins(false, crashes));
        holds(&beside_a_revocation(true, crashes));
        holds(&beside_a_revocation(false, crashes));
    }
}

#[test]
fn no_job_brings_a_deleted_user_back() {
    for crashes in crashes(0, 1) {
        holds(&beside_a_deletion(true, crashes));
        holds(&beside_a_deletion(false, crashes));
    }
}

#[test]
fn a_job_that_ignores_a_deletion_brings_the_user_back() {
    for known in [true, false] {
        let scenario = beside_a_deletion(known, 0);
        let wrong = "a job brings a deleted user back";
        catches(Break::JobIgnoresDeletion, wrong, &scenario);
    }
}

#[test]
fn a_deletion_that_is_not_counted_lets_a_job_write_to_the_next_user() {
    for known in [true, false] {
        let scenario = beside_a_deletion(known, 0);
        let wrong = "a job brings a deleted user back";
        catches(Break::DeletionUncounted, wrong, &scenario);
    }
}
