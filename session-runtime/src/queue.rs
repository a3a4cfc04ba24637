//! Queues: where the swaps of one key wait for each other after a conflict, within the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout_at};

use crate::key::Key;
use crate::record::Record;

mod share;

use share::Share;

/// How long after a conflict the swaps of a key queue from the start.
const CONTENDED: Duration = Duration::from_secs(1);

/// Keys that have conflicts share so many queues.
const QUEUES: usize = 64;

/// The queues in which the swaps of one key wait for each other after a conflict.
pub(crate) struct Queues([Queue; QUEUES]);

impl Default for Queues {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Queue::default()))
    }
}

impl Queues {
    pub(crate) fn of(&self, key: &Key) -> &Queue {
        let at = key.spread() % QUEUES as u64;
        &self.0[usize::try_from(at).unwrap_or(0)]
    }
}

/// The queue of some keys.
#[derive(Default)]
pub(crate) struct Queue {
    last: Mutex<Last>,
    /// How many turns there have been.
    turns: AtomicU64,
    /// The key that had the last conflict, as a number, and until when its swaps queue from the start, in milliseconds of
    /// the monotonic clock.
    contended: (AtomicU64, AtomicU64),
}

/// The record that the last in a queue has left.
#[derive(Default)]
struct Last {
    left: Option<Left>,
    share: Share,
}

/// A record as a turn has left it.
struct Left {
    key: Key,
    record: Arc<Record>,
    /// The number of that turn.
    turn: u64,
}

impl Queue {
    /// Returns how many turns there have been: a later one sees what the store holds after this.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Returns `true` if the key had a conflict a moment ago. `now` tells the monotonic clock's time.
    pub(crate) fn is_contended(&self, key: &Key, now: impl FnOnce() -> Duration) -> bool {
        let (contended, until) = &self.contended;
        contended.load(Ordering::Relaxed) == key.spread()
            && millis(now()) < until.load(Ordering::Relaxed)
    }

    /// Notes a conflict.
    pub(crate) fn contend(&self, key: &Key, now: Duration) {
        let (contended, until) = &self.contended;
        contended.store(key.spread(), Ordering::Relaxed);
        until.store(millis(now + CONTENDED), Ordering::Relaxed);
    }

    /// Waits for a turn. `None` if there is none by the deadline.
    pub(crate) async fn turn(&self, deadline: Instant) -> Option<Turn<'_>> {
        let last = timeout_at(deadline, self.last.lock()).await.ok()?;
        let number = self.turns.fetch_add(1, Ordering::SeqCst) + 1;
        Some(Turn { last, number })
    }
}

/// Returns about that time, give or take a half.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + rand::random::<f64>())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A turn in a queue: until it drops, no other swap of its keys is made in this process.
pub(crate) struct Turn<'a> {
    last: MutexGuard<'a, Last>,
    number: u64,
}

impl Turn<'_> {
    /// Goes on from what the last one left of that key, if that is newer than `there`: a plan that leaves things as they
    /// are decides by what it sees. It is if its turn began after `since`, which is when `there` was at hand.
    pub(crate) fn last_of(&self, key: &Key, since: u64, there: &mut Option<Arc<Record>>) {
        let left = self.last.left.as_ref().filter(|left| left.key == *key);
        let is_newer = |left: &&Left| {
            let follows = |there: &Arc<Record>| follows(&left.record, there);
            since < left.turn || there.as_ref().is_some_and(follows)
        };
        if let Some(left) = left.filter(is_newer) {
            *there = Some(Arc::clone(&left.record));
        }
    }

    /// Leaves the record to other processes for a while, where it is their turn.
    pub(crate) async fn give_way(&mut self, there: Option<&Arc<Record>>, deadline: Instant) {
        let now = Instant::now();
        let version = there.map(|there| there.version());
        let rest = self.last.share.rest(version, now);
        if rest.is_zero() {
            return;
        }
        // Never shorter, and not all at once. Nobody is made to miss the deadline.
        let rest = rest.mul_f64(1.0 + 0.2 * rand::random::<f64>());
        sleep(rest.min(deadline.saturating_duration_since(now) / 2)).await;
    }

    /// Leaves what is there now to the next one.
    pub(crate) fn leave(&mut self, key: &Key, record: Option<&Arc<Record>>, written: bool) {
        let left = self.last.left.take().filter(|left| left.key == *key);
        let version = record.map(|record| record.version());
        // It had not seen what this process has written itself.
        let is_own = !written && left.map(|left| left.record.version()) == version;
        if !is_own {
            self.last.share.swapped(written, Instant::now());
        }
        self.last.left = record.map(|record| Left {
            key: key.clone(),
            record: Arc::clone(record),
            turn: self.number,
        });
    }
}

/// Returns `true` if a record is surely a later one than another of the same key: it remembers that, or has times that
/// only move forward.
fn follows(record: &Record, other: &Record) -> bool {
    record.is_or_was(other.version())
        || other.seen() < record.seen()
        || other.updated() < record.updated()
}
