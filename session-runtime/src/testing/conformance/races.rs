//! Races: many tasks at once, and the outcome is as if they had come one after another.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::sync::Barrier;

use super::trial::{Trial, next_with, noise, session_key, slot};
use crate::key::Key;
use crate::record::{Record, Version};
use crate::store::{Store, Swapped};

/// Runs one task per number, all from the same moment on, and gathers what they return.
pub(super) async fn race<S, F, Fut>(trial: &Trial<S>, tasks: usize, task: F) -> Vec<Fut::Output>
where
    S: Store,
    F: Fn(Trial<S>, usize) -> Fut,
    Fut: Future<Output: Send> + Send + 'static,
{
    let start = Arc::new(Barrier::new(tasks));
    let spawned = (0..tasks).map(|n| {
        let (task, start) = (task(trial.clone(), n), Arc::clone(&start));
        tokio::spawn(async move {
            start.wait().await;
            task.await
        })
    });
    let running: Vec<_> = spawned.collect();
    let mut outcomes = Vec::new();
    for task in running {
        match task.await {
            Ok(outcome) => outcomes.push(outcome),
            // It has said what is wrong: pass it on.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    outcomes
}

/// Has several tasks swap one version of one key, each for a record of its own, and returns whose is there.
async fn one_wins<S: Store>(
    trial: &Trial<S>,
    key: &Key,
    before: Option<&Arc<Record>>,
) -> Arc<Record> {
    const TASKS: usize = 8;
    let afters: Vec<_> = (0..TASKS)
        .map(|n| {
            // Large and small ones by turns.
            let slots = [
                slot("n", n.to_string()),
                slot("b", noise(n, 100 + n % 2 * 5_000)),
            ];
            Arc::new(match before {
                None => trial.record(slots),
                Some(before) => next_with(before, slots),
            })
        })
        .collect();
    let outcomes = race(trial, TASKS, |trial, n| {
        let (key, before, after) = (key.clone(), before.cloned(), Arc::clone(&afters[n]));
        async move { trial.swap(&key, before.as_ref(), &after).await }
    })
    .await;
    let done = |n: &usize| outcomes[*n] == Swapped::Done;
    let winners: Vec<_> = (0..TASKS).filter(done).collect();
    trial.equal("exactly one swap is done", &winners.len(), &1);
    let winner = &afters[winners[0]];
    for outcome in outcomes.iter().filter(|outcome| **outcome != Swapped::Done) {
        let Swapped::Stale(found) = outcome else {
            continue;
        };
        let promise = "the others are stale, and brought what the one has written";
        trial.same(promise, found.as_ref(), Some(winner));
    }
    trial.holds(key, winner).await
}

pub(super) async fn one_of_many_creates_is_done<S: Store>(trial: &Trial<S>) {
    for _ in 0..24 {
        one_wins(trial, &session_key(), None).await;
    }
}

pub(super) async fn one_of_many_swaps_of_one_version_is_done<S: Store>(trial: &Trial<S>) {
    // Many keys at a time, many rounds of each.
    race(trial, 12, |trial, _| async move {
        let (key, mut there) = trial.session([]).await;
        for _ in 0..8 {
            there = one_wins(&trial, &key, Some(&there)).await;
        }
    })
    .await;
}

pub(super) async fn one_swap_sent_by_many_is_done_once<S: Store>(trial: &Trial<S>) {
    for round in 0..16 {
        let (key, before) = trial.session([]).await;
        let after = next_with(&before, [slot("a", "1"), slot("b", noise(round, 5_000))]);
        let after = Arc::new(after);
        let outcomes = race(trial, 16, |trial, _| {
            let (key, before, after) = (key.clone(), Arc::clone(&before), Arc::clone(&after));
            async move { trial.swap(&key, Some(&before), &after).await }
        })
        .await;
        let done = outcomes.iter().filter(|outcome| **outcome == Swapped::Done);
        trial.equal("it is done once", &done.count(), &1);
        let repeat = Swapped::Stale(Some(Arc::clone(&after)));
        let repeats = outcomes.iter().filter(|outcome| **outcome == repeat);
        trial.equal("the repeats find it done", &repeats.count(), &15);
        trial.holds(&key, &after).await;
    }
}

fn number(record: &Record) -> Option<usize> {
    let payload = record.slot("n")?.payload();
    std::str::from_utf8(payload).ok()?.parse().ok()
}

/// Adds one to slot `n`, from whatever it is now, until that is done.
async fn increment<S: Store>(trial: &Trial<S>, key: &Key) {
    let promise = "what is swapped has a number";
    let mut there = trial.load(key).await;
    loop {
        let Some((record, n)) = there.and_then(|there| number(&there).map(|n| (there, n))) else {
            trial.fail(promise, &"none");
        };
        let mut next = record.next();
        next.set(Arc::new(slot("n", (n + 1).to_string())));
        let swapped = trial.swap(key, Some(&record), &Arc::new(next)).await;
        let Swapped::Stale(newer) = swapped else {
            return;
        };
        let later = newer.as_ref().and_then(|newer| number(newer));
        trial.check("a stale swap brings what is later", later > Some(n));
        there = newer;
    }
}

pub(super) async fn every_increment_counts<S: Store>(trial: &Trial<S>) {
    const TASKS: usize = 16;
    const EACH: usize = 16;
    let slots = [slot("n", "0"), slot("large", noise(0, 5_000))];
    let (key, first) = trial.session(slots).await;
    race(trial, TASKS, |trial, _| {
        let key = key.clone();
        async move {
            for _ in 0..EACH {
                increment(&trial, &key).await;
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let Some(last) = trial.load(&key).await else {
        trial.fail("the record is there", &"nothing");
    };
    trial.equal("each counts once", &number(&last), &Some(TASKS * EACH));
    trial.check(
        "nothing else has changed",
        last.slot("large") == first.slot("large"),
    );
}

pub(super) async fn swaps_of_different_keys_are_all_done<S: Store>(trial: &Trial<S>) {
    race(trial, 64, |trial, n| async move {
        let (key, mut there) = trial.session([]).await;
        for round in 0..8 {
            let slots = [slot("n", n.to_string()), slot("b", noise(n, round * 200))];
            there = trial
                .put(&key, Some(&there), next_with(&there, slots))
                .await;
        }
    })
    .await;
}

/// Returns what a record becomes, one after another: slots that cross the limits of packing, all of one generation.
fn generations(first: &Arc<Record>) -> Vec<Arc<Record>> {
    const GENERATIONS: usize = 60;
    let mut records = vec![Arc::clone(first)];
    for n in 1..GENERATIONS {
        let lengths = [
            8,
            200 + n % 3 * 50,
            600 + n % 4 * 500,
            20_000,
            n % 2 * 9_000,
        ];
        let slots = lengths.iter().zip('a'..);
        let slots = slots.map(|(length, name)| slot(&name.to_string(), noise(n, *length)));
        let next = next_with(&records[n - 1], slots);
        records.push(Arc::new(next));
    }
    records
}

/// Finds which of the records it is, all of it.
fn generation<S: Store>(trial: &Trial<S>, records: &[Arc<Record>], found: &Arc<Record>) -> usize {
    let version: Version = found.version();
    let at = records
        .iter()
        .position(|record| record.version() == version);
    let Some(at) = at else {
        trial.fail("a load brings a version that was swapped in", found);
    };
    let promise = "a load brings one record and no part of another";
    trial.same(promise, Some(found), Some(&records[at]));
    at
}

pub(super) async fn a_load_never_tears<S: Store>(trial: &Trial<S>) {
    const READERS: usize = 6;
    let (key, first) = trial.session([]).await;
    let records = Arc::new(generations(&first));
    // The last generation whose swap has returned.
    let returned = Arc::new(AtomicUsize::new(0));
    race(trial, 1 + READERS, |trial, n| {
        let (key, records) = (key.clone(), Arc::clone(&records));
        let returned = Arc::clone(&returned);
        async move {
            if n == 0 {
                write_all(&trial, &key, &records, &returned).await;
            } else {
                read_all(&trial, &key, &records, &returned).await;
            }
        }
    })
    .await;
}

async fn write_all<S: Store>(
    trial: &Trial<S>,
    key: &Key,
    records: &[Arc<Record>],
    returned: &AtomicUsize,
) {
    for (n, pair) in records.windows(2).enumerate() {
        trial.done(key, Some(&pair[0]), &pair[1]).await;
        returned.store(n + 1, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}

/// Loads until the last generation is there, in both ways, and by swaps that are stale.
async fn read_all<S: Store>(
    trial: &Trial<S>,
    key: &Key,
    records: &[Arc<Record>],
    returned: &AtomicUsize,
) {
    let never = Arc::new(records[0].next());
    let (mut last, mut round) = (0, 0);
    while last + 1 < records.len() {
        let before = returned.load(Ordering::SeqCst);
        let found = match round % 3 {
            0 => trial.load(key).await,
            1 => trial.load_latest(key).await,
            _ => match trial.swap(key, Some(&never), &Arc::new(never.next())).await {
                Swapped::Stale(found) => found,
                Swapped::Done => trial.fail("a swap of what never was is stale", &never),
            },
        };
        let Some(found) = found else {
            trial.fail("the record is there at every moment", &"nothing");
        };
        last = generation(trial, records, &found);
        trial.check("every swap that has returned is seen", before <= last);
        round += 1;
        tokio::task::yield_now().await;
    }
}

/// Begins a swap, and gives it up unless it is answered when it has been polled so often.
async fn begin(swap: impl Future<Output = Swapped>, polls: usize) -> Option<Swapped> {
    let mut swap = pin!(swap);
    for _ in 0..polls {
        let polled = poll_fn(|context| Poll::Ready(swap.as_mut().poll(context))).await;
        if let Poll::Ready(swapped) = polled {
            return Some(swapped);
        }
        tokio::task::yield_now().await;
    }
    None
}

pub(super) async fn a_swap_given_up_is_done_whole_or_not_at_all<S: Store>(trial: &Trial<S>) {
    let mut all = Vec::new();
    for round in 0..60 {
        // From the first moment to long after it is answered.
        let polls = 1 << (round / 4);
        let slots = |n: usize| {
            [
                slot("n", n.to_string()),
                slot("large", noise(n, 5_000)),
                slot(&format!("large {n}"), noise(n, 3_000)),
            ]
        };
        let (key, before, given_up, other) = if round % 2 == 0 {
            let key = session_key();
            (key, None, trial.record(slots(1)), trial.record(slots(2)))
        } else {
            let (key, there) = trial.session(slots(0)).await;
            let [given_up, other] = [1, 2].map(|n| next_with(&there, slots(n)));
            (key, Some(there), given_up, other)
        };
        let [given_up, other] = [given_up, other].map(Arc::new);
        let begun = begin(trial.swap(&key, before.as_ref(), &given_up), polls).await;
        // It was done by now, or never will be.
        let there = match trial.swap(&key, before.as_ref(), &other).await {
            Swapped::Done => other,
            Swapped::Stale(found) => {
                let promise = "what is there is all of what was given up";
                trial.same(promise, found.as_ref(), Some(&given_up));
                given_up
            }
        };
        let promise = "what was answered is there";
        trial.check(promise, begun.is_none() || there.slot("large 1").is_some());
        all.push((key, there));
    }
    for (key, there) in &all {
        trial.holds(key, there).await;
    }
}
