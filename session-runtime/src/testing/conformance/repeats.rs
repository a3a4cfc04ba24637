//! Repeats: a commit whose answer was lost is made again under its id, and counts once.

use super::trial::{
    SECOND, Trial, drop_slot, just_before, session_key, set, slot, successive_keys,
};
use crate::change::{Change, Committed, Expiry, Kind, REMEMBERED};
use crate::record::{Ended, State};
use crate::store::Store;

pub(super) async fn a_repeated_create_is_applied_once<S: Store>(trial: &Trial<S>) {
    let key = session_key();
    let create = trial.creation(&[slot("a", "1")]);
    trial.apply(&key, &create).await;
    trial
        .apply(
            &key,
            &trial.update([set(Some(&slot("a", "1")), &slot("a", "2"))]),
        )
        .await;
    trial.apply(&key, &create).await;
    trial.equal(
        "what came after it stands",
        &trial.slot(&key, "a").await,
        &slot("a", "2"),
    );
    let another = trial.creation(&[]);
    trial
        .expect(
            "a create of its own is another",
            &key,
            &another,
            &Committed::Exists,
        )
        .await;
}

pub(super) async fn a_repeated_update_is_applied_once<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1"), slot("b", "1")]).await;
    let update = Change {
        expiry: Expiry::Set(trial.now() + SECOND * 90),
        ..trial.update([
            set(Some(&slot("a", "1")), &slot("a", "2")),
            drop_slot(&slot("b", "1")),
        ])
    };
    trial.apply(&key, &update).await;
    let after = trial.record(&key).await;
    for _ in 0..3 {
        trial.apply(&key, &update).await;
        trial.equal("the effect is had once", &trial.record(&key).await, &after);
    }
}

pub(super) async fn a_repeated_update_is_applied_once_though_others_came_between<S: Store>(
    trial: &Trial<S>,
) {
    let key = trial.session(&[slot("n", "0")]).await;
    let first = trial.update([set(Some(&slot("n", "0")), &slot("n", "1"))]);
    trial.apply(&key, &first).await;
    let back = trial.update([set(Some(&slot("n", "1")), &slot("n", "0"))]);
    trial.apply(&key, &back).await;
    for n in 0..200 {
        trial
            .apply(
                &key,
                &trial.update([set(None, &slot(&format!("s{n}"), "1"))]),
            )
            .await;
    }
    // The slot looks as it did before the first change: only its id tells.
    trial.apply(&key, &first).await;
    trial.equal(
        "what came between stands",
        &trial.slot(&key, "n").await,
        &slot("n", "0"),
    );
}

pub(super) async fn a_repeated_update_is_applied_though_the_record_moved_since<S: Store>(
    trial: &Trial<S>,
) {
    let [from, to] = successive_keys();
    trial.create(&from, &[]).await;
    let update = trial.update([set(None, &slot("a", "1"))]);
    trial.apply(&from, &update).await;
    trial.apply(&from, &trial.relocation(&to)).await;
    trial.apply(&from, &update).await;
}

pub(super) async fn a_repeated_update_is_applied_though_the_record_ended_since<S: Store>(
    trial: &Trial<S>,
) {
    let key = trial.session(&[]).await;
    let update = trial.update([set(None, &slot("a", "1"))]);
    trial.apply(&key, &update).await;
    trial
        .apply(&key, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    trial.apply(&key, &update).await;
    let record = trial.record(&key).await;
    trial.equal(
        "it stays ended",
        &record.state,
        &State::Ended(Ended::Revoked),
    );
}

pub(super) async fn a_repeated_move_is_applied_once<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    trial.create(&from, &[slot("a", "1")]).await;
    let relocation = trial.relocation(&to);
    trial.apply(&from, &relocation).await;
    trial
        .apply(
            &to,
            &trial.update([set(Some(&slot("a", "1")), &slot("a", "2"))]),
        )
        .await;
    let (left, moved) = (trial.record(&from).await, trial.record(&to).await);
    trial.apply(&from, &relocation).await;
    trial.equal(
        "the old key leads on as it did",
        &trial.record(&from).await,
        &left,
    );
    trial.equal(
        "what came after the move stands",
        &trial.record(&to).await,
        &moved,
    );
}

pub(super) async fn a_repeated_end_is_applied_once<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1")]).await;
    let end = trial.change(Kind::End(Ended::Deleted("done".to_owned())));
    trial.apply(&key, &end).await;
    let tombstone = trial.record(&key).await;
    trial.apply(&key, &end).await;
    trial.equal(
        "the tombstone is untouched",
        &trial.record(&key).await,
        &tombstone,
    );
    let another = trial.change(Kind::End(Ended::Revoked));
    trial
        .expect(
            "an end of its own is another",
            &key,
            &another,
            &Committed::Gone,
        )
        .await;
}

pub(super) async fn a_repeat_is_remembered_for_a_minute<S: Store>(trial: &Trial<S>) {
    // Several times over, so that a store which forgets in rounds is met at every point of a round.
    for _ in 0..5 {
        let key = trial.session(&[slot("n", "0")]).await;
        let update = trial.update([set(Some(&slot("n", "0")), &slot("n", "1"))]);
        trial.apply(&key, &update).await;
        for n in 0..3 {
            trial.clock.advance(REMEMBERED / 4);
            trial
                .apply(
                    &key,
                    &trial.update([set(None, &slot(&format!("s{n}"), "1"))]),
                )
                .await;
        }
        trial.clock.advance(just_before(REMEMBERED / 4));
        trial.sweep(1_000).await;
        trial.apply(&key, &update).await;
        trial.clock.advance(13 * SECOND);
    }
}

pub(super) async fn a_repeat_to_an_older_record_is_remembered_for_a_minute<S: Store>(
    trial: &Trial<S>,
) {
    // At every age, so that a store which forgets in rounds for each record is met at every point of one.
    for age in 0..8 {
        let key = trial.session(&[slot("n", "0")]).await;
        trial.clock.advance(10 * age * SECOND);
        let update = trial.update([set(Some(&slot("n", "0")), &slot("n", "1"))]);
        trial.apply(&key, &update).await;
        for n in 0..3 {
            trial.clock.advance(REMEMBERED / 4);
            let other = trial.update([set(None, &slot(&format!("s{n}"), "1"))]);
            trial.apply(&key, &other).await;
        }
        trial.clock.advance(just_before(REMEMBERED / 4));
        trial.apply(&key, &update).await;
    }
}

pub(super) async fn a_change_that_was_refused_may_be_repeated<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("n", "1")]).await;
    let early = trial.update([set(Some(&slot("n", "2")), &slot("n", "3"))]);
    trial.conflict("it comes too early", &key, &early).await;
    trial
        .apply(
            &key,
            &trial.update([set(Some(&slot("n", "1")), &slot("n", "2"))]),
        )
        .await;
    trial.apply(&key, &early).await;
    trial.equal(
        "now it is applied",
        &trial.slot(&key, "n").await,
        &slot("n", "3"),
    );
}

pub(super) async fn equal_changes_under_two_ids_are_two_changes<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("n", "0")]).await;
    let step = || trial.update([set(Some(&slot("n", "0")), &slot("n", "1"))]);
    trial.apply(&key, &step()).await;
    trial
        .conflict("the second finds the first", &key, &step())
        .await;
}

pub(super) async fn one_id_on_two_records_is_two_changes<S: Store>(trial: &Trial<S>) {
    let [one, two] = successive_keys();
    let create = trial.creation(&[slot("a", "1")]);
    trial.apply(&one, &create).await;
    trial.apply(&two, &create).await;
    trial.equal(
        "the second is there too",
        &trial.slot(&two, "a").await,
        &slot("a", "1"),
    );
}
