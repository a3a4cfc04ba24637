//! Sessions over HTTP: what a request costs, shows, keeps and loses.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod allocations;
mod cancellation;
mod composition;
mod conflicts;
mod cookies;
mod corpora;
mod costs;
mod deadlines;
// Public, so that the lints on public items see what the derive makes.
pub mod derive;
mod endings;
mod events;
mod expiry;
mod failures;
mod flash;
mod guarantees;
mod guest;
mod handles;
mod hot_key;
mod in_doubt;
mod outages;
mod overview;
mod packages;
mod rotation;
mod schemas;
mod sharing;
mod sweeping;
mod values;
