//! Logins, logouts, and what follows a user.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod breaks;
mod brought;
mod costs;
mod deletions;
mod devices;
mod every_await;
mod everybody;
mod fingerprints;
mod interrupted;
mod late_requests;
mod limits;
mod logins;
mod logouts;
mod long_term;
mod meanwhile;
mod merging;
mod opened;
mod orders;
mod other_users;
mod planted;
mod protocol;
mod retried;
mod revocations;
mod rules;
mod stored;
mod versions;
mod waiting;
mod with_user;
