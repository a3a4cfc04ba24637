//! What the tests share: a browser without a window, a store that counts and fails on demand, and a site of
//! both.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod browser;
mod faults;
mod logs;
mod schedule;
mod site;

pub use browser::{Browser, Reply};
pub use faults::{Fault, FaultStore};
pub use logs::Logs;
pub use schedule::{Choices, Held};
pub use site::{Handles, Site, Visitor};
pub use tempfile::TempDir;
