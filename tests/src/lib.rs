//! What the tests share.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod expired;
mod tools;

pub use expired::{multiply_in_postgres, multiply_in_sqlite};
pub use tempfile::TempDir;
pub use tools::{PATIENCE, require, times, wait_for};
