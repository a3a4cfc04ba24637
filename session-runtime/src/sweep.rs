//! Sweeping: the task that deletes expired records in the background.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::error::Causes;
use crate::event::{EventKind, EventSink};
use crate::health::{Call, Health};
use crate::record::Ended;
use crate::store::{AnyStore, StoreError, Swept, swept};
use crate::traffic::{Total, Traffic, Written};

/// The smallest batch: so many records go in one call at least. Where a commit waits for the disk, it takes about as long as for one.
const BATCH: usize = 20;

/// So many at most go in one call, where nobody is in the way or more are created than are swept.
const LARGE: usize = 1_000;

/// The longest pause, in batches: so long requests have the store to themselves between two, before it is known whether these
/// disturb them. Of a hundred requests less than one begins beside sweeping then, and not even the slowest in a hundred tell of it.
const PAUSE: u32 = 160;

/// The longest pause, in time: a call that an outage has held up tells nothing of those after it.
const LONGEST: Duration = Duration::from_secs(30);

/// The haste at which a pause is no longer than the call before it.
const MOST_HASTE: u32 = PAUSE;

/// So many swaps beside sweeping tell whether it disturbs them.
const ENOUGH: u32 = 32;

/// Of so many swaps, those beside sweeping tell, however few they are: if there are none, nobody was disturbed.
const ENOUGH_IN_ALL: usize = 200;

/// So much longer no request minds, however fast the store is.
const SLACK: Duration = Duration::from_micros(50);

/// How many swaps the usual time is a mean of, about: the latest count most.
const USUAL_OF: u32 = 64;

/// How long a call and its pause take together, about, where more have to go than a few.
const PERIOD: Duration = Duration::from_millis(20);

/// Nobody is in the way once nothing has been written for so long.
const QUIET: Duration = Duration::from_secs(1);

/// Decides how many records the next call sweeps, and how long requests have the store to themselves before it.
///
/// Nobody knows beforehand how much a store can sweep without its requests feeling it: that depends on the engine, the
/// disk, and what else both are doing. So the layer looks. It times each swap, and compares those that begin amid a sweep
/// with those that begin in the pauses, under the same load: while the former take hardly longer, the haste grows; when they do, it is
/// halved. One figure sets both batch and pause. A batch alone would not do: it costs something however small
/// it is, so where the smallest one disturbs, the pause has to be long; and where no batch does, a long pause would waste most of the time.
///
/// Two bounds hold whatever the swaps take. Twice as many go as are created, or what expires would pile up; and when nobody has
/// written for a second, it goes as fast as it can.
struct Pace {
    /// When somebody last wrote.
    written: Instant,
    looked: Instant,
    /// The time that a swap takes while nothing is swept.
    usual: Option<Duration>,
    /// The swaps since the haste was last set, and those of them that were beside sweeping.
    swaps: usize,
    beside: Total,
    /// How many times larger than the smallest a batch is, and how many times shorter than the longest a pause.
    haste: u32,
}

/// A call that is to be made, and what comes before it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    pause: Duration,
    batch: usize,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            written: now,
            looked: now,
            usual: None,
            swaps: 0,
            beside: Total::default(),
            haste: 1,
        }
    }

    /// Begins anew after some time in which nothing was swept and requests have written `written`. Returns how many records go
    /// first. It is as if somebody had just written: nobody knows when it was.
    fn begin(&mut self, written: &Written, now: Instant) -> usize {
        self.learn(written.alone);
        (self.written, self.looked) = (now, now);
        self.batch()
    }

    /// Returns the next step after a call that took `taken`. Since the last step requests have written `written`.
    fn step(&mut self, written: &Written, taken: Duration, now: Instant) -> Step {
        let since = now.duration_since(mem::replace(&mut self.looked, now));
        self.learn(written.alone);
        self.beside.add(written.beside);
        self.swaps += written.swaps;
        if written.swaps > 0 {
            self.written = now;
        }
        if now.duration_since(self.written) >= QUIET {
            self.restart();
            let (pause, batch) = (Duration::ZERO, LARGE);
            return Step { pause, batch };
        }
        self.decide();
        let (pause, batch) = (self.pause(taken), self.batch());
        if written.creations == 0 {
            return Step { pause, batch };
        }
        // The time in which one record is to go.
        let each = since / u32::try_from(2 * written.creations).unwrap_or(u32::MAX);
        let in_period = PERIOD.as_nanos() / each.as_nanos().max(1);
        let in_period = usize::try_from(in_period).unwrap_or(LARGE).min(LARGE);
        let batch = batch.max(in_period);
        let period = each.saturating_mul(u32::try_from(batch).unwrap_or(u32::MAX));
        Step {
            pause: pause.min(period.saturating_sub(taken)),
            batch,
        }
    }

    /// Takes note of swaps while nothing was swept.
    fn learn(&mut self, alone: Total) {
        let Some(mean) = alone.mean() else {
            return;
        };
        let usual = self.usual.unwrap_or(mean);
        let all = USUAL_OF.saturating_add(alone.count);
        self.usual = Some(usual.saturating_mul(USUAL_OF).saturating_add(alone.time) / all);
    }

    /// Sets the haste, once enough swaps have told.
    fn decide(&mut self) {
        let is_enough = self.beside.count >= ENOUGH || self.swaps >= ENOUGH_IN_ALL;
        let Some(usual) = self.usual.filter(|_| is_enough) else {
            return;
        };
        let bearable = usual + usual / 8 + SLACK;
        self.haste = if self.beside.mean().is_some_and(|mean| mean > bearable) {
            (self.haste / 2).max(1)
        } else {
            (self.haste + self.haste.div_ceil(4)).min(MOST_HASTE)
        };
        self.restart();
    }

    /// Waits for swaps to tell anew.
    fn restart(&mut self) {
        (self.swaps, self.beside) = (0, Total::default());
    }

    fn batch(&self) -> usize {
        (BATCH * self.haste as usize).min(LARGE)
    }

    /// Returns how long to pause after a call that took `taken`: no less than that, up to the longest pause, so that it is known what
    /// swaps take while nothing is swept.
    fn pause(&self, taken: Duration) -> Duration {
        let pause = taken.saturating_mul(PAUSE) / self.haste;
        pause.max(taken).min(LONGEST)
    }
}

/// Starts the sweeping task with the first request, when a runtime is sure to be there. The task ends with
/// the last layer that has the store. If it ends before, since the store panics or with its runtime, the next request starts another.
pub(crate) fn start(config: &Config) {
    let Some(period) = config.sweep_every else {
        return;
    };
    if config.sweeping.load(Ordering::Relaxed) || config.sweeping.swap(true, Ordering::Relaxed) {
        return;
    }
    let sweeper = Sweeper {
        store: Arc::downgrade(&config.store),
        events: config.events.clone(),
        traffic: Arc::clone(&config.traffic),
        health: Arc::clone(&config.health),
        sweeping: Arc::clone(&config.sweeping),
        has_timer: false,
    };
    drop(tokio::spawn(sweeper.run(period)));
}

struct Sweeper {
    store: Weak<dyn AnyStore>,
    events: EventSink,
    traffic: Arc<Traffic>,
    health: Arc<Health>,
    /// Says whether there is such a task.
    sweeping: Arc<AtomicBool>,
    has_timer: bool,
}

impl Drop for Sweeper {
    /// Lets the next request start another; not on a runtime without a timer, where that would panic, too.
    fn drop(&mut self) {
        self.traffic.set_sweeping(false);
        if self.has_timer || !std::thread::panicking() {
            self.sweeping.store(false, Ordering::Relaxed);
        }
    }
}

impl Sweeper {
    async fn run(mut self, period: Duration) {
        // Many instances that start together should not sweep together.
        let pause = || sleep(period.mul_f64(0.5 + rand::random::<f64>()));
        let first = pause();
        self.has_timer = true;
        first.await;
        let mut pace = Pace::new(Instant::now());
        while self.store.strong_count() > 0 {
            self.sweep(&mut pace).await;
            pause().await;
        }
    }

    async fn sweep(&self, pace: &mut Pace) {
        // What was created since the last time has had its sweep, or has not expired.
        let mut batch = pace.begin(&self.traffic.take(), Instant::now());
        // Between two calls the store is the app's alone: it goes when the last layer goes.
        while let Some(store) = self.store.upgrade() {
            let begun = Instant::now();
            match self.call(&*store, batch, begun).await {
                Ok(swept) => {
                    self.emit(&swept);
                    tracing::debug!(swept = swept.deleted, "expired sessions are swept");
                    if swept.deleted < batch {
                        return;
                    }
                    let taken = begun.elapsed();
                    let mut written = self.traffic.take();
                    if store.at_once().is_some() {
                        // It is swept on the thread of a request, which waits for all of it.
                        written.alone = Total {
                            count: 1,
                            time: Duration::ZERO,
                        };
                        written.beside = Total {
                            count: 1,
                            time: taken,
                        };
                    }
                    drop(store);
                    let step = pace.step(&written, taken, Instant::now());
                    batch = step.batch;
                    if step.pause.is_zero() {
                        // A store that answers at once would leave nobody else a turn.
                        tokio::task::yield_now().await;
                    } else {
                        sleep(step.pause).await;
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

    async fn call(
        &self,
        store: &dyn AnyStore,
        batch: usize,
        begun: Instant,
    ) -> Result<Swept, StoreError> {
        self.traffic.set_sweeping(true);
        let swept = swept(store.sweep(batch)).await;
        self.traffic.set_sweeping(false);
        // A store whose engine sweeps by itself answers that nothing was to be done, whether it can be reached or not.
        match &swept {
            Ok(swept) if swept.deleted == 0 => self.health.took(Call::Sweep, begun),
            answer => self.health.answered(Call::Sweep, begun, answer),
        }
        swept
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

    /// A store that is swept in virtual time, while swaps come to it at a fixed rate.
    struct Trial {
        pace: Pace,
        now: Instant,
        step: Step,
        /// How many swaps there are in a second, and how many of them are creations.
        swaps: u32,
        creations: u32,
        /// What a swap takes alone.
        usual: Duration,
        /// What each swept record adds to a swap beside.
        harm: Duration,
        /// What a call takes for each record.
        a_record: Duration,
        begun: Instant,
        counted: [u32; 4],
        swept: usize,
    }

    impl Trial {
        fn new(swaps: u32, harm: Duration) -> Self {
            let now = Instant::now();
            Self {
                pace: Pace::new(now),
                now,
                step: Step {
                    pause: Duration::ZERO,
                    batch: BATCH,
                },
                swaps,
                creations: 0,
                usual: MILLISECOND,
                harm,
                a_record: MILLISECOND / 50,
                begun: now,
                counted: [0; 4],
                swept: 0,
            }
        }

        /// Sweeps for so long.
        fn run(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                let batch = u32::try_from(self.step.batch).unwrap();
                let taken = MILLISECOND + batch * self.a_record;
                // Shares of a swap add up.
                let [alone, beside] = [self.step.pause, taken];
                let alone = self.due(0, self.swaps, alone);
                let beside = self.due(1, self.swaps, beside);
                let creations = self.due(2, self.creations, self.step.pause + taken);
                self.now += self.step.pause + taken;
                self.swept += self.step.batch;
                let written = Written {
                    swaps: (alone + beside) as usize,
                    creations: creations as usize,
                    alone: total(alone, self.usual),
                    beside: total(beside, self.usual + batch * self.harm),
                };
                self.step = self.pace.step(&written, taken, self.now);
            }
        }

        fn due(&mut self, what: usize, per_second: u32, time: Duration) -> u32 {
            let micros = u32::try_from(time.as_micros()).unwrap();
            let sum = u64::from(self.counted[what]) + u64::from(per_second) * u64::from(micros);
            self.counted[what] = u32::try_from(sum % 1_000_000).unwrap();
            u32::try_from(sum / 1_000_000).unwrap()
        }
    }

    fn total(count: u32, each: Duration) -> Total {
        let time = count * each;
        Total { count, time }
    }

    #[test]
    fn the_batch_grows_and_the_pause_shrinks_while_swaps_are_not_disturbed() {
        let mut trial = Trial::new(400, Duration::ZERO);
        trial.run(60 * QUIET);
        assert_eq!(trial.step.batch, LARGE);
        assert_eq!(trial.step.pause, MILLISECOND + 1_000 * trial.a_record);
    }

    #[test]
    fn swaps_that_are_disturbed_a_little_by_each_record_are_so_by_few_at_once() {
        // A hundred records slow a swap down by half.
        let mut trial = Trial::new(400, MILLISECOND / 200);
        trial.run(60 * QUIET);
        for _ in 0..100 {
            trial.run(QUIET);
            assert!((20..=100).contains(&trial.step.batch), "{:?}", trial.step);
        }
    }

    #[test]
    fn swaps_that_the_least_batch_disturbs_have_the_store_to_themselves_for_most_of_the_time() {
        let mut trial = Trial::new(400, MILLISECOND);
        trial.run(10 * QUIET);
        for _ in 0..100 {
            trial.run(QUIET);
            assert!(trial.step.batch <= 2 * BATCH);
        }
        let swept = u32::try_from(trial.swept / BATCH).unwrap();
        assert!(trial.now.duration_since(trial.begun) > swept * 20 * MILLISECOND);
    }

    #[test]
    fn it_is_careful_at_once_when_swaps_begin_to_be_disturbed() {
        let mut trial = Trial::new(400, Duration::ZERO);
        trial.run(60 * QUIET);
        trial.harm = MILLISECOND;
        trial.run(3 * QUIET);
        assert!(trial.step.batch <= 2 * BATCH, "{:?}", trial.step);
    }

    #[test]
    fn a_store_that_has_become_slower_for_all_is_swept_as_before() {
        let mut trial = Trial::new(400, Duration::ZERO);
        trial.run(60 * QUIET);
        trial.usual *= 4;
        trial.run(60 * QUIET);
        assert_eq!(trial.step.batch, LARGE);
    }

    #[test]
    fn few_writes_hold_nothing_up_unless_they_are_disturbed() {
        let mut trial = Trial::new(2, Duration::ZERO);
        trial.run(3_600 * QUIET);
        assert_eq!(trial.step.batch, LARGE);
        trial.harm = MILLISECOND;
        trial.run(3_600 * QUIET);
        for _ in 0..100 {
            trial.run(QUIET);
            assert!(trial.step.batch <= 4 * BATCH, "{:?}", trial.step);
        }
    }

    #[test]
    fn where_nobody_has_been_timed_it_waits_to_be_told() {
        let mut trial = Trial::new(400, Duration::ZERO);
        let written = Written {
            swaps: 3,
            ..Written::default()
        };
        for _ in 0..1_000 {
            trial.now += 10 * MILLISECOND;
            let step = trial.pace.step(&written, MILLISECOND, trial.now);
            assert_eq!((step.batch, step.pause), (BATCH, PAUSE * MILLISECOND));
        }
    }

    #[test]
    fn what_was_written_while_nothing_was_swept_is_what_is_usual() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let written = Written {
            alone: total(10_000, 3 * MILLISECOND),
            ..Written::default()
        };
        assert_eq!(pace.begin(&written, now), BATCH);
        assert_eq!(pace.usual, Some(3 * MILLISECOND));
    }

    #[test]
    fn a_moment_without_a_write_is_not_taken_for_quiet() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for round in 0..1_000 {
            now += QUIET / 4;
            let written = Written {
                swaps: usize::from(round % 4 == 0),
                ..Written::default()
            };
            let step = pace.step(&written, MILLISECOND, now);
            assert_eq!(step.batch, BATCH);
        }
    }

    #[test]
    fn a_call_that_was_held_up_puts_the_next_one_off_by_half_a_minute_at_most() {
        let mut pace = Pace::new(Instant::now());
        let written = Written {
            swaps: 1,
            ..Written::default()
        };
        let taken = Duration::from_secs(10);
        assert_eq!(pace.step(&written, taken, Instant::now()).pause, LONGEST);
    }

    #[test]
    fn where_nobody_writes_it_goes_as_fast_as_it_can() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let none = Written::default();
        let step = pace.step(&none, MILLISECOND, now + QUIET / 2);
        assert_eq!(step.batch, BATCH);
        let step = pace.step(&none, MILLISECOND, now + QUIET);
        assert_eq!((step.batch, step.pause), (LARGE, Duration::ZERO));
        let one = Written { swaps: 1, ..none };
        let step = pace.step(&one, MILLISECOND, now + 2 * QUIET);
        assert_eq!((step.batch, step.pause), (BATCH, PAUSE * MILLISECOND));
    }

    /// A record takes 100 µs to sweep, as in no store, and disturbs whoever writes; sessions are created at each of these rates.
    #[test]
    fn it_is_never_slower_than_sessions_are_created() {
        for per_second in [1, 10, 100, 1_000, 4_000] {
            let mut trial = Trial::new(per_second, MILLISECOND);
            trial.creations = per_second;
            trial.a_record = MILLISECOND / 10;
            trial.run(60 * QUIET);
            let created = 60 * per_second as usize;
            assert!(trial.swept >= created, "{} of {created}", trial.swept);
        }
    }

    #[cfg(all(feature = "memory", feature = "cookie"))]
    #[test]
    fn a_runtime_without_a_timer_panics_with_the_first_request_alone() {
        let store = crate::store::MemoryStore::new();
        let transport = crate::transport::CookieTransport::new();
        let config = Config::new(Arc::new(store), transport.into());
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            start(&config);
            tokio::task::yield_now().await;
        });
        assert!(config.sweeping.load(Ordering::Relaxed));
    }
}
