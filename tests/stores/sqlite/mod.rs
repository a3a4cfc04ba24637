//! What the SQLite store does with its file: what the suite of promises does not ask of every store.

mod conformance;
mod costs;
mod errors;
mod file;
mod processes;
mod scratch;
mod sweeping;
mod writing;
