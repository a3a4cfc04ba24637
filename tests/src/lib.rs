//! What the tests share: a browser without a window, and a store that counts and fails on demand.

mod browser;
mod faults;

pub use browser::{Browser, Reply};
pub use faults::{Fault, FaultStore};
