//! The protocol of logins, rotations, logouts, revocations, deletions and the app's own jobs, explored: every order of steps, with crashes before any step and
//! time passing between any two.
//!
//! The store only loads and swaps, one record at a time. All that is written is a plan on what is there, so each plan is one step. What is
//! decided by an earlier look (a login's first one, what a request has loaded, what a list said) is kept, and may be out of date by then.
//! Each rule that matters is left out once, and the exploration has to notice.
//!
//! `PROTOCOL=full` explores more of each.
//!
//! Not here: several fields with numbers of their own, near caches, swaps whose outcome is unknown (they are a crash before or after), the
//! bound of sixteen secrets, tombstones that are swept, clocks that differ.

mod actor;
mod checks;
mod explore;
mod job;
mod login;
mod logout;
mod request;
mod revoke;
mod rules;
mod session;
mod user;
mod world;

mod deletions;
mod jobs;
mod limits;
mod logins;
mod logouts;
mod mixed;
mod revocations;
mod rotations;
mod times;

use explore::Scenario;
use rules::{Break, Rules};

/// Explores a scenario in which all holds.
fn holds(scenario: &Scenario) {
    match scenario.explore(Rules::default()) {
        Ok(extent) => eprintln!(
            "{}, {} crashes: {} states, {} endings",
            scenario.name, scenario.crashes, extent.states, extent.endings
        ),
        Err(wrong) => panic!("{wrong}"),
    }
}

/// Explores a scenario without one of the rules, and expects that to be noticed in these words.
fn catches(rule: Break, wrong: &str, scenario: &Scenario) {
    match scenario.explore(Rules::without(rule)) {
        Ok(extent) => panic!(
            "{}: nothing is wrong without {rule:?}, in {} states",
            scenario.name, extent.states
        ),
        Err(found) => assert!(
            found.contains(wrong),
            "without {rule:?}, instead of {wrong:?}: {found}"
        ),
    }
}

/// Returns how many crashes to explore.
fn crashes(usually: u8, fully: u8) -> std::ops::RangeInclusive<u8> {
    0..=if is_full() { fully } else { usually }
}

fn is_full() -> bool {
    std::env::var("PROTOCOL").is_ok_and(|how| how == "full")
}
