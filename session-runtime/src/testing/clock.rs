//! A clock that a test moves by hand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};

/// The first of November 2026, midnight UTC.
const START: Timestamp = Timestamp::from_millis(1_793_491_200_000);

/// A clock that stands still until it is moved. Clones are the same clock.
///
/// ```
/// use session_runtime::Clock;
/// use session_runtime::testing::TestClock;
/// use std::time::Duration;
///
/// let clock = TestClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_millis(1));
/// assert_eq!(clock.now(), before + Duration::from_millis(1));
/// ```
#[derive(Clone, Debug, Default)]
pub struct TestClock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    now: Timestamp,
    elapsed: Duration,
}

impl Default for Hands {
    fn default() -> Self {
        Self {
            now: START,
            elapsed: Duration::ZERO,
        }
    }
}

impl TestClock {
    /// Makes a clock at the first of November 2026, midnight UTC.
    ///
    /// ```
    /// use session_runtime::Clock;
    /// use session_runtime::testing::TestClock;
    /// assert_eq!(TestClock::new().now().as_millis(), 1_793_491_200_000);
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets time pass.
    ///
    /// ```
    /// use session_runtime::Clock;
    /// use session_runtime::testing::TestClock;
    /// use std::time::Duration;
    ///
    /// let clock = TestClock::new();
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(clock.elapsed(), Duration::from_secs(5));
    /// ```
    pub fn advance(&self, by: Duration) {
        let mut hands = self.hands();
        hands.now = hands.now + by;
        hands.elapsed += by;
    }

    /// Sets the wall clock forward without time passing, as an operator does by mistake.
    ///
    /// ```
    /// use session_runtime::Clock;
    /// use session_runtime::testing::TestClock;
    /// use std::time::Duration;
    ///
    /// let clock = TestClock::new();
    /// clock.step_forward(Duration::from_secs(3_600));
    /// assert_eq!(clock.elapsed(), Duration::ZERO);
    /// ```
    pub fn step_forward(&self, by: Duration) {
        let mut hands = self.hands();
        hands.now = hands.now + by;
    }

    /// Sets the wall clock back without time passing.
    ///
    /// ```
    /// use session_runtime::Clock;
    /// use session_runtime::testing::TestClock;
    /// use std::time::Duration;
    ///
    /// let clock = TestClock::new();
    /// let before = clock.now();
    /// clock.step_back(Duration::from_secs(3_600));
    /// assert!(clock.now() < before);
    /// ```
    pub fn step_back(&self, by: Duration) {
        let mut hands = self.hands();
        hands.now = hands.now - by;
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.hands().now
    }

    fn elapsed(&self) -> Duration {
        self.hands().elapsed
    }
}
