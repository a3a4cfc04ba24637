//! Races: 64 tasks at once, and the outcome is as if they had come one after another.

use std::future::Future;

use super::trial::{SECOND, Trial, drop_slot, session_key, set, slot, successive_keys};
use crate::change::{Change, Committed, Kind};
use crate::key::{Key, UserId};
use crate::record::{Ended, Record, Slot, State};
use crate::store::Store;

pub(super) const TASKS: usize = 64;

/// Runs one task per number and gathers what they return.
pub(super) async fn race<S, F, Fut>(trial: &Trial<S>, task: F) -> Vec<Fut::Output>
where
    S: Store,
    F: Fn(Trial<S>, usize) -> Fut,
    Fut: Future<Output: Send> + Send + 'static,
{
    let running: Vec<_> = (0..TASKS)
        .map(|n| tokio::spawn(task(trial.clone(), n)))
        .collect();
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

pub(super) fn applied(outcomes: &[Committed]) -> usize {
    outcomes
        .iter()
        .filter(|outcome| **outcome == Committed::Applied)
        .count()
}

fn number(slot: &Slot) -> usize {
    std::str::from_utf8(slot.payload())
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// Adds one to slot `n`, from whatever it is now, until that is applied. Follows a move.
async fn increment<S: Store>(trial: &Trial<S>, key: &mut Key) {
    let mut base = trial.slot_where(key, "n").await;
    loop {
        let next = slot("n", &(number(&base) + 1).to_string());
        match trial
            .commit(key, &trial.update([set(Some(&base), &next)]))
            .await
        {
            Committed::Applied => return,
            Committed::Conflict(record) => base = trial.slot_of(&record, "n"),
            Committed::Moved(to) => *key = to,
            other => trial.check(&format!("an increment is not answered {other:?}"), false),
        }
    }
}

impl<S: Store> Trial<S> {
    fn slot_of(&self, record: &Record, name: &str) -> Slot {
        self.check("the slot is there", record.slot(name).is_some());
        record
            .slot(name)
            .map_or_else(|| slot(name, ""), |slot| Slot::clone(slot))
    }

    /// The slot where the record is now.
    async fn slot_where(&self, key: &mut Key, name: &str) -> Slot {
        loop {
            let record = self.record(key).await;
            match &record.state {
                State::Moved(to) => *key = to.clone(),
                _ => return self.slot_of(&record, name),
            }
        }
    }
}

pub(super) async fn increments_of_one_slot_are_all_counted<S: Store>(trial: &Trial<S>) {
    const EACH: usize = 8;
    let key = trial.session(&[slot("n", "0")]).await;
    race(trial, |trial, _| {
        let mut key = key.clone();
        async move {
            for _ in 0..EACH {
                increment(&trial, &mut key).await;
            }
        }
    })
    .await;
    let total = number(&trial.slot(&key, "n").await);
    trial.equal("every increment counts once", &total, &(TASKS * EACH));
}

pub(super) async fn writers_of_their_own_slots_never_conflict<S: Store>(trial: &Trial<S>) {
    const EACH: usize = 8;
    let key = trial.session(&[]).await;
    race(trial, |trial, n| {
        let (key, name) = (key.clone(), format!("s{n}"));
        async move {
            let mut base = None;
            for round in 0..EACH {
                let next = slot(&name, &round.to_string());
                trial
                    .apply(&key, &trial.update([set(base.as_ref(), &next)]))
                    .await;
                base = Some(next);
            }
        }
    })
    .await;
    let record = trial.record(&key).await;
    trial.equal("every slot is there", &record.slots().len(), &TASKS);
    let last = record.slots().iter().all(|slot| number(slot) == EACH - 1);
    trial.check("with the last value it was given", last);
}

pub(super) async fn one_of_many_creates_is_applied<S: Store>(trial: &Trial<S>) {
    let key = session_key();
    let outcomes = race(trial, |trial, n| {
        let key = key.clone();
        async move {
            trial
                .commit(&key, &trial.creation(&[slot("winner", &n.to_string())]))
                .await
        }
    })
    .await;
    trial.equal("one is applied", &applied(&outcomes), &1);
    let winner = number(&trial.slot(&key, "winner").await);
    trial.equal(
        "it is the one that is there",
        &outcomes[winner],
        &Committed::Applied,
    );
    let others = outcomes
        .iter()
        .filter(|outcome| **outcome == Committed::Exists)
        .count();
    trial.equal("the others find the key taken", &others, &(TASKS - 1));
}

pub(super) async fn one_change_sent_by_many_is_applied_once<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("n", "0")]).await;
    let change = trial.update([set(Some(&slot("n", "0")), &slot("n", "1"))]);
    race(trial, |trial, _| {
        let (key, change) = (key.clone(), change.clone());
        async move { trial.apply(&key, &change).await }
    })
    .await;
    trial.equal(
        "the slot is set",
        &trial.slot(&key, "n").await,
        &slot("n", "1"),
    );
}

pub(super) async fn nothing_is_written_after_the_end<S: Store>(trial: &Trial<S>) {
    const ENDS: usize = TASKS / 2;
    let key = trial.session(&[]).await;
    let outcomes = race(trial, |trial, n| {
        let key = key.clone();
        async move {
            if n == ENDS {
                trial
                    .apply(&key, &trial.change(Kind::End(Ended::Revoked)))
                    .await;
            }
            trial
                .commit(
                    &key,
                    &trial.update([set(None, &slot(&format!("s{n}"), "1"))]),
                )
                .await
        }
    })
    .await;
    trial.equal(
        "whoever ended it finds it gone",
        &outcomes[ENDS],
        &Committed::Gone,
    );
    let sane = outcomes
        .iter()
        .all(|outcome| matches!(outcome, Committed::Applied | Committed::Gone));
    trial.check("an update comes before the end or finds it gone", sane);
    let record = trial.record(&key).await;
    trial.equal("it has ended", &record.state, &State::Ended(Ended::Revoked));
    trial.check("with nothing written since", record.slots().is_empty());
}

pub(super) async fn one_of_many_moves_is_applied<S: Store>(trial: &Trial<S>) {
    let [from, targets @ ..]: [Key; TASKS + 1] = successive_keys();
    trial.create(&from, &[slot("a", "1")]).await;
    let outcomes = race(trial, |trial, n| {
        let (from, to) = (from.clone(), targets[n].clone());
        async move { trial.commit(&from, &trial.relocation(&to)).await }
    })
    .await;
    trial.equal("one is applied", &applied(&outcomes), &1);
    for (to, outcome) in targets.iter().zip(&outcomes) {
        let there = trial.load(to).await.is_some();
        trial.equal(
            "the record is where the winner moved it",
            &there,
            &(*outcome == Committed::Applied),
        );
    }
    let State::Moved(winner) = trial.record(&from).await.state.clone() else {
        return trial.check("the old key leads to the new one", false);
    };
    let follow = outcomes.iter().all(|outcome| match outcome {
        Committed::Moved(to) => *to == winner,
        other => *other == Committed::Applied,
    });
    trial.check("the others are led to the winner's key", follow);
}

pub(super) async fn a_move_loses_no_update<S: Store>(trial: &Trial<S>) {
    let keys: [Key; 9] = successive_keys();
    trial.create(&keys[0], &[slot("n", "0")]).await;
    race(trial, |trial, n| {
        let keys = keys.clone();
        async move {
            // Every eighth task moves the record on, which is but one more change to it.
            if n % 8 == 0 {
                relocate(&trial, &keys[n / 8], &keys[n / 8 + 1]).await;
            } else {
                increment(&trial, &mut keys[0].clone()).await;
            }
        }
    })
    .await;
    let total = number(&trial.slot(&keys[8], "n").await);
    trial.equal("every increment counts once", &total, &(TASKS - TASKS / 8));
}

/// Moves the record, once it has come to `from`.
async fn relocate<S: Store>(trial: &Trial<S>, from: &Key, to: &Key) {
    let change = trial.change(Kind::Move(to.clone(), trial.now() + 3_600 * SECOND));
    while trial.commit(from, &change).await == Committed::Gone {
        tokio::task::yield_now().await;
    }
}

pub(super) async fn one_of_many_claims_succeeds<S: Store>(trial: &Trial<S>) {
    let notice = slot("notice", "once");
    let key = trial.session(std::slice::from_ref(&notice)).await;
    let outcomes = race(trial, |trial, _| {
        let (key, notice) = (key.clone(), notice.clone());
        async move {
            let claim: Change = trial.update([drop_slot(&notice)]);
            trial.commit(&key, &claim).await
        }
    })
    .await;
    trial.equal("one gets it", &applied(&outcomes), &1);
    trial.check(
        "then it is gone",
        trial.record(&key).await.slots().is_empty(),
    );
}

pub(super) async fn a_record_that_moves_is_listed_at_every_moment<S: Store>(trial: &Trial<S>) {
    let ada = UserId::new("ada");
    let keys: [Key; 200] = successive_keys();
    let create = Change {
        owner: Some(ada.clone()),
        ..trial.creation(&[])
    };
    trial.apply(&keys[0], &create).await;
    let moving = tokio::spawn({
        let trial = trial.clone();
        async move {
            for step in keys.windows(2) {
                trial.apply(&step[0], &trial.relocation(&step[1])).await;
            }
        }
    });
    let mut is_over = false;
    while !is_over {
        is_over = moving.is_finished();
        let listed = trial.owned_by(&ada).await;
        trial.check("it is listed under one key at least", !listed.is_empty());
        tokio::task::yield_now().await;
    }
    if let Err(failed) = moving.await {
        std::panic::resume_unwind(failed.into_panic());
    }
}
