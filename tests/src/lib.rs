//! What the tests share: a browser without a window, a store that counts and fails on demand, a site of both; the
//! example shop as a process, and Chromium.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod any_store;
mod browser;
mod certificates;
mod chrome;
pub mod customers;
mod expired;
mod faults;
pub mod histories;
mod instance;
mod logs;
mod mysql;
mod port;
mod postgres;
mod process;
mod proxy;
mod redis;
mod schedule;
mod site;
mod tools;

pub use any_store::AnyStore;
pub use browser::{Browser, Reply};
pub use chrome::{Chrome, Screen};
pub use expired::{multiply_in_mysql, multiply_in_postgres, multiply_in_sqlite};
pub use faults::{Fault, FaultStore};
pub use instance::Instance;
pub use logs::Logs;
pub use mysql::{MYSQL_PASSWORD, MysqlServer};
pub use port::Port;
pub use postgres::{POSTGRES_PASSWORD, Pgbouncer, PostgresServer};
pub use process::{Guest, Page, Shop};
pub use proxy::{Cut, Proxy, Traffic, Wire};
pub use redis::{RedisCluster, RedisSentinels, RedisServer, connect_to_redis};
pub use schedule::{Choices, HeldSite, in_each_order};
pub use site::{Handles, Site, Visitor, cost};
pub use tempfile::TempDir;
pub use tools::{PATIENCE, Tries, require, times, wait_for};
