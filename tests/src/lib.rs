//! What the tests share: a browser without a window, a store that counts and fails on demand, a site of both; the
//! example shop as a process, and Chromium.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod expired;
mod logs;
mod port;
mod postgres;
mod proxy;
mod tools;

pub use expired::{multiply_in_postgres, multiply_in_sqlite};
pub use logs::Logs;
pub use port::Port;
pub use postgres::{POSTGRES_PASSWORD, Pgbouncer, PostgresServer};
pub use proxy::{Cut, Proxy, Traffic, Wire};
pub use tempfile::TempDir;
pub use tools::{PATIENCE, require, times, wait_for};
