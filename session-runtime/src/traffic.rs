//! How much is being written.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what requests write, so that sweeping can keep out of their way, and keep up with them.
#[derive(Default)]
pub(crate) struct Traffic {
    swaps: AtomicUsize,
    creations: AtomicUsize,
}

impl Traffic {
    /// Takes note of a swap; `creates` if it puts a record where none was.
    pub(crate) fn count_swap(&self, creates: bool) {
        self.swaps.fetch_add(1, Ordering::Relaxed);
        if creates {
            self.creations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many swaps there were since the last call, and how many of them were creations.
    pub(crate) fn take(&self) -> (usize, usize) {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
        (take(&self.swaps), take(&self.creations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps_and_creations_are_counted_once() {
        let traffic = Traffic::default();
        traffic.count_swap(true);
        traffic.count_swap(false);
        assert_eq!(traffic.take(), (2, 1));
        assert_eq!(traffic.take(), (0, 0));
    }
}
