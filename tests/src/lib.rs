//! What the tests share, as far as it compiles without the upper half.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod port;
mod proxy;
mod redis;
mod tools;

pub use port::Port;
pub use proxy::{Cut, Proxy, Traffic, Wire};
pub use redis::{RedisCluster, RedisServer};
pub use tempfile::TempDir;
pub use tools::{PATIENCE, require, times, wait_for};
