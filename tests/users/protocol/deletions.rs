//! Deletions of a user: nobody who began before slips through, be there a new record by then or not.

use super::actor::Actor::{Login as L, Request as R, Revoke as V};
use super::checks::{ensure, guest_of_before, none_slips_through, told, units};
use super::explore::{Scenario, State};
use super::login::Login;
use super::request::{Does, Request};
use super::revoke::{Revoke, What};
use super::rules::{Break, Rules};
use super::user::User;
use super::world::{Event, FOREVER, Id, Source, World};
use super::{catches, crashes, holds};

const GUEST: Id = Id { key: 0, secret: 0 };
const SENT: Source = Source::Sent(GUEST);
const JAR: Source = Source::Jar(0);

/// A user with five units, or one without a record.
fn world(known: bool) -> World {
    World::with_guest(10, 1, 1, FOREVER).put_user_if(known, 0, User::with(5))
}

fn gone(state: &State, rules: Rules) -> Result<(), String> {
    none_slips_through(state, rules)?;
    let deleted = state
        .world
        .events
        .iter()
        .any(|event| matches!(event, Event::Cut(..)));
    let most = 3 + told(state).map(|told| told.saved).sum::<u8>();
    ensure!(
        !deleted || units(&state.world, 0) <= most,
        "a deleted user's units are back"
    );
    guest_of_before(state, GUEST, rules)
}

/// Two logins, from two devices; the later one may make a new record.
fn two_devices(known: bool, crashes: u8) -> Scenario {
    let actors = vec![
        L(Login::new(1, SENT)),
        L(Login::new(2, Source::None)),
        V(Revoke::new(What::User)),
    ];
    let name = if known {
        "a known user is deleted"
    } else {
        "an unknown user is deleted"
    };
    Scenario::new(name, world(known), actors, crashes, gone)
}

/// A login, another on the same session, and requests of the user's.
fn one_browser(crashes: u8) -> Scenario {
    let actors = vec![
        L(Login::new(1, JAR)),
        L(Login::new(2, JAR)),
        R(Request::new(3, JAR, Does::Write)),
        V(Revoke::new(What::User)),
    ];
    Scenario::new(
        "a user with a browser is deleted",
        world(true),
        actors,
        crashes,
        gone,
    )
}

/// A deletion beside a revocation.
fn and_revoked(crashes: u8) -> Scenario {
    let actors = vec![
        L(Login::new(1, SENT)),
        L(Login::new(2, Source::None)),
        V(Revoke::new(What::User)),
        V(Revoke::new(What::All)),
    ];
    Scenario::new(
        "a user is deleted and revoked",
        world(false),
        actors,
        crashes,
        gone,
    )
}

#[test]
fn a_deletion_leaves_no_session_of_whoever_began_before() {
    for crashes in crashes(1, 2) {
        holds(&two_devices(true, crashes));
        holds(&two_devices(false, crashes));
        holds(&one_browser(crashes));
    }
    for crashes in crashes(0, 1) {
        holds(&and_revoked(crashes));
    }
}

#[test]
fn a_deletion_that_forgets_the_number_lets_a_login_slip_through() {
    catches(
        Break::DeletionForgetsNumber,
        "slipped through",
        &two_devices(false, 0),
    );
}

#[test]
fn a_deletion_that_forgets_the_places_leaves_a_session_unlisted() {
    catches(
        Break::DeletionForgetsPlaces,
        "sent, live and unlisted",
        &two_devices(true, 0),
    );
}

#[test]
fn a_tombstone_later_than_the_revocation_lets_a_login_slip_through() {
    catches(
        Break::TombstoneLater,
        "slipped through",
        &two_devices(true, 0),
    );
}
