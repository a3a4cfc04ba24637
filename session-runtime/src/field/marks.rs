//! What was done to a cell.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;

/// The marks of a cell, and the moment at which it was opened: eight flags, and 56 bits of milliseconds, in one word, so
/// that a cell stays at 40 bytes.
pub(super) struct Marks(AtomicU64);

impl Marks {
    /// `get_mut` handed the value out.
    pub(super) const BORROWED: u64 = 1;
    /// `set` replaced it.
    pub(super) const SET: u64 = 1 << 1;
    /// `clear` or `take` removed what was stored.
    pub(super) const CLEARED: u64 = 1 << 2;
    /// It was read, and that counts: it is a flash, or slides.
    pub(super) const USED: u64 = 1 << 3;
    /// It survives being read.
    pub(super) const KEPT: u64 = 1 << 4;
    /// What is stored does not decode.
    pub(super) const FAILED: u64 = 1 << 5;
    /// It is for this request alone.
    pub(super) const PASSING: u64 = 1 << 6;
    pub(super) const ANY: u64 = 0xff;

    pub(super) fn new(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.as_millis().unsigned_abs() << 8))
    }

    pub(super) fn opened_at(&self) -> Timestamp {
        let millis = self.0.load(Ordering::Relaxed) >> 8;
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    pub(super) fn has(&self, any: u64) -> bool {
        self.0.load(Ordering::Relaxed) & any != 0
    }

    pub(super) fn raise(&self, mark: u64) {
        if !self.has(mark) {
            self.0.fetch_or(mark, Ordering::Relaxed);
        }
    }

    pub(super) fn replace(&mut self, marks: u64) {
        let all = self.0.get_mut();
        *all = *all & !Self::ANY | marks;
    }
}
