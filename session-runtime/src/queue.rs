//! Queues: where the swaps of one key wait for each other after a conflict, within the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout_at};

use crate::key::Key;
use crate::record::Record;

/// After so many swaps of one key in a row the process lets others have it.
const IN_A_ROW: u32 = 16;

/// For how long, give or take a half; longer where others were faster.
const REST: Duration = Duration::from_millis(5);

/// How long after a conflict the swaps of a key queue from the start.
const CONTENDED: Duration = Duration::from_secs(1);

/// Keys that have conflicts share so many queues.
const QUEUES: usize = 64;

/// Where the swaps of one key wait for each other after a conflict.
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

/// What the last in a queue has left.
#[derive(Default)]
struct Last {
    left: Option<Left>,
    /// Swaps since the last rest.
    in_a_row: u32,
    /// Of these, those that came to nothing since another process was faster.
    stale: u32,
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

    /// Returns `true` if the key had a conflict a moment ago. `now` is of the monotonic clock.
    pub(crate) fn is_contended(&self, key: &Key, now: Duration) -> bool {
        let (contended, until) = &self.contended;
        contended.load(Ordering::Relaxed) == key.spread()
            && millis(now) < until.load(Ordering::Relaxed)
    }

    /// Notes a conflict.
    pub(crate) fn contend(&self, key: &Key, now: Duration) {
        let (contended, until) = &self.contended;
        contended.store(key.spread(), Ordering::Relaxed);
        until.store(millis(now + CONTENDED), Ordering::Relaxed);
    }

    /// Waits for a turn, and where it is time for that, gives other processes theirs. `None` if there is none by the
    /// deadline.
    pub(crate) async fn turn(&self, deadline: Instant) -> Option<Turn<'_>> {
        let mut last = timeout_at(deadline, self.last.lock()).await.ok()?;
        if last.in_a_row >= IN_A_ROW {
            let rest = jittered(REST * (1 + last.stale / 4));
            (last.in_a_row, last.stale) = (0, 0);
            sleep(rest.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
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

/// A turn in a queue.
pub(crate) struct Turn<'a> {
    last: MutexGuard<'a, Last>,
    number: u64,
}

impl Turn<'_> {
    /// Goes on from what the last one left of that key, if that is newer than `there`: a plan that leaves things as they
    /// are decides by what it sees. It is if its turn began after `since`, which is when `there` was seen, or if it
    /// comes from `there`.
    pub(crate) fn last_of(&self, key: &Key, since: u64, there: &mut Option<Arc<Record>>) {
        let Some(left) = self.last.left.as_ref().filter(|left| left.key == *key) else {
            return;
        };
        let succeeds = |there: &Arc<Record>| left.record.is_or_was(there.version());
        if since < left.turn || there.as_ref().is_some_and(succeeds) {
            *there = Some(Arc::clone(&left.record));
        }
    }

    /// Leaves what is there now to the next one.
    pub(crate) fn leave(&mut self, key: &Key, record: Option<&Arc<Record>>, written: bool) {
        let turn = self.number;
        self.last.left = record.map(|record| Left {
            key: key.clone(),
            record: Arc::clone(record),
            turn,
        });
        self.last.in_a_row += 1;
        self.last.stale += u32::from(!written);
    }
}
