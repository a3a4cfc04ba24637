//! What the tests share: a browser without a window, and a store that counts and fails on demand.

mod browser;
mod chrome;
mod faults;
mod process;
mod tools;

pub use browser::{Browser, Reply};
pub use chrome::{Chrome, Screen};
pub use faults::{Fault, FaultStore};
pub use process::{Page, Shop, Visitor};
pub use tools::require;
