//! The owner index: none that exists is unlisted.

use super::trial::{HOUR, MINUTE, Trial, session_key, set, slot, successive_keys};
use crate::change::{Change, Committed, Kind};
use crate::key::{Key, UserId};
use crate::record::Ended;
use crate::store::Store;

fn ada() -> UserId {
    UserId::new("ada")
}

fn owned(change: Change, owner: &UserId) -> Change {
    Change {
        owner: Some(owner.clone()),
        ..change
    }
}

async fn session_of<S: Store>(trial: &Trial<S>, owner: &UserId) -> Key {
    let key = session_key();
    trial.apply(&key, &owned(trial.creation(&[]), owner)).await;
    key
}

async fn lists<S: Store>(trial: &Trial<S>, promise: &str, owner: &UserId, expected: &[&Key]) {
    let mut expected: Vec<Key> = expected.iter().copied().cloned().collect();
    expected.sort();
    trial.equal(promise, &trial.owned_by(owner).await, &expected);
}

pub(super) async fn a_created_record_is_listed_under_its_owner<S: Store>(trial: &Trial<S>) {
    lists(trial, "at first nothing is", &ada(), &[]).await;
    let one = session_of(trial, &ada()).await;
    lists(trial, "the first is", &ada(), &[&one]).await;
    let two = session_of(trial, &ada()).await;
    lists(trial, "both are", &ada(), &[&one, &two]).await;
}

pub(super) async fn an_updated_record_is_listed_under_its_owner<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    lists(trial, "a guest is nobody's", &ada(), &[]).await;
    trial.apply(&key, &owned(trial.update([]), &ada())).await;
    lists(trial, "it is listed", &ada(), &[&key]).await;
    trial.apply(&key, &owned(trial.update([]), &ada())).await;
    lists(trial, "and once", &ada(), &[&key]).await;
}

pub(super) async fn a_change_without_an_owner_leaves_the_index<S: Store>(trial: &Trial<S>) {
    let key = session_of(trial, &ada()).await;
    trial
        .apply(&key, &trial.update([set(None, &slot("a", "1"))]))
        .await;
    lists(trial, "it stays listed", &ada(), &[&key]).await;
}

pub(super) async fn a_moved_record_is_listed_under_its_new_key<S: Store>(trial: &Trial<S>) {
    let [from, to, further] = successive_keys();
    trial
        .apply(&from, &owned(trial.creation(&[]), &ada()))
        .await;
    trial.apply(&from, &trial.relocation(&to)).await;
    lists(trial, "a rotation keeps the owner", &ada(), &[&to]).await;
    trial
        .apply(&to, &owned(trial.relocation(&further), &UserId::new("bob")))
        .await;
    lists(
        trial,
        "a login may change it",
        &UserId::new("bob"),
        &[&further],
    )
    .await;
    lists(trial, "and takes it from the first", &ada(), &[]).await;
}

pub(super) async fn an_ended_record_is_not_listed<S: Store>(trial: &Trial<S>) {
    let (one, two) = (
        session_of(trial, &ada()).await,
        session_of(trial, &ada()).await,
    );
    trial
        .apply(&one, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    lists(trial, "the other is", &ada(), &[&two]).await;
    trial
        .apply(
            &two,
            &owned(trial.change(Kind::End(Ended::Revoked)), &ada()),
        )
        .await;
    lists(trial, "none is", &ada(), &[]).await;
}

pub(super) async fn a_new_owner_takes_over<S: Store>(trial: &Trial<S>) {
    let key = session_of(trial, &ada()).await;
    trial
        .apply(&key, &owned(trial.update([]), &UserId::new("bob")))
        .await;
    lists(
        trial,
        "the second owner has it",
        &UserId::new("bob"),
        &[&key],
    )
    .await;
    lists(trial, "the first has not", &ada(), &[]).await;
}

pub(super) async fn owners_are_listed_apart<S: Store>(trial: &Trial<S>) {
    let names = ["ada", "Ada", "ad", "ada ", "", "%", "ada}"].map(UserId::from);
    let mut keys = Vec::new();
    for name in &names {
        keys.push(session_of(trial, name).await);
    }
    for (name, key) in names.iter().zip(&keys) {
        lists(trial, "each owner has their own", name, &[key]).await;
    }
}

pub(super) async fn a_change_not_applied_lists_nothing<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1")]).await;
    let stale = trial.update([set(None, &slot("a", "2"))]);
    trial
        .conflict("the slot is stale", &key, &owned(stale, &ada()))
        .await;
    let create = owned(trial.creation(&[]), &ada());
    trial
        .expect("the key is taken", &key, &create, &Committed::Exists)
        .await;
    lists(trial, "nothing is listed", &ada(), &[]).await;
}

pub(super) async fn a_leftover_does_not_list_its_successor<S: Store>(trial: &Trial<S>) {
    let key = session_of(trial, &ada()).await;
    trial.clock.advance(2 * HOUR);
    trial.create(&key, &[]).await;
    lists(trial, "the new record is nobody's", &ada(), &[]).await;
}

pub(super) async fn a_successor_of_the_same_owner_is_listed<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    for key in [&from, &to] {
        trial.apply(key, &owned(trial.creation(&[]), &ada())).await;
    }
    trial.clock.advance(2 * HOUR);
    trial
        .apply(&from, &owned(trial.creation(&[]), &ada()))
        .await;
    trial.apply(&from, &trial.relocation(&to)).await;
    lists(trial, "the one that is there is listed", &ada(), &[&to]).await;
    trial.clock.advance(MINUTE);
    trial
        .apply(&from, &owned(trial.creation(&[]), &ada()))
        .await;
    lists(trial, "so are both", &ada(), &[&from, &to]).await;
}
