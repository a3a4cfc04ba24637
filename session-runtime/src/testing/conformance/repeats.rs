//! Repeats: whoever has lost an answer asks the same swap again, and learns whether it was applied.

use std::sync::Arc;

use super::trial::{Trial, next_with, noise, session_key, slot};
use crate::key::Key;
use crate::record::{Ended, Record};
use crate::store::{Store, Swapped};

/// How many earlier versions a record remembers.
const REMEMBERED: usize = 16;

/// Asks a swap again that was applied: it is stale, with a record that tells so.
async fn repeats<S: Store>(
    trial: &Trial<S>,
    key: &Key,
    before: Option<&Arc<Record>>,
    after: &Arc<Record>,
    there: &Record,
) {
    trial.stale(key, before, after, there).await;
    let knows = there.is_or_was(after.version());
    trial.check("what is there is or was the repeated record", knows);
}

pub(super) async fn a_repeated_create_is_stale_with_what_it_made<S: Store>(trial: &Trial<S>) {
    let key = session_key();
    let after = Arc::new(trial.record([slot("a", "1"), slot("b", noise(0, 5_000))]));
    trial.done(&key, None, &after).await;
    for _ in 0..3 {
        repeats(trial, &key, None, &after, &after).await;
    }
}

pub(super) async fn a_repeated_swap_is_stale_with_what_it_wrote<S: Store>(trial: &Trial<S>) {
    let (key, before) = trial
        .session([slot("a", "1"), slot("b", noise(0, 5_000))])
        .await;
    let after = Arc::new(next_with(
        &before,
        [slot("a", "2"), slot("c", noise(1, 5_000))],
    ));
    trial.done(&key, Some(&before), &after).await;
    for _ in 0..3 {
        repeats(trial, &key, Some(&before), &after, &after).await;
    }
}

pub(super) async fn a_repeated_end_is_stale_with_the_tombstone<S: Store>(trial: &Trial<S>) {
    let (key, before) = trial.session([slot("a", "1")]).await;
    let end = Arc::new(before.tombstone(Ended::LoggedOut, trial.now()));
    trial.done(&key, Some(&before), &end).await;
    repeats(trial, &key, Some(&before), &end, &end).await;
}

pub(super) async fn a_repeat_after_other_swaps_is_stale<S: Store>(trial: &Trial<S>) {
    let (key, before) = trial.session([slot("n", "0")]).await;
    let after = Arc::new(next_with(&before, [slot("n", "1")]));
    trial.done(&key, Some(&before), &after).await;
    let mut there = Arc::clone(&after);
    for n in 2..REMEMBERED {
        let next = next_with(&there, [slot("n", n.to_string())]);
        there = trial.put(&key, Some(&there), next).await;
        repeats(trial, &key, Some(&before), &after, &there).await;
    }
}

pub(super) async fn a_repeat_after_the_end_is_stale<S: Store>(trial: &Trial<S>) {
    let (key, before) = trial.session([slot("n", "0")]).await;
    let after = Arc::new(next_with(&before, [slot("n", "1")]));
    trial.done(&key, Some(&before), &after).await;
    let end = after.tombstone(Ended::Revoked, trial.now());
    let end = trial.put(&key, Some(&after), end).await;
    repeats(trial, &key, Some(&before), &after, &end).await;
}

pub(super) async fn a_repeat_of_what_was_refused_is_refused_again<S: Store>(trial: &Trial<S>) {
    let (key, first) = trial.session([slot("n", "0")]).await;
    let refused = Arc::new(next_with(&first, [slot("n", "refused")]));
    let mut there = trial.put(&key, Some(&first), first.next()).await;
    for _ in 0..3 {
        trial.stale(&key, Some(&first), &refused, &there).await;
        let unknown = !there.is_or_was(refused.version());
        trial.check("what is there tells that it was not applied", unknown);
        there = trial.put(&key, Some(&there), there.next()).await;
    }
}

pub(super) async fn a_refused_swap_can_be_done_in_its_turn<S: Store>(trial: &Trial<S>) {
    let (key, first) = trial.session([slot("n", "0")]).await;
    let second = Arc::new(next_with(&first, [slot("n", "1")]));
    let third = Arc::new(next_with(&second, [slot("n", "2")]));
    // Too early: its turn comes when the one before it is there.
    trial.stale(&key, Some(&second), &third, &first).await;
    trial.done(&key, Some(&first), &second).await;
    trial.done(&key, Some(&second), &third).await;
    trial.holds(&key, &third).await;
}

pub(super) async fn sixteen_earlier_versions_are_remembered<S: Store>(trial: &Trial<S>) {
    let (key, first) = trial.session([slot("n", "0")]).await;
    let mut versions = vec![first.version()];
    let mut there = first;
    for n in 1..=3 * REMEMBERED {
        let next = next_with(&there, [slot("n", n.to_string())]);
        there = trial.put(&key, Some(&there), next).await;
        let surplus = versions.len().saturating_sub(REMEMBERED);
        let remembered = there.earlier().to_vec();
        trial.equal(
            "the last sixteen, in order",
            &remembered,
            &versions[surplus..].to_vec(),
        );
        versions.push(there.version());
    }
    let late = Arc::new(there.next());
    for version in versions.iter().rev().skip(1) {
        let mut before = Record::stored(*version, Vec::new(), (*there.head).clone());
        before.put_sorted(there.slots().to_vec());
        let swapped = trial.swap(&key, Some(&Arc::new(before)), &late).await;
        let expected = Swapped::Stale(Some(Arc::clone(&there)));
        trial.equal(
            "none of the earlier versions is swapped",
            &swapped,
            &expected,
        );
    }
}
