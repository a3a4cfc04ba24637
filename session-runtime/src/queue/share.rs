//! A process's share of a key: when it leaves the record to others, and for how long.
//!
//! Who is farther from the store than others wins nothing by itself: before its swap arrives, theirs have come. Nor can they
//! see that it tries. So one version in sixteen is *quiet*. It is told by its bits, so that all who see it agree: those who
//! have swapped more than their share of late leave it alone for a while, the longer the more they had, and who has swapped
//! little goes on at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::record::Version;

/// One version in so many is quiet.
const QUIET: u8 = 16;

/// For how long a quiet version is left alone at most: two round trips of whoever is farthest away.
const REST: Duration = Duration::from_millis(12);

/// An allowance that nobody draws on is full after so long.
const FULL: Duration = Duration::from_millis(200);

/// What a swap takes of it. With forty a second a process does not have to give way.
const SWAP: Duration = Duration::from_millis(25);

/// A process that nobody has overtaken for so long may have the key for itself,
const ALONE: Duration = Duration::from_secs(1);

/// and leaves it alone no more often than that.
const SELDOM: Duration = Duration::from_millis(100);

/// After so many swaps in vain a process lets its other tasks run, and for how long.
const IN_VAIN: (u32, Duration) = (16, Duration::from_millis(1));

/// A process's share of a key of late.
#[derive(Default)]
pub(super) struct Share {
    /// What was left of the allowance, and when that was. It was full before.
    allowance: Option<(Duration, Instant)>,
    /// The last quiet version that was seen.
    quiet: Option<Version>,
    /// When another process was last faster.
    overtaken: Option<Instant>,
    /// When a version was last left alone.
    rested: Option<Instant>,
    /// How many swaps in a row have come to nothing.
    in_vain: u32,
}

impl Share {
    /// Returns for how long to leave a record of that version to others.
    pub(super) fn rest(&mut self, version: Option<Version>, now: Instant) -> Duration {
        let quiet = version.map_or(Duration::ZERO, |version| self.rest_at(version, now));
        let (often, least) = IN_VAIN;
        if self.in_vain > 0 && self.in_vain.is_multiple_of(often) {
            quiet.max(least)
        } else {
            quiet
        }
    }

    fn rest_at(&mut self, version: Version, now: Instant) -> Duration {
        if !is_quiet(version) || self.quiet == Some(version) {
            return Duration::ZERO;
        }
        self.quiet = Some(version);
        let within = |at: Option<Instant>, time| at.is_some_and(|at| now - at < time);
        if !within(self.overtaken, ALONE) && within(self.rested, SELDOM) {
            return Duration::ZERO;
        }
        let spent = FULL - self.allowance(now);
        let rest = REST.mul_f64(spent.div_duration_f64(FULL));
        if !rest.is_zero() {
            self.rested = Some(now);
        }
        rest
    }

    fn allowance(&self, now: Instant) -> Duration {
        let (left, at) = self.allowance.unwrap_or((FULL, now));
        FULL.min(left + now.saturating_duration_since(at))
    }

    /// Takes note of a swap.
    pub(super) fn swapped(&mut self, written: bool, now: Instant) {
        if written {
            self.allowance = Some((self.allowance(now).saturating_sub(SWAP), now));
            self.in_vain = 0;
        } else {
            self.overtaken = Some(now);
            self.in_vain += 1;
        }
    }
}

fn is_quiet(version: Version) -> bool {
    version.to_bytes()[0].is_multiple_of(QUIET)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::unnecessary_wraps, reason = "as `rest` takes it")]
    fn quiet(number: u8) -> Option<Version> {
        Some(Version::from_bytes([0, 0, 0, 0, 0, 0, 0, number]))
    }

    /// A share of somebody who has done so many swaps.
    fn after(swaps: u32, now: Instant) -> Share {
        let mut share = Share::default();
        (0..swaps).for_each(|_| share.swapped(true, now));
        share
    }

    #[test]
    fn a_sixteenth_of_all_versions_is_quiet() {
        let versions = (0..=u8::MAX).map(|byte| Version::from_bytes([byte, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(versions.filter(|version| is_quiet(*version)).count(), 16);
    }

    #[test]
    fn who_has_swapped_much_leaves_a_quiet_version_alone_once() {
        let now = Instant::now();
        let loud = Some(Version::from_bytes([1; 8]));
        for (swaps, rest) in [(0, 0), (2, 3), (4, 6), (8, 12), (100, 12)] {
            let mut share = after(swaps, now);
            assert_eq!(share.rest(loud, now), Duration::ZERO);
            assert_eq!(share.rest(quiet(1), now), rest * MS, "{swaps}");
            assert_eq!(share.rest(quiet(1), now), Duration::ZERO);
        }
    }

    #[test]
    fn who_waits_for_long_goes_on_at_once() {
        let now = Instant::now();
        for (waited, rest) in [(0, 12), (50, 9), (100, 6), (200, 0), (1_000, 0)] {
            let mut share = after(100, now);
            assert_eq!(share.rest(quiet(1), now + waited * MS), rest * MS);
        }
    }

    #[test]
    fn who_is_not_overtaken_rests_seldom() {
        let now = Instant::now();
        let mut share = after(8, now);
        let mut rests = |times: std::ops::Range<u32>, overtaken: bool| {
            let rests = times.filter(|ms| {
                let now = now + *ms * MS;
                share.swapped(!overtaken || ms % 2 == 0, now);
                let version = quiet(u8::try_from(ms % 200).expect("a byte"));
                !share.rest(version, now).is_zero()
            });
            rests.count()
        };
        assert_eq!(rests(0..1_000, false), 10);
        assert_eq!(rests(1_000..2_000, true), 1_000);
    }

    #[test]
    fn who_tries_in_vain_lets_other_tasks_run() {
        let now = Instant::now();
        let mut share = Share::default();
        let rests: Vec<_> = (1..=64)
            .filter(|_| {
                share.swapped(false, now);
                share.rest(None, now) == MS
            })
            .collect();
        assert_eq!(rests, [16, 32, 48, 64]);
    }
}
