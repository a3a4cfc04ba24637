//! Time: a point in it, where it comes from, and whether that can be trusted.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time, in milliseconds since the Unix epoch.
///
/// ```
/// use session_runtime::Timestamp;
/// use std::time::Duration;
///
/// let t = Timestamp::from_millis(1_000);
/// assert_eq!(t + Duration::from_secs(2), Timestamp::from_millis(3_000));
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[repr(Rust, packed(4))] // an expiry, which may be absent, takes 12 bytes then, and not 16: each slot in memory has one
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the point `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_millis(millis.unsigned_abs())
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates instead of overflowing, so that a lifetime of "forever" is allowed.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(millis(after)),
            Err(before) => Self(millis(before.duration()).saturating_neg()),
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_millis(time.0.unsigned_abs());
        let shifted = if time.0 < 0 {
            UNIX_EPOCH.checked_sub(distance)
        } else {
            UNIX_EPOCH.checked_add(distance)
        };
        shifted.unwrap_or(UNIX_EPOCH)
    }
}

/// Tells the time. Apps use [`SystemClock`]; tests inject their own.
///
/// ```
/// use session_runtime::{Clock, SystemClock, Timestamp};
///
/// let clock = SystemClock::default();
/// assert!(clock.now() > Timestamp::from_millis(0));
/// ```
pub trait Clock: Send + Sync + 'static {
    /// Returns the wall clock's time. It may step, forwards and backwards.
    fn now(&self) -> Timestamp;

    /// Returns the time passed since a point of the clock's own choosing. It never steps, and so tells a step of
    /// [`now`](Self::now) from time that has really passed.
    fn elapsed(&self) -> Duration;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn elapsed(&self) -> Duration {
        (**self).elapsed()
    }
}

/// Reads the operating system's clocks.
///
/// ```
/// use session_runtime::{Clock, SystemClock};
/// assert!(SystemClock::default().elapsed().as_secs() < 60);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// How far two clocks may lie apart before what depends on them stands still.
const TOLERANCE: i64 = 60_000;

/// How long a wall clock has to keep to a new time before that is taken for the right one.
const SETTLED_AFTER: Duration = Duration::from_secs(60 * 60);

/// Watches one clock for steps.
///
/// A wall clock that is set an hour or ten years off must not extend or delete anything. It is compared
/// with the monotonic clock; after a step it is distrusted until it returns or has held for an hour.
pub(crate) struct Watch {
    clock: Arc<dyn Clock>,
    /// Wall clock less monotonic clock, as trusted, and what it stepped to, if it did.
    seen: Mutex<Seen>,
}

struct Seen {
    trusted: i64,
    stepped: Option<(i64, Duration)>,
}

impl Watch {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let trusted = offset(clock.now(), clock.elapsed());
        Self {
            clock,
            seen: Mutex::new(Seen {
                trusted,
                stepped: None,
            }),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns `true` if the wall clock can be trusted, which has just said `now`.
    pub(crate) fn is_steady(&self, now: Timestamp) -> bool {
        let elapsed = self.clock.elapsed();
        let current = offset(now, elapsed);
        self.seen().observe(current, elapsed)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn observe(&mut self, current: i64, elapsed: Duration) -> bool {
        if near(current, self.trusted) {
            *self = Self {
                trusted: current,
                stepped: None,
            };
            return true;
        }
        match self.stepped {
            Some((to, at)) if near(current, to) => {
                let settled = elapsed.saturating_sub(at) >= SETTLED_AFTER;
                if settled {
                    *self = Self {
                        trusted: current,
                        stepped: None,
                    };
                }
                settled
            }
            _ => {
                self.stepped = Some((current, elapsed));
                false
            }
        }
    }
}

fn offset(wall: Timestamp, monotonic: Duration) -> i64 {
    wall.0.saturating_sub(millis(monotonic))
}

pub(crate) fn near(a: i64, b: i64) -> bool {
    a.abs_diff(b) <= TOLERANCE.unsigned_abs()
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}
