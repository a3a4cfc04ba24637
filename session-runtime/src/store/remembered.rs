//! The commits that a store has applied of late, so that a repeat of one is told from a new one.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;

use super::token::Token;
use crate::change::REMEMBERED;
use crate::clock::Timestamp;

/// The commits of the last minute, and of up to one minute more.
///
/// They are kept in two generations of a minute each, and forgotten a generation at a time: no commit needs
/// a time of its own, and none is looked at again to be forgotten.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    since: Option<Timestamp>,
    current: Generation,
    previous: Generation,
}

type Generation = HashSet<Token, BuildHasherDefault<AsItIs>>;

/// Hashes a token as its own lower half, which is random.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().copied().map_or(0, u64::from_le_bytes);
    }

    fn write_u128(&mut self, token: u128) {
        self.write(&token.to_le_bytes());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Remembered {
    /// Begins a new generation if the current one is a minute old, and says how many commits that forgot.
    ///
    /// A clock that has stepped, in either direction, begins one too: else an hour's step would keep
    /// every commit for an hour.
    pub(super) fn forget(&mut self, now: Timestamp) -> Option<usize> {
        let since = *self.since.get_or_insert(now);
        if now.since(since).max(since.since(now)) < REMEMBERED {
            return None;
        }
        self.since = Some(now);
        // As many are to be expected as before, so that the table need not grow step by step.
        let next =
            Generation::with_capacity_and_hasher(self.current.len(), BuildHasherDefault::default());
        let last = mem::replace(&mut self.current, next);
        Some(mem::replace(&mut self.previous, last).len())
    }

    /// Forgets all if the last was long ago, and says how many that were. For when no commit comes by.
    ///
    /// `now` is the store's time, which may be a minute off the app's. No commit of this generation is later
    /// than its first minute, so after the third all are over a minute old.
    #[cfg(feature = "memory")]
    pub(super) fn forget_idle(&mut self, now: Timestamp) -> usize {
        if self
            .since
            .is_none_or(|since| now.since(since) < 3 * REMEMBERED)
        {
            return 0;
        }
        mem::take(self).len()
    }

    #[cfg(feature = "memory")]
    pub(super) fn len(&self) -> usize {
        self.current.len() + self.previous.len()
    }

    pub(super) fn has(&self, token: Token) -> bool {
        self.current.contains(&token) || self.previous.contains(&token)
    }

    pub(super) fn insert(&mut self, token: Token) {
        self.current.insert(token);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::change::CommitId;
    use crate::key::{Key, UserId};

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn token() -> Token {
        Token::new(&Key::User(UserId::new("ada")), CommitId::random())
    }

    #[test]
    fn a_commit_is_remembered_for_a_minute_at_least() {
        let mut remembered = Remembered::default();
        remembered.forget(START);
        remembered.forget(START + Duration::from_millis(59_999));
        let late = token();
        remembered.insert(late);
        remembered.forget(START + REMEMBERED);
        remembered.forget(START + Duration::from_millis(119_999));
        assert!(remembered.has(late));
    }

    #[test]
    fn a_commit_is_forgotten_in_the_end() {
        let mut remembered = Remembered::default();
        let early = token();
        remembered.forget(START);
        remembered.insert(early);
        assert_eq!(remembered.forget(START + REMEMBERED), Some(0));
        assert_eq!(remembered.forget(START + 2 * REMEMBERED), Some(1));
        assert!(!remembered.has(early));
    }

    #[test]
    #[cfg(feature = "memory")]
    fn an_idle_store_forgets_only_what_is_over_a_minute_old_by_either_clock() {
        let mut remembered = Remembered::default();
        remembered.forget(START);
        remembered.forget(START + Duration::from_millis(59_999));
        remembered.insert(token());
        // The app's clock is a minute behind, so that but a minute has passed since.
        assert_eq!(
            remembered.forget_idle(START + Duration::from_millis(179_999)),
            0
        );
        assert_eq!(remembered.forget_idle(START + 3 * REMEMBERED), 1);
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_while_keeps_nothing_for_long() {
        let mut remembered = Remembered::default();
        let wrong = token();
        remembered.forget(START + 60 * REMEMBERED);
        remembered.insert(wrong);
        remembered.forget(START);
        remembered.forget(START + REMEMBERED);
        assert!(!remembered.has(wrong));
    }
}
