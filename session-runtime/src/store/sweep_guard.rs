//! Whether a store may sweep: two clocks have to agree on it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{Clock, Timestamp, Watch, near};
use crate::record::Record;
use crate::store::KEPT_AFTER_EXPIRY;

/// Decides whether a store may delete what its clock calls expired.
///
/// A record carries the app's time. A store hands each swap to [`observe_swap`](Self::observe_swap), and asks
/// [`cutoff`](Self::cutoff) before it sweeps: while the two clocks disagree by more than a minute, or the
/// store's own has just stepped, there is no cutoff and nothing is deleted.
///
/// ```
/// use session_runtime::{SystemClock, Timestamp, store::SweepGuard};
///
/// let guard = SweepGuard::new(SystemClock::default());
/// assert!(guard.cutoff().is_some());
/// guard.observe(Timestamp::from_millis(0)); // an app that lives in 1970
/// assert!(guard.cutoff().is_none());
/// ```
#[derive(Debug)]
pub struct SweepGuard {
    watch: Watch,
    /// The app's clock less the store's, as of the last swap.
    skew: Mutex<i64>,
}

impl SweepGuard {
    /// Makes a guard for a store that goes by `clock`.
    pub fn new(clock: impl Clock) -> Self {
        Self {
            watch: Watch::new(Arc::new(clock)),
            skew: Mutex::new(0),
        }
    }

    /// Takes note of the app's time, as a swap carries it: in a record that is new, or was seen later than before.
    pub fn observe_swap(&self, before: Option<&Record>, after: &Record) {
        if before.is_none_or(|before| before.seen() < after.seen()) {
            self.observe(after.seen());
        }
    }

    /// Takes note of the app's time.
    pub fn observe(&self, app: Timestamp) {
        let skew = app.as_millis().saturating_sub(self.watch.now().as_millis());
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner) = skew;
    }

    /// Returns the latest expiry of what may be deleted now, ten minutes ago; `None` while the clocks cannot be trusted.
    pub fn cutoff(&self) -> Option<Timestamp> {
        let skew = *self.skew.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.watch.now();
        let trusted = self.watch.is_steady(now) && near(skew, 0);
        if !trusted {
            tracing::warn!(
                skew_ms = skew,
                "sweeping stands still: the store's clock and the app's disagree, or one has just stepped"
            );
        }
        trusted.then(|| now - KEPT_AFTER_EXPIRY)
    }
}
