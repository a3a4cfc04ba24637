//! For tests: a clock that stands until it is moved.

mod clock;

pub use clock::TestClock;
