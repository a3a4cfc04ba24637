//! The example shop: as a process that is restarted and killed, its accounts, two of them, and in Chromium.

// A helper that panics is a test that fails.
#![allow(clippy::missing_panics_doc)]

mod accounts;
mod browser;
mod process;
mod two_shops;
