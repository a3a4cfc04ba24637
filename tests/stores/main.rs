//! Stores: what each keeps, and what may happen to it.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod adapter;
mod users;
