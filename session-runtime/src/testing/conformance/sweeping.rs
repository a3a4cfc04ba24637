//! Expiry: a store keeps what has expired for ten minutes, then sweeps it, and in doubt nothing at all.

use std::sync::Arc;

use super::races::race;
use super::trial::{HOUR, MINUTE, MS, SECOND, Trial, just_before, noise, session_key, slot};
use crate::clock::Timestamp;
use crate::key::{Key, UserId};
use crate::record::{Ended, Record, TOMBSTONE};
use crate::store::{KEPT_AFTER_EXPIRY, Store, Swapped};

/// More than any case has.
const ALL: usize = 1_000;

/// Creates a session that expires then.
async fn expiring<S: Store>(trial: &Trial<S>, expires: Timestamp) -> (Key, Arc<Record>) {
    let key = session_key();
    let mut record = trial.record([slot("a", "1"), slot("large", noise(0, 3_000))]);
    record.expires = expires;
    let there = trial.put(&key, None, record).await;
    (key, there)
}

/// Sweeps everything there is to sweep, and finds it to be so much.
async fn sweeps<S: Store>(trial: &Trial<S>, promise: &str, expected: usize) {
    let swept = trial.sweep(ALL).await;
    trial.equal(promise, &swept.deleted, &expected);
}

pub(super) async fn sweeping_an_empty_store_finds_nothing<S: Store>(trial: &Trial<S>) {
    sweeps(trial, "there is nothing to delete", 0).await;
}

pub(super) async fn an_expired_record_still_loads<S: Store>(trial: &Trial<S>) {
    let just_expired = expiring(trial, trial.now()).await;
    let long_expired = expiring(trial, trial.now() - 9 * MINUTE).await;
    sweeps(trial, "none of them has been expired for ten minutes", 0).await;
    for (key, there) in [just_expired, long_expired] {
        trial.holds(&key, &there).await;
    }
}

pub(super) async fn sweeping_spares_what_lives<S: Store>(trial: &Trial<S>) {
    let (key, there) = trial.session([slot("a", "1")]).await;
    let (forever, endless) = expiring(trial, Timestamp::from_millis(i64::MAX)).await;
    trial.clock.advance(just_before(2 * HOUR));
    sweeps(trial, "both live", 0).await;
    trial.holds(&key, &there).await;
    trial.holds(&forever, &endless).await;
}

pub(super) async fn sweeping_deletes_what_expired_ten_minutes_ago<S: Store>(trial: &Trial<S>) {
    let (early, gone) = expiring(trial, trial.now() + SECOND).await;
    let (late, there) = expiring(trial, trial.now() + SECOND + MS).await;
    trial.clock.advance(SECOND);
    sweeps(trial, "nothing goes when it expires", 0).await;
    trial.clock.advance(just_before(KEPT_AFTER_EXPIRY));
    sweeps(trial, "nothing goes a millisecond early", 0).await;
    trial.holds(&early, &gone).await;
    trial.clock.advance(MS);
    sweeps(trial, "one goes in its time", 1).await;
    trial.holds_nothing(&early).await;
    trial.holds(&late, &there).await;
    trial.clock.advance(MS);
    sweeps(trial, "the other goes a millisecond later", 1).await;
    trial.holds_nothing(&late).await;
    sweeps(trial, "nothing is left to go", 0).await;
}

pub(super) async fn what_expired_long_ago_loads_until_it_is_swept<S: Store>(trial: &Trial<S>) {
    let times = [i64::MIN, -1, 0, 1].map(Timestamp::from_millis);
    for time in times {
        expiring(trial, time).await;
    }
    sweeps(trial, "all of it goes", times.len()).await;
}

pub(super) async fn sweeping_leaves_nothing_behind<S: Store>(trial: &Trial<S>) {
    let (key, there) = expiring(trial, trial.now() + SECOND).await;
    trial.clock.advance(SECOND + KEPT_AFTER_EXPIRY);
    sweeps(trial, "it goes", 1).await;
    trial
        .stale_with_nothing(&key, &there, &Arc::new(there.next()))
        .await;
    let anew = trial
        .put(&key, None, trial.record([slot("large", noise(1, 2_000))]))
        .await;
    trial.clock.advance(MINUTE);
    sweeps(trial, "what is there now lives", 0).await;
    trial.holds(&key, &anew).await;
}

pub(super) async fn sweeping_spares_what_was_extended<S: Store>(trial: &Trial<S>) {
    let (key, mut there) = trial.session([slot("a", "1")]).await;
    for _ in 0..5 {
        trial.clock.advance(HOUR);
        let mut next = there.next();
        next.seen = trial.now();
        next.expires = trial.now() + 2 * HOUR;
        there = trial.put(&key, Some(&there), next).await;
        sweeps(trial, "it lives", 0).await;
    }
    trial
        .clock
        .advance(just_before(2 * HOUR + KEPT_AFTER_EXPIRY));
    sweeps(trial, "it is kept to the last millisecond", 0).await;
    trial.holds(&key, &there).await;
    trial.clock.advance(MS);
    sweeps(trial, "then it goes", 1).await;
}

pub(super) async fn sweeping_finds_what_was_shortened<S: Store>(trial: &Trial<S>) {
    let (key, there) = trial.session([slot("a", "1")]).await;
    let mut next = there.next();
    next.expires = trial.now() + MINUTE;
    trial.put(&key, Some(&there), next).await;
    trial.clock.advance(MINUTE + KEPT_AFTER_EXPIRY);
    sweeps(trial, "it goes at its new time", 1).await;
    trial.clock.advance(2 * HOUR);
    sweeps(trial, "and only once", 0).await;
}

pub(super) async fn a_stale_swap_extends_nothing<S: Store>(trial: &Trial<S>) {
    let (key, first) = expiring(trial, trial.now() + MINUTE).await;
    trial.put(&key, Some(&first), first.next()).await;
    let mut late = first.next();
    late.expires = trial.now() + 9 * HOUR;
    trial.swap(&key, Some(&first), &Arc::new(late)).await;
    trial.clock.advance(MINUTE + KEPT_AFTER_EXPIRY);
    sweeps(trial, "it goes in its time", 1).await;
}

pub(super) async fn sweeping_keeps_to_its_limit<S: Store>(trial: &Trial<S>) {
    for n in 1..=25 {
        expiring(trial, trial.now() + n * MS).await;
    }
    trial.clock.advance(SECOND + KEPT_AFTER_EXPIRY);
    let none = trial.sweep(0).await.deleted;
    trial.equal("a limit of none deletes none", &none, &0);
    for expected in [10, 10, 5, 0] {
        let swept = trial.sweep(10).await;
        trial.equal(
            "it deletes its limit or what is left",
            &swept.deleted,
            &expected,
        );
        trial.equal("and names each", &swept.expired.len(), &expected);
    }
}

pub(super) async fn sweeping_deletes_tombstones_in_their_time<S: Store>(trial: &Trial<S>) {
    let (key, there) = expiring(trial, trial.now() + 99 * HOUR).await;
    let end = there.tombstone(Ended::Revoked, trial.now());
    let end = trial.put(&key, Some(&there), end).await;
    trial
        .clock
        .advance(just_before(TOMBSTONE + KEPT_AFTER_EXPIRY));
    sweeps(trial, "the reason stays", 0).await;
    trial.holds(&key, &end).await;
    trial.clock.advance(MS);
    let swept = trial.sweep(ALL).await;
    trial.equal("then it goes", &swept.deleted, &1);
    trial.equal(
        "nobody is told, as it had ended",
        &swept.expired,
        &Vec::new(),
    );
}

pub(super) async fn sweeping_names_the_sessions_and_whose_they_were<S: Store>(trial: &Trial<S>) {
    let ada = UserId::new("ada’s “name”");
    let (guest, _) = expiring(trial, trial.now()).await;
    let owned = session_key();
    let mut record = trial.record([]);
    record.expires = trial.now();
    record.head_mut().user = Some(ada.clone());
    trial.put(&owned, None, record.clone()).await;
    // Neither a tombstone nor a user's record is a session that has expired.
    trial
        .put(
            &session_key(),
            None,
            record.tombstone(Ended::Revoked, trial.now()),
        )
        .await;
    let user = Key::User(ada.clone());
    trial.put(&user, None, record.next()).await;
    trial.clock.advance(TOMBSTONE + KEPT_AFTER_EXPIRY);

    let mut swept = trial.sweep(ALL).await;
    trial.equal("all have gone", &swept.deleted, &4);
    trial.holds_nothing(&user).await;
    swept.expired.sort();
    let mut expected = vec![(guest, None), (owned, Some(ada))];
    expected.sort();
    trial.equal("two had not ended before", &swept.expired, &expected);
}

pub(super) async fn sweeping_stands_still_after_a_step_forward<S: Store>(trial: &Trial<S>) {
    let (key, there) = trial.session([slot("a", "1")]).await;
    for step in [3 * HOUR, 24 * 365 * 10 * HOUR] {
        trial.clock.step_forward(step);
        sweeps(trial, "nothing is deleted", 0).await;
        trial.holds(&key, &there).await;
    }
}

pub(super) async fn sweeping_goes_on_once_the_clock_is_back<S: Store>(trial: &Trial<S>) {
    expiring(trial, trial.now()).await;
    trial.clock.advance(KEPT_AFTER_EXPIRY);
    trial.clock.step_back(HOUR);
    sweeps(trial, "after a step back it stands still", 0).await;
    trial.clock.step_forward(HOUR);
    sweeps(trial, "then it goes on", 1).await;
}

pub(super) async fn sweeping_stands_still_while_the_clocks_disagree<S: Store>(trial: &Trial<S>) {
    let (expired, gone) = expiring(trial, trial.now()).await;
    let (key, mut live) = trial.session([]).await;
    trial.clock.advance(KEPT_AFTER_EXPIRY + MINUTE);
    let behind = trial.now() - MINUTE - SECOND;
    let ahead = trial.now() + MINUTE + SECOND;
    for (promise, seen) in [
        ("nothing goes while the app's clock is behind", behind),
        ("nothing goes while the app's clock is ahead", ahead),
    ] {
        let mut next = live.next();
        next.seen = seen;
        live = trial.put(&key, Some(&live), next).await;
        sweeps(trial, promise, 0).await;
        trial.holds(&expired, &gone).await;
    }
    trial.clock.advance(2 * MINUTE);
    let mut next = live.next();
    next.seen = trial.now();
    trial.put(&key, Some(&live), next).await;
    sweeps(trial, "they agree again", 1).await;
}

pub(super) async fn sweeping_never_deletes_what_is_being_extended<S: Store>(trial: &Trial<S>) {
    const KEYS: usize = 64;
    for _ in 0..8 {
        let mut sessions = Vec::new();
        for _ in 0..KEYS {
            sessions.push(expiring(trial, trial.now()).await);
        }
        trial.clock.advance(KEPT_AFTER_EXPIRY);
        let left = extend_and_sweep(trial, sessions).await;
        // So that the next round finds none of it.
        trial.clock.advance(2 * HOUR + KEPT_AFTER_EXPIRY);
        sweeps(trial, "what was extended goes at its new time", left).await;
    }
}

/// Extends each session, while others sweep, and returns how many were in time.
async fn extend_and_sweep<S: Store>(trial: &Trial<S>, sessions: Vec<(Key, Arc<Record>)>) -> usize {
    const SWEEPERS: usize = 8;
    let each = sessions.len() / SWEEPERS;
    let sessions = Arc::new(sessions);
    let outcomes = race(trial, sessions.len() + SWEEPERS, |trial, n| {
        let sessions = Arc::clone(&sessions);
        async move {
            // Each begins a little later than the one before.
            for _ in 0..n % 7 {
                tokio::task::yield_now().await;
            }
            match sessions.get(n) {
                Some((key, there)) => Ok(extend(&trial, key, there).await),
                None => Err(trial.sweep(each).await.deleted),
            }
        }
    })
    .await;
    let swept: usize = outcomes.iter().filter_map(|outcome| outcome.err()).sum();
    let extended: Vec<_> = outcomes.iter().flatten().copied().collect();
    for (extended, (key, _)) in extended.iter().zip(sessions.iter()) {
        let there = trial.load(key).await.is_some();
        let promise = "what was extended is there, and what was found swept is not";
        trial.equal(promise, &there, extended);
    }
    let left = extended.iter().filter(|extended| **extended).count();
    trial.equal("all others were swept", &(left + swept), &sessions.len());
    left
}

/// Extends a record that may be swept at the same time, and returns `true` if this came first.
async fn extend<S: Store>(trial: &Trial<S>, key: &Key, there: &Arc<Record>) -> bool {
    let mut next = there.next();
    next.seen = trial.now();
    next.expires = trial.now() + 2 * HOUR;
    let swapped = trial.swap(key, Some(there), &Arc::new(next)).await;
    let promise = "it is extended, or has been swept";
    trial.check(
        promise,
        matches!(swapped, Swapped::Done | Swapped::Stale(None)),
    );
    swapped == Swapped::Done
}

pub(super) async fn sweeps_at_once_share_what_there_is<S: Store>(trial: &Trial<S>) {
    const RECORDS: usize = 120;
    for _ in 0..RECORDS {
        expiring(trial, trial.now()).await;
    }
    trial.clock.advance(KEPT_AFTER_EXPIRY);
    let swept = race(trial, 16, |trial, _| async move { trial.sweep(10).await }).await;
    let mut deleted: usize = swept.iter().map(|swept| swept.deleted).sum();
    let mut expired: Vec<_> = swept.into_iter().flat_map(|swept| swept.expired).collect();
    trial.check("none deletes more than there is", deleted <= RECORDS);
    // One that met another may have passed over what that one had in hand.
    let rest = trial.sweep(ALL).await;
    deleted += rest.deleted;
    expired.extend(rest.expired);
    trial.equal("each record is counted once", &deleted, &RECORDS);
    expired.sort();
    expired.dedup();
    trial.equal("and named once", &expired.len(), &RECORDS);
}
