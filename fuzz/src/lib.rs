//! What is fuzzed. Each function takes any bytes, and panics if a promise is broken.

mod stored;
mod targets;

pub use stored::{redis, rows};
pub use targets::{cookie, frame, id, json, merge};

/// What the derive reads durations with, alone.
#[path = "../../session-macros/src/duration.rs"]
mod durations;

/// What that needs of its crate.
mod error {
    pub(crate) fn did_you_mean(_: &str, _: &[&str]) -> String {
        String::new()
    }
}

/// Any text is a duration of up to a hundred years, or is refused.
pub fn duration(bytes: &[u8]) {
    const HUNDRED_YEARS: u64 = 36_500 * 24 * 60 * 60 * 1_000;
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(millis) = durations::parse(text) {
        assert!((1..=HUNDRED_YEARS).contains(&millis), "{millis}");
    }
}
