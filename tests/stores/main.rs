//! Stores: the suite of promises over each, and what an engine may do to it.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod adapter;
mod histories;
mod memory;
mod mysql;
mod own_store;
mod postgres;
mod records;
mod redis;
mod shared;
mod sqlite;
mod users;
