//! Locks for keys: a fixed number, which many keys share.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Enough that commits to different records seldom wait for each other.
const STRIPES: usize = 256;

/// Locks, each for many keys.
pub(super) struct Stripes(Box<[Arc<Mutex<()>>]>);

/// The locks of one or two keys.
pub(super) struct Hold {
    _lower: OwnedMutexGuard<()>,
    _upper: Option<OwnedMutexGuard<()>>,
}

impl Default for Stripes {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Arc::default()).collect())
    }
}

impl Stripes {
    /// Holds one key, or two: the lower stripe first, so that no two tasks wait for each other.
    pub(super) async fn hold(&self, one: u64, other: Option<u64>) -> Hold {
        let one = stripe(one);
        let other = other.map_or(one, stripe);
        let lower = self.lock(one.min(other)).await;
        let upper = if one == other {
            None
        } else {
            Some(self.lock(one.max(other)).await)
        };
        Hold {
            _lower: lower,
            _upper: upper,
        }
    }

    async fn lock(&self, stripe: usize) -> OwnedMutexGuard<()> {
        Arc::clone(&self.0[stripe]).lock_owned().await
    }
}

fn stripe(spread: u64) -> usize {
    usize::from(spread.to_le_bytes()[0]) % STRIPES
}

impl fmt::Debug for Stripes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.0.iter().filter(|stripe| stripe.try_lock().is_err());
        f.debug_struct("Stripes")
            .field("held", &held.count())
            .finish_non_exhaustive()
    }
}
