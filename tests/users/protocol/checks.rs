//! What holds in every state, and what the checks of several scenarios share.

use super::actor::{Actor, alone};
use super::explore::State;
use super::login::Login;
use super::request::{Request, Told};
use super::rules::Rules;
use super::user::Limit;
use super::world::{Event, Id, Key, Source, World};

/// Fails a check with a text, unless a condition holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}
pub(crate) use ensure;

/// The secret of a login that a check adds at the end.
const LAST: u8 = 9;

/// Holds in every state of every scenario.
pub(crate) fn always(state: &State, rules: Rules) -> Result<(), String> {
    listed(state, rules)?;
    old_ids_open_nothing(state, rules)?;
    limits(state)?;
    for event in &state.world.events {
        match event {
            Event::LoggedOut(key) => {
                ensure!(is_ended(&state.world, *key), "revived after a logout");
            }
            Event::Displaced(_) => {
                return Err("in use, and displaced under a limit that refuses".to_owned());
            }
            Event::Usurped(_) => return Err("ended by a secret that had been replaced".to_owned()),
            Event::Late(_) => return Err("a guest's request wrote too late".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn opens(world: &World, id: Id, rules: Rules) -> bool {
    world
        .session(id.key)
        .is_some_and(|session| session.opens(id.secret, world.now, rules))
}

pub(crate) fn is_ended(world: &World, key: usize) -> bool {
    world.session(key).is_none_or(|session| session.ended)
}

pub(crate) fn logins(state: &State) -> impl Iterator<Item = &Login> {
    state.actors.iter().filter_map(|actor| {
        if let Actor::Login(login) = actor {
            Some(login)
        } else {
            None
        }
    })
}

pub(crate) fn requests(state: &State) -> impl Iterator<Item = &Request> {
    state.actors.iter().filter_map(|actor| {
        if let Actor::Request(request) = actor {
            Some(request)
        } else {
            None
        }
    })
}

pub(crate) fn told(state: &State) -> impl Iterator<Item = Told> {
    requests(state).map(Request::told)
}

/// Returns the units that jobs of the app's own were told are saved.
fn by_jobs(state: &State) -> u8 {
    let saved = state.actors.iter().map(|actor| match actor {
        Actor::Job(job) => job.saved(),
        _ => 0,
    });
    saved.sum()
}

/// Returns the units that a guest's three and all that was said to be saved come to, without what was said to be discarded.
pub(crate) fn known(state: &State) -> u8 {
    3 + by_jobs(state) + told(state).map(|told| told.saved).sum::<u8>()
        - told(state).map(|told| told.discarded).sum::<u8>()
}

pub(crate) fn units(world: &World, user: usize) -> u8 {
    world.user(user).map_or(0, |user| user.units)
}

/// Logs in once more at the end. Returns the world after it.
pub(crate) fn last_login(state: &State, from: Source, rules: Rules) -> Result<World, String> {
    let (actor, world) = alone(Actor::Login(Login::new(LAST, from)), &state.world, rules);
    let Actor::Login(login) = actor else {
        return Err("not a login".to_owned());
    };
    let sent = login.sent().filter(|id| opens(&world, *id, rules));
    ensure!(sent.is_some(), "the last login fails");
    Ok(world)
}

/// Checks that each unit has reached the user exactly once after another login from the browser, and lies nowhere else.
pub(crate) fn exactly_once(state: &State, from: Source, rules: Rules) -> Result<(), String> {
    let (known, got) = (known(state), units(&state.world, 0));
    ensure!(got <= known, "credited twice: {got} of {known}");
    let world = last_login(state, from, rules)?;
    let got = units(&world, 0);
    ensure!(got == known, "not exactly once: {got} of {known}");
    let left = world
        .session(0)
        .is_some_and(|session| session.units > 0 || !session.brought.is_empty());
    ensure!(!left, "left behind");
    Ok(())
}

/// Checks that every login has sent its id, but for those that crashed.
pub(crate) fn none_fails(state: &State) -> Result<(), String> {
    for (actor, dead) in state.actors.iter().zip(&state.dead) {
        if let Actor::Login(login) = actor {
            ensure!(*dead || login.sent().is_some(), "a login fails");
        }
    }
    Ok(())
}

/// Checks that no login that looked before a revocation that has returned is of any use.
pub(crate) fn none_slips_through(state: &State, rules: Rules) -> Result<(), String> {
    let events = &state.world.events;
    for (cut, event) in events.iter().enumerate() {
        let Event::Cut(number, keep) = event else {
            continue;
        };
        if events.contains(&Event::Revoked(*number)) {
            none_of_before(state, &events[..cut], *keep, rules)?;
        }
    }
    Ok(())
}

fn none_of_before(
    state: &State,
    before: &[Event],
    keep: Option<Key>,
    rules: Rules,
) -> Result<(), String> {
    for login in logins(state).filter(|login| before.contains(&Event::Looked(login.issues()))) {
        let sent = login.sent().filter(|id| Some(id.key) != keep);
        ensure!(
            !sent.is_some_and(|id| opens(&state.world, id, rules)),
            "slipped through"
        );
    }
    Ok(())
}

/// Checks that whoever was refused is the guest of before, if nothing crashed and nothing ended the session.
pub(crate) fn guest_of_before(state: &State, held: Id, rules: Rules) -> Result<(), String> {
    let all_refused = logins(state).all(|login| login.is_refused() || login.is_full());
    if !all_refused || state.crashed_any() || is_ended(&state.world, held.key) {
        return Ok(());
    }
    ensure!(
        opens(&state.world, held, rules),
        "the guest has lost the session"
    );
    let session = state
        .world
        .session(held.key)
        .filter(|session| session.user.is_none());
    let known = known(state) - by_jobs(state);
    ensure!(
        session.is_some_and(|session| session.units == known && session.brought.is_empty()),
        "the guest has lost units"
    );
    Ok(())
}

/// Checks that a session whose id has been sent and that is live is listed, be it as leaving.
fn listed(state: &State, rules: Rules) -> Result<(), String> {
    for login in logins(state) {
        let live = login.sent().filter(|id| opens(&state.world, *id, rules));
        let is_listed = |id: Id| {
            state
                .world
                .user(login.user())
                .is_some_and(|user| user.place(id.key).is_some())
        };
        ensure!(live.is_none_or(is_listed), "sent, live and unlisted");
    }
    Ok(())
}

/// Checks that the id from before a login opens nothing of the user's.
fn old_ids_open_nothing(state: &State, rules: Rules) -> Result<(), String> {
    let old = state
        .world
        .session(0)
        .is_some_and(|session| session.user.is_some() && session.opens(0, state.world.now, rules));
    ensure!(!old, "the old id opens a user's session");
    Ok(())
}

fn limits(state: &State) -> Result<(), String> {
    for login in logins(state) {
        let staying = state
            .world
            .user(login.user())
            .map_or(0, |user| user.staying().count());
        if let Limit::EndOldest(limit) | Limit::Refuse(limit) = login.limit() {
            ensure!(staying <= limit, "over the limit");
        }
    }
    Ok(())
}
