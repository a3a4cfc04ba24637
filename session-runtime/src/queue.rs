//! Queues: where the swaps of one key wait for each other after a conflict, within the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout_at};

use crate::key::Key;
use crate::record::Record;

/// After so many swaps in a row, or so long, a queue rests: other processes get their turns.
const IN_A_ROW: u32 = 16;
const AT_A_TIME: Duration = Duration::from_millis(20);

/// For how long, on average; longer where others are known to wait.
const REST: Duration = Duration::from_millis(5);

/// Whoever has paused for so long has rested.
const PAUSE: Duration = Duration::from_millis(10);

/// How long after a conflict the swaps of a key queue from the start, and others are thought to wait.
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
    row: Row,
    /// When another process was faster.
    stale_at: Option<Instant>,
}

/// The swaps since the last rest.
#[derive(Default)]
struct Row {
    /// When the first began, and the last ended.
    times: Option<(Instant, Instant)>,
    written: u32,
    /// Those that came to nothing, since another process was faster.
    stale: u32,
}

impl Row {
    /// Returns for how long to rest, on average, if the row is over.
    fn rest(&self, others_wait: bool, now: Instant) -> Option<Duration> {
        let (began, ended) = self.times?;
        let took = ended - began;
        if now - ended >= PAUSE {
            return Some(Duration::ZERO);
        }
        if self.written < IN_A_ROW && took < AT_A_TIME {
            return None;
        }
        Some(match self.written {
            _ if !others_wait => REST,
            // So slow a one is in nobody's way.
            0 | 1 => Duration::ZERO,
            // As long as it took: who is farther away needs that. Longer where many want the key.
            written => took.clamp(REST, AT_A_TIME) * (1 + self.stale.div_ceil(written).min(3)),
        })
    }

    fn add(&mut self, began: Instant, written: bool) {
        let (first, _) = self.times.unwrap_or((began, began));
        self.times = Some((first, Instant::now()));
        self.written += u32::from(written);
        self.stale += u32::from(!written);
    }
}

impl Last {
    /// Rests where it is time for that.
    async fn rest(&mut self, deadline: Instant) {
        let now = Instant::now();
        let stale_at = self.stale_at.filter(|at| now - *at < CONTENDED);
        if let Some(average) = self.row.rest(stale_at.is_some(), now) {
            self.row = Row::default();
            // Nobody is made to miss the deadline.
            let most = deadline.saturating_duration_since(now) / 2;
            sleep(drawn(average).min(most)).await;
        }
    }
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
        last.rest(deadline).await;
        let number = self.turns.fetch_add(1, Ordering::SeqCst) + 1;
        let began = Instant::now();
        Some(Turn {
            last,
            number,
            began,
        })
    }
}

/// Returns about that time, give or take a half.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + rand::random::<f64>())
}

/// Draws a time that is so long on average, and now and then much longer: somebody may be farther away than others.
fn drawn(average: Duration) -> Duration {
    let drawn = -rand::random::<f64>().max(0.02).ln();
    average.mul_f64(drawn)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A turn in a queue.
pub(crate) struct Turn<'a> {
    last: MutexGuard<'a, Last>,
    number: u64,
    began: Instant,
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
        self.last.row.add(self.began, written);
        if !written {
            self.last.stale_at = Some(Instant::now());
        }
    }
}
