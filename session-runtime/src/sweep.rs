//! Sweeping: the task that deletes expired records in the background.

use std::mem;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::config::Config;
use crate::error::{Causes, StoreError};
use crate::event::{EventKind, EventSink};
use crate::health::{Call, Health};
use crate::record::Ended;
use crate::store::{AnyStore, Swept};
use crate::traffic::Traffic;

/// So many records go in one call while requests write: none of them waits for more than that.
const BATCH: usize = 5;

/// So many at most go in one call, where nobody is in the way or more are created than are swept.
const LARGE: usize = 1_000;

/// How long a call and its pause take together, about, where more have to go than a few.
const PERIOD: Duration = Duration::from_millis(20);

/// Nobody is in the way once nothing has been written for so long.
const QUIET: Duration = Duration::from_secs(1);

/// How long a call may take, whatever else the store tidies up in it: this is for one that has fallen silent.
const LONGEST: Duration = Duration::from_secs(120);

/// How long requests have the store to themselves between two batches, in batches: a store that is slow since it has
/// much to do is swept the more slowly.
const PAUSE: u32 = 40;

/// Decides how many records the next call sweeps, and how long requests have the store to themselves before it.
///
/// While requests write, a few at a time with long pauses; but twice as many as are created, or what expires would pile
/// up. When nobody has written for a second, as fast as it goes.
struct Pace {
    written: Instant,
    looked: Instant,
}

/// A call that is to be made, and what comes before it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    pause: Duration,
    batch: usize,
}

impl Pace {
    /// Begins as if somebody had just written: nobody knows yet.
    fn new(now: Instant) -> Self {
        let (written, looked) = (now, now);
        Self { written, looked }
    }

    /// Returns the next step after a call that took `taken`. Since the last step requests have made `swaps`, of them
    /// `creations`.
    fn step(&mut self, (swaps, creations): (usize, usize), taken: Duration, now: Instant) -> Step {
        let since = now.duration_since(mem::replace(&mut self.looked, now));
        if swaps > 0 {
            self.written = now;
        }
        if now.duration_since(self.written) >= QUIET {
            let pause = Duration::ZERO;
            return Step {
                pause,
                batch: LARGE,
            };
        }
        let pause = PAUSE * taken;
        if creations == 0 {
            return Step {
                pause,
                batch: BATCH,
            };
        }
        // The time in which one record is to go.
        let each = since / u32::try_from(2 * creations).unwrap_or(u32::MAX);
        let in_period = PERIOD.as_nanos() / each.as_nanos().max(1);
        let batch = usize::try_from(in_period).map_or(LARGE, |batch| batch.clamp(BATCH, LARGE));
        let period = each.saturating_mul(u32::try_from(batch).unwrap_or(u32::MAX));
        Step {
            pause: pause.min(period.saturating_sub(taken)),
            batch,
        }
    }
}

/// Starts the sweeping task with the first request, when a runtime is sure to be there. The task ends with
/// the last layer that has the store.
pub(crate) fn start(config: &Config) {
    let Some(period) = config
        .sweep_every
        .filter(|_| !config.sweeping.is_completed())
    else {
        return;
    };
    let sweeper = Sweeper {
        store: Arc::downgrade(&config.store),
        events: config.events.clone(),
        traffic: Arc::clone(&config.traffic),
        health: Arc::clone(&config.health),
    };
    config
        .sweeping
        .call_once(|| drop(tokio::spawn(sweeper.run(period))));
}

struct Sweeper {
    store: Weak<dyn AnyStore>,
    events: EventSink,
    traffic: Arc<Traffic>,
    health: Arc<Health>,
}

impl Sweeper {
    async fn run(self, period: Duration) {
        loop {
            // Many instances that start together should not sweep together.
            tokio::time::sleep(period.mul_f64(0.5 + rand::random::<f64>())).await;
            let Some(store) = self.store.upgrade() else {
                return;
            };
            self.sweep(&*store).await;
        }
    }

    async fn sweep(&self, store: &dyn AnyStore) {
        // What was created since the last time has had its sweep, or has not expired.
        self.traffic.take();
        let mut pace = Pace::new(Instant::now());
        let mut batch = BATCH;
        loop {
            let begun = Instant::now();
            let swept = timeout(LONGEST, store.sweep(batch)).await;
            let swept = swept.unwrap_or_else(|_| Err(StoreError::timeout()));
            self.health.answered(Call::Sweep, begun, &swept);
            match swept {
                Ok(swept) => {
                    self.emit(&swept);
                    tracing::debug!(swept = swept.deleted, "expired sessions are swept");
                    if swept.deleted < batch {
                        return;
                    }
                    let step = pace.step(self.traffic.take(), begun.elapsed(), Instant::now());
                    batch = step.batch;
                    if step.pause.is_zero() {
                        // A store that answers at once would leave nobody else a turn.
                        tokio::task::yield_now().await;
                    } else {
                        tokio::time::sleep(step.pause).await;
                    }
                }
                Err(error) => {
                    if !error.is_away() {
                        tracing::warn!(error = %Causes(&error), "expired sessions could not be swept");
                    }
                    return;
                }
            }
        }
    }

    fn emit(&self, swept: &Swept) {
        for (key, user) in &swept.expired {
            let kind = EventKind::Ended(Ended::Expired);
            self.events.emit_to_all(&kind, key, user.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn requests_that_write_have_the_store_to_themselves_for_most_of_the_time() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..1_000 {
            now += 10 * MILLISECOND;
            let step = pace.step((3, 0), MILLISECOND, now);
            assert_eq!((step.batch, step.pause), (BATCH, PAUSE * MILLISECOND));
        }
    }

    #[test]
    fn a_moment_without_a_write_is_not_taken_for_quiet() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for round in 0..1_000 {
            now += QUIET / 4;
            let step = pace.step((usize::from(round % 4 == 0), 0), MILLISECOND, now);
            assert_eq!(step.batch, BATCH);
        }
    }

    #[test]
    fn where_nobody_writes_it_goes_as_fast_as_it_can() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let step = pace.step((0, 0), MILLISECOND, now + QUIET / 2);
        assert_eq!(step.batch, BATCH);
        let step = pace.step((0, 0), MILLISECOND, now + QUIET);
        assert_eq!((step.batch, step.pause), (LARGE, Duration::ZERO));
        let step = pace.step((1, 0), MILLISECOND, now + 2 * QUIET);
        assert_eq!((step.batch, step.pause), (BATCH, PAUSE * MILLISECOND));
    }

    /// A record takes 100 µs to sweep, as in no store; sessions are created at each of these rates.
    #[test]
    fn it_is_never_slower_than_sessions_are_created() {
        let a_record = MILLISECOND / 10;
        for per_second in [1, 10, 100, 1_000, 4_000] {
            let (mut now, mut batch) = (Instant::now(), BATCH);
            let (mut pace, begun) = (Pace::new(now), now);
            let (mut created, mut swept) = (0, 0);
            while now.duration_since(begun) < 60 * QUIET {
                let taken = a_record * u32::try_from(batch).unwrap();
                swept += batch;
                let since = now;
                now += taken;
                let due = |at: Instant| {
                    let per_record = QUIET / per_second;
                    (at.duration_since(begun).as_nanos() / per_record.as_nanos()) as usize
                };
                let new = due(now) - created;
                created += new;
                let step = pace.step((new, new), taken, now);
                assert!(now > since);
                now += step.pause;
                batch = step.batch;
            }
            assert!(swept >= created, "{swept} of {created} at {per_second}");
        }
    }
}
