//! How much is being written, and how long that takes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Counts and times what requests write, so that sweeping can keep out of their way, and keep up with them.
#[derive(Default)]
pub(crate) struct Traffic {
    swaps: AtomicUsize,
    creations: AtomicUsize,
    /// The store is sweeping just now.
    sweeping: AtomicBool,
    /// Swaps that began while it was not.
    alone: Times,
    /// Swaps that began while it was.
    beside: Times,
}

/// The writes since somebody last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) swaps: usize,
    /// How many of them put a record where none was.
    pub(crate) creations: usize,
    /// The time of swaps that began while nothing was swept; a store that answers at once is not timed.
    pub(crate) alone: Total,
    /// The time of swaps that began while something was.
    pub(crate) beside: Total,
}

/// The time that so many things took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) count: u32,
    pub(crate) time: Duration,
}

impl Total {
    pub(crate) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.time = self.time.saturating_add(other.time);
    }

    /// Returns the mean; `None` of nothing.
    pub(crate) fn mean(self) -> Option<Duration> {
        self.time.checked_div(self.count)
    }
}

/// A [`Total`] that many threads add to.
#[derive(Default)]
struct Times {
    count: AtomicUsize,
    nanos: AtomicU64,
}

impl Times {
    fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn take(&self) -> Total {
        Total {
            count: u32::try_from(take(&self.count)).unwrap_or(u32::MAX),
            time: Duration::from_nanos(self.nanos.swap(0, Ordering::Relaxed)),
        }
    }
}

fn take(count: &AtomicUsize) -> usize {
    count.swap(0, Ordering::Relaxed)
}

/// A swap that the store has been asked for.
pub(crate) struct Asked {
    begun: Instant,
    beside: bool,
}

impl Traffic {
    /// Takes note of a swap; `creates` if it puts a record where none was.
    pub(crate) fn count_swap(&self, creates: bool) {
        self.swaps.fetch_add(1, Ordering::Relaxed);
        if creates {
            self.creations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Begins to time a swap. It goes by what it began beside: a slow one is no likelier to be counted among those.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            begun: Instant::now(),
            beside: self.sweeping.load(Ordering::Relaxed),
        }
    }

    /// Takes note that a swap was answered.
    pub(crate) fn answered(&self, asked: &Asked) {
        let times = if asked.beside {
            &self.beside
        } else {
            &self.alone
        };
        times.add(asked.begun.elapsed());
    }

    /// Takes note that the store begins to sweep, or has done so.
    pub(crate) fn set_sweeping(&self, sweeping: bool) {
        self.sweeping.store(sweeping, Ordering::Relaxed);
    }

    /// Returns what was written since the last call.
    pub(crate) fn take(&self) -> Written {
        Written {
            swaps: take(&self.swaps),
            creations: take(&self.creations),
            alone: self.alone.take(),
            beside: self.beside.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn swaps_and_creations_are_counted_once() {
        let traffic = Traffic::default();
        traffic.count_swap(true);
        traffic.count_swap(false);
        let written = traffic.take();
        assert_eq!((written.swaps, written.creations), (2, 1));
        assert_eq!(traffic.take(), Written::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_swap_is_timed_among_those_that_it_began_beside() {
        let traffic = Traffic::default();
        let before = traffic.asked();
        tokio::time::advance(MILLISECOND).await;
        traffic.set_sweeping(true);
        let amid = traffic.asked();
        tokio::time::advance(2 * MILLISECOND).await;
        traffic.answered(&before);
        traffic.set_sweeping(false);
        traffic.answered(&amid);
        let Written { alone, beside, .. } = traffic.take();
        assert_eq!(alone.mean(), Some(3 * MILLISECOND));
        assert_eq!(beside.mean(), Some(2 * MILLISECOND));
        assert_eq!(traffic.take().alone.mean(), None);
    }
}
