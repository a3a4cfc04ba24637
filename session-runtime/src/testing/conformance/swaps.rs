//! Swaps one after another: done where the compared version is there, and nothing at all where it is not.

use std::sync::Arc;

use bytes::Bytes;

use super::trial::{HOUR, MINUTE, Trial, next_with, noise, session_key, slot};
use crate::key::{Key, UserId};
use crate::record::{Ended, Record, Slot};
use crate::signature::Signature;
use crate::store::Store;

pub(super) async fn an_unknown_key_loads_nothing<S: Store>(trial: &Trial<S>) {
    trial.holds_nothing(&session_key()).await;
    trial.holds_nothing(&Key::User(UserId::new("ada"))).await;
    trial.session([slot("a", "1")]).await;
    trial.holds_nothing(&session_key()).await;
}

pub(super) async fn a_created_record_loads_as_it_was_written<S: Store>(trial: &Trial<S>) {
    trial.session([]).await;
    trial.session([slot("a", "1"), slot("b", "2")]).await;
    trial.session([slot("large", noise(0, 5_000))]).await;
    let ada = Key::User(UserId::new("ada"));
    trial.put(&ada, None, trial.record([slot("a", "1")])).await;
}

pub(super) async fn a_create_goes_over_nothing_alone<S: Store>(trial: &Trial<S>) {
    let (key, there) = trial.session([slot("a", "1")]).await;
    let other = Arc::new(trial.record([slot("b", "2")]));
    trial.stale(&key, None, &other, &there).await;
    trial.stale(&key, None, &other, &there).await;
}

pub(super) async fn a_create_over_an_expired_record_is_stale<S: Store>(trial: &Trial<S>) {
    let (key, mut there) = trial.session([slot("a", "1")]).await;
    let mut expired = there.next();
    expired.expires = trial.now() - MINUTE;
    there = trial.put(&key, Some(&there), expired).await;
    let other = Arc::new(trial.record([slot("b", "2")]));
    trial.stale(&key, None, &other, &there).await;
}

pub(super) async fn a_create_over_a_tombstone_is_stale<S: Store>(trial: &Trial<S>) {
    let (key, there) = trial.session([slot("a", "1")]).await;
    let end = there.tombstone(Ended::LoggedOut, trial.now());
    let there = trial.put(&key, Some(&there), end).await;
    let other = Arc::new(trial.record([slot("b", "2")]));
    trial.stale(&key, None, &other, &there).await;
}

pub(super) async fn a_swap_replaces_the_whole_record<S: Store>(trial: &Trial<S>) {
    let (key, there) = trial
        .session([slot("a", "1"), slot("large", noise(0, 5_000))])
        .await;
    // It shares nothing with what was there.
    let other = trial.record([slot("b", "2"), slot("larger", noise(1, 9_000))]);
    let there = trial.put(&key, Some(&there), other).await;
    trial.put(&key, Some(&there), trial.record([])).await;
}

pub(super) async fn a_swap_of_an_earlier_version_is_stale<S: Store>(trial: &Trial<S>) {
    let (key, first) = trial.session([slot("n", "1")]).await;
    let second = trial
        .put(&key, Some(&first), next_with(&first, [slot("n", "2")]))
        .await;
    let late = Arc::new(next_with(&first, [slot("n", "late")]));
    trial.stale(&key, Some(&first), &late, &second).await;
    let third = trial
        .put(&key, Some(&second), next_with(&second, [slot("n", "3")]))
        .await;
    trial.stale(&key, Some(&first), &late, &third).await;
    let late = Arc::new(next_with(&second, [slot("n", "late")]));
    trial.stale(&key, Some(&second), &late, &third).await;
}

pub(super) async fn a_swap_of_a_version_that_never_was_is_stale<S: Store>(trial: &Trial<S>) {
    let (key, there) = trial.session([slot("a", "1")]).await;
    let never = Arc::new(there.next());
    let after = Arc::new(never.next());
    trial.stale(&key, Some(&never), &after, &there).await;
    let elsewhere = trial.session([slot("a", "1")]).await.1;
    let after = Arc::new(elsewhere.next());
    trial.stale(&key, Some(&elsewhere), &after, &there).await;
}

pub(super) async fn a_swap_of_what_is_not_there_brings_nothing<S: Store>(trial: &Trial<S>) {
    let never = Arc::new(trial.record([slot("a", "1")]));
    let after = Arc::new(never.next());
    let key = session_key();
    trial.stale_with_nothing(&key, &never, &after).await;
    let ada = Key::User(UserId::new("ada"));
    trial.stale_with_nothing(&ada, &never, &after).await;
    // It has left nothing that a create would meet.
    trial.put(&key, None, trial.record([slot("b", "2")])).await;
}

pub(super) async fn an_expired_record_is_swapped_by_its_version<S: Store>(trial: &Trial<S>) {
    let (key, live) = trial.session([slot("a", "1")]).await;
    let mut expired = live.next();
    expired.expires = trial.now() - MINUTE;
    let there = trial.put(&key, Some(&live), expired).await;
    let mut renewed = next_with(&live, [slot("a", "2")]);
    renewed.expires = trial.now() + HOUR;
    trial
        .stale(&key, Some(&live), &Arc::new(renewed), &there)
        .await;
    let mut renewed = next_with(&there, [slot("a", "2")]);
    renewed.expires = trial.now() + HOUR;
    trial.put(&key, Some(&there), renewed).await;
}

pub(super) async fn a_tombstone_is_swapped_by_its_version<S: Store>(trial: &Trial<S>) {
    let (key, live) = trial.session([slot("a", "1")]).await;
    let end = live.tombstone(Ended::Revoked, trial.now());
    let there = trial.put(&key, Some(&live), end).await;
    let late = Arc::new(next_with(&live, [slot("a", "2")]));
    trial.stale(&key, Some(&live), &late, &there).await;
    // Whether something ended may be renewed is not a store's to decide.
    let anew = trial.record([slot("a", "2")]);
    trial.put(&key, Some(&there), anew).await;
}

pub(super) async fn a_record_like_an_earlier_one_is_another<S: Store>(trial: &Trial<S>) {
    let (key, first) = trial.session([slot("n", "1")]).await;
    let second = next_with(&first, [slot("n", "2")]);
    let second = trial.put(&key, Some(&first), second).await;
    let like_the_first = next_with(&second, [slot("n", "1")]);
    let there = trial.put(&key, Some(&second), like_the_first).await;
    let late = Arc::new(next_with(&first, [slot("n", "late")]));
    trial.stale(&key, Some(&first), &late, &there).await;
}

pub(super) async fn a_copy_of_what_is_there_is_as_good<S: Store>(trial: &Trial<S>) {
    let (key, there) = trial
        .session([slot("a", "1"), slot("b", noise(0, 5_000))])
        .await;
    let bytes = Bytes::from(there.to_bytes());
    let copy = Record::from_bytes(&bytes).expect("a record reads its own bytes");
    let after = next_with(&there, [slot("b", noise(0, 5_000))]);
    trial.put(&key, Some(&Arc::new(copy)), after).await;
}

pub(super) async fn a_swap_is_seen_when_it_has_returned<S: Store>(trial: &Trial<S>) {
    let (key, mut there) = trial.session([slot("n", "0")]).await;
    for n in 1..=40 {
        let next = next_with(&there, [slot("n", n.to_string())]);
        there = trial.put(&key, Some(&there), next).await;
    }
}

/// A record that differs from `there` in all that a record has.
fn altogether_different<S: Store>(trial: &Trial<S>, there: &Record, seed: usize) -> Record {
    let mut other = next_with(
        there,
        [
            slot("a", "other"),
            slot("new", noise(seed, 5_000)),
            Slot::signed(
                "kept",
                noise(1, 5_000),
                Some(trial.now()),
                Signature::of(&[1]),
            ),
        ],
    );
    other.expires = trial.now() + 9 * HOUR;
    other.updated = trial.now() + MINUTE;
    other.seen = trial.now() + MINUTE;
    other.head_mut().user = Some(UserId::new("eve"));
    other.head_mut().label = Some("other".into());
    other.head_mut().brought = 9;
    other
}

pub(super) async fn a_stale_swap_writes_no_part<S: Store>(trial: &Trial<S>) {
    let slots = [
        slot("a", "1"),
        slot("gone", noise(0, 5_000)),
        slot("kept", noise(1, 5_000)),
    ];
    let (key, first) = trial.session(slots).await;
    let mut change = first.next();
    change.set(Arc::new(slot("a", "2")));
    let there = trial.put(&key, Some(&first), change).await;
    for seed in 2..6 {
        let other = Arc::new(altogether_different(trial, &first, seed));
        trial.stale(&key, Some(&first), &other, &there).await;
        trial.stale(&key, None, &other, &there).await;
    }
    // What follows builds on what is there, not on what was refused.
    let mut change = there.next();
    change.set(Arc::new(slot("new", noise(9, 4_000))));
    trial.put(&key, Some(&there), change).await;
}

pub(super) async fn a_stale_end_ends_nothing<S: Store>(trial: &Trial<S>) {
    let (key, first) = trial
        .session([slot("a", "1"), slot("b", noise(0, 5_000))])
        .await;
    let there = trial.put(&key, Some(&first), first.next()).await;
    let end = Arc::new(first.tombstone(Ended::Revoked, trial.now()));
    trial.stale(&key, Some(&first), &end, &there).await;
}

pub(super) async fn what_a_stale_swap_brings_can_be_swapped<S: Store>(trial: &Trial<S>) {
    let (key, first) = trial
        .session([slot("n", "0"), slot("b", noise(0, 5_000))])
        .await;
    let mut seen = Arc::clone(&first);
    for n in 1..=20 {
        let theirs = trial.put(&key, Some(&seen), seen.next()).await;
        let ours = Arc::new(next_with(&seen, [slot("n", "late")]));
        let crate::store::Swapped::Stale(Some(now)) = trial.swap(&key, Some(&seen), &ours).await
        else {
            trial.fail("a late swap brings what is there", &theirs);
        };
        let mut again = now.next();
        again.set(Arc::new(slot("n", n.to_string())));
        seen = trial.put(&key, Some(&now), again).await;
    }
}
