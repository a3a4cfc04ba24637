//! Scanning: each session that is there all the while is found.

use std::collections::BTreeSet;

use super::races::race;
use super::trial::{Trial, noise, session_key, slot};
use crate::key::{Key, UserId};
use crate::record::Ended;
use crate::store::{KEPT_AFTER_EXPIRY, Store};

/// Goes through all there is, about `limit` at a time, and returns the keys, and how many answers it took.
async fn scan_all<S: Store>(trial: &Trial<S>, limit: usize) -> (BTreeSet<Key>, usize) {
    let (mut keys, mut next, mut answers) = (BTreeSet::new(), None, 0);
    loop {
        let scanned = trial.scan(next.as_deref(), limit).await;
        answers += 1;
        let users = scanned.keys.iter().any(Key::is_user);
        trial.check("a scan tells of no user", !users);
        keys.extend(scanned.keys);
        trial.check("a scan ends", answers < 10_000);
        next = scanned.next;
        if next.is_none() {
            return (keys, answers);
        }
    }
}

async fn create<S: Store>(trial: &Trial<S>, count: usize) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    for n in 0..count {
        let key = session_key();
        let large = slot("large", noise(n, 3_000 * (n % 2)));
        trial
            .put(&key, None, trial.record([slot("n", n.to_string()), large]))
            .await;
        keys.insert(key);
    }
    keys
}

pub(super) async fn scanning_an_empty_store_finds_nothing<S: Store>(trial: &Trial<S>) {
    for limit in [1, 1_000] {
        let (keys, _) = scan_all(trial, limit).await;
        trial.equal("there is nothing to find", &keys, &BTreeSet::new());
    }
}

pub(super) async fn scanning_finds_every_session_and_no_user<S: Store>(trial: &Trial<S>) {
    let created = create(trial, 60).await;
    for name in ["", "ada", "session:", "session:00000000000000ff", "~"] {
        let user = Key::User(UserId::new(name));
        trial.put(&user, None, trial.record([slot("n", "1")])).await;
    }
    for limit in [0, 1, 7, 59, 60, 61, 1_000] {
        let (keys, _) = scan_all(trial, limit).await;
        trial.equal("each session is found, and nothing else", &keys, &created);
    }
}

pub(super) async fn scanning_takes_some_at_a_time<S: Store>(trial: &Trial<S>) {
    let created = create(trial, 300).await;
    let (keys, answers) = scan_all(trial, 10).await;
    trial.equal("each session is found", &keys, &created);
    trial.check("not all of them by one answer", answers > 1);
}

pub(super) async fn scanning_finds_what_is_there_all_the_while<S: Store>(trial: &Trial<S>) {
    let created = create(trial, 100).await;
    let found = race(trial, 5, |trial, n| async move {
        if n == 0 {
            return Some(scan_all(&trial, 5).await.0);
        }
        for _ in 0..50 {
            let key = session_key();
            let there = trial.put(&key, None, trial.record([slot("n", "1")])).await;
            let end = there.tombstone(Ended::Revoked, trial.now());
            trial.put(&key, Some(&there), end).await;
        }
        None
    })
    .await;
    for found in found.into_iter().flatten() {
        let missed = created.difference(&found).count();
        trial.equal("none is missed, whatever comes and goes", &missed, &0);
    }
}

pub(super) async fn scanning_goes_on_from_no_place_but_those_it_named<S: Store>(trial: &Trial<S>) {
    create(trial, 3).await;
    for after in [
        "",
        " ",
        "0",
        "zzz",
        "nonsense",
        "a\0b",
        "-1/-1",
        "session:",
        "session;",
        "user:ada",
        "0/user:ada",
        "0/session:",
        "99999/session:0000000000000000",
        "18446744073709551616/0",
    ] {
        trial.refuses_place(after).await;
    }
}

pub(super) async fn scanning_misses_none_while_others_are_swept<S: Store>(trial: &Trial<S>) {
    for _ in 0..2 {
        let mut live = BTreeSet::new();
        // By turns in their order, so that a store that goes by it has swept some of what it has told, whatever was drawn.
        let keys: BTreeSet<Key> = (0..120).map(|_| session_key()).collect();
        for (n, key) in keys.into_iter().enumerate() {
            let mut record = trial.record([slot("n", n.to_string())]);
            if n % 2 == 0 {
                record.expires = trial.now();
            } else {
                live.insert(key.clone());
            }
            trial.put(&key, None, record).await;
        }
        trial.clock.advance(KEPT_AFTER_EXPIRY);
        let (mut found, mut next) = (BTreeSet::new(), None);
        loop {
            let scanned = trial.scan(next.as_deref(), 5).await;
            found.extend(scanned.keys);
            // What it goes on after may have gone by then.
            trial.sweep(10).await;
            next = scanned.next;
            if next.is_none() {
                break;
            }
        }
        let missed = live.difference(&found).count();
        trial.equal("none is missed, whatever goes", &missed, &0);
    }
}
