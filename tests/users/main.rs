//! Logins, logouts, and what follows a user.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod breaks;
mod costs;
mod logins;
mod merging;
mod other_users;
mod protocol;
mod rules;
mod stored;
