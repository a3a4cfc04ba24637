//! Claims: a record is frozen while a login credits what it holds.

use std::time::Duration;

use super::races::{TASKS, applied, race};
use super::trial::{
    HOUR, MINUTE, MS, SECOND, Trial, drop_slot, session_key, set, slot, successive_keys,
};
use crate::change::{Change, Committed, Expiry, Kind};
use crate::clock::Timestamp;
use crate::key::{Key, UserId};
use crate::record::{Ended, State};
use crate::store::Store;

fn claim(user: &str) -> Kind {
    Kind::Claim(UserId::new(user))
}

fn claimed(user: &str, at: Timestamp) -> State {
    State::Claimed {
        by: UserId::new(user),
        at,
        shared: false,
    }
}

fn shared(user: &str, at: Timestamp) -> State {
    State::Claimed {
        by: UserId::new(user),
        at,
        shared: true,
    }
}

/// A session with the slot `a`, claimed for Ada.
async fn claimed_session<S: Store>(trial: &Trial<S>) -> Key {
    let key = trial.session(&[slot("a", "1")]).await;
    trial.apply(&key, &trial.change(claim("ada"))).await;
    key
}

/// Lets go of a claim that was made just now.
fn release<S: Store>(trial: &Trial<S>) -> Change {
    trial.change(Kind::Release(trial.now()))
}

/// Commits what is answered so and changes nothing.
async fn refused<S: Store>(
    trial: &Trial<S>,
    promise: &str,
    key: &Key,
    (change, answer): (&Change, Committed),
) {
    let before = trial.load(key).await;
    trial.expect(promise, key, change, &answer).await;
    trial.equal("nothing is changed", &trial.load(key).await, &before);
}

pub(super) async fn a_claim_is_there_for_whoever_loads<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1"), slot("b", "2")]).await;
    let live = trial.record(&key).await;
    trial.clock.advance(SECOND);
    trial.apply(&key, &trial.change(claim("ada"))).await;
    let record = trial.record(&key).await;
    let state = claimed("ada", trial.now());
    trial.equal("it tells for whom and since when", &record.state, &state);
    trial.equal("its slots are there", &record.slots(), &live.slots());
    trial.equal("it expires as before", &record.expires, &live.expires);
    trial.equal("it was not written", &record.updated, &live.updated);
}

pub(super) async fn a_claimed_record_is_changed_no_more<S: Store>(trial: &Trial<S>) {
    let [key, to] = successive_keys();
    trial.create(&key, &[slot("a", "1")]).await;
    trial.apply(&key, &trial.change(claim("ada"))).await;
    let touch = Change {
        expiry: Expiry::Extend(trial.now() + 9 * HOUR),
        ..trial.update([])
    };
    let owned = Change {
        owner: Some(UserId::new("ada")),
        ..trial.update([])
    };
    let changes = [
        trial.update([set(None, &slot("b", "2"))]),
        trial.update([set(Some(&slot("a", "1")), &slot("a", "2"))]),
        trial.update([set(Some(&slot("a", "stale")), &slot("a", "2"))]),
        trial.update([drop_slot(&slot("a", "1"))]),
        touch,
        owned,
        trial.relocation(&to),
    ];
    for change in &changes {
        refused(trial, "it is frozen", &key, (change, Committed::Gone)).await;
    }
    let create = trial.creation(&[]);
    refused(
        trial,
        "its key is taken",
        &key,
        (&create, Committed::Exists),
    )
    .await;
    trial.equal("nothing has moved", &trial.load(&to).await, &None);
    let owned = trial.owned_by(&UserId::new("ada")).await;
    trial.check("it is nobody's", owned.is_empty());
}

pub(super) async fn a_claim_is_taken_up_by_its_user_alone<S: Store>(trial: &Trial<S>) {
    let key = claimed_session(trial).await;
    let before = trial.record(&key).await;
    trial.clock.advance(SECOND);
    let other = trial.change(claim("bob"));
    refused(trial, "it is not his", &key, (&other, Committed::Gone)).await;
    for _ in 0..2 {
        trial.clock.advance(SECOND);
        trial.apply(&key, &trial.change(claim("ada"))).await;
        let record = trial.record(&key).await;
        let state = shared("ada", trial.now());
        trial.equal("it is shared and counts from now", &record.state, &state);
        trial.equal("its slots are there", &record.slots(), &before.slots());
        trial.equal("it expires as before", &record.expires, &before.expires);
        let other = trial.change(claim("bob"));
        refused(trial, "it is not his", &key, (&other, Committed::Gone)).await;
    }
}

pub(super) async fn a_claim_that_is_taken_up_counts_from_later<S: Store>(trial: &Trial<S>) {
    let key = claimed_session(trial).await;
    let start = trial.now();
    let clocks = [
        (start, MS),              // the same millisecond
        (start - SECOND, 2 * MS), // another machine, whose clock is behind
        (start + SECOND, SECOND),
    ];
    for (now, later) in clocks {
        let again = Change::new(claim("ada"), now);
        trial.apply(&key, &again).await;
        let state = shared("ada", start + later);
        trial.equal(
            "each is told apart",
            &trial.record(&key).await.state,
            &state,
        );
    }
}

pub(super) async fn a_claim_that_is_taken_up_is_not_released_by_its_maker<S: Store>(
    trial: &Trial<S>,
) {
    for wait in [Duration::ZERO, SECOND] {
        let key = claimed_session(trial).await;
        let makers = release(trial);
        trial.clock.advance(wait);
        trial.apply(&key, &trial.change(claim("ada"))).await;
        refused(trial, "it is shared", &key, (&makers, Committed::Gone)).await;
    }
}

pub(super) async fn a_shared_claim_can_be_released_as_it_is<S: Store>(trial: &Trial<S>) {
    let key = claimed_session(trial).await;
    trial.apply(&key, &trial.change(claim("ada"))).await;
    trial.clock.advance(MINUTE);
    let seen = trial.change(Kind::Release(trial.now()));
    refused(trial, "not as it was not", &key, (&seen, Committed::Gone)).await;
    let State::Claimed { at, .. } = trial.record(&key).await.state else {
        return trial.check("it is claimed", false);
    };
    trial.apply(&key, &trial.change(Kind::Release(at))).await;
    trial.equal("it is live", &trial.record(&key).await.state, &State::Live);
    trial.apply(&key, &trial.change(claim("ada"))).await;
    let state = claimed("ada", trial.now());
    trial.equal(
        "the next is nobody else's",
        &trial.record(&key).await.state,
        &state,
    );
}

pub(super) async fn a_repeated_claim_takes_nothing_up<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let [first, second] = [trial.change(claim("ada")), trial.change(claim("ada"))];
    for change in [&first, &second] {
        trial.apply(&key, change).await;
        trial.clock.advance(SECOND);
        refused(trial, "it was applied", &key, (change, Committed::Applied)).await;
    }
    refused(trial, "it was applied", &key, (&first, Committed::Applied)).await;
}

pub(super) async fn a_claim_of_no_live_record_is_gone<S: Store>(trial: &Trial<S>) {
    let (ended, lapsed) = (trial.session(&[]).await, trial.session(&[]).await);
    trial
        .apply(&ended, &trial.change(Kind::End(Ended::LoggedIn)))
        .await;
    trial.clock.advance(2 * HOUR);
    for key in [&session_key(), &ended, &lapsed] {
        for kind in [claim("ada"), Kind::Release(trial.now())] {
            let change = trial.change(kind);
            refused(trial, "it is over", key, (&change, Committed::Gone)).await;
        }
    }
}

pub(super) async fn a_claimed_record_can_be_ended<S: Store>(trial: &Trial<S>) {
    let key = claimed_session(trial).await;
    trial
        .apply(&key, &trial.change(Kind::End(Ended::LoggedIn)))
        .await;
    let record = trial.record(&key).await;
    let state = State::Ended(Ended::LoggedIn);
    trial.equal("it tells its reason", &record.state, &state);
    trial.check("its slots are gone", record.slots().is_empty());
    for kind in [claim("ada"), Kind::Release(trial.now()), Kind::Update] {
        let change = trial.change(kind);
        refused(trial, "it stays so", &key, (&change, Committed::Gone)).await;
    }
}

pub(super) async fn a_released_record_is_live_again<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1")]).await;
    let before = trial.record(&key).await;
    trial.apply(&key, &trial.change(claim("ada"))).await;
    let release = Kind::Release(trial.now());
    trial.clock.advance(MINUTE);
    trial.apply(&key, &trial.change(release)).await;
    let record = trial.record(&key).await;
    trial.equal("it is live", &record.state, &State::Live);
    trial.equal("its slots are there", &record.slots(), &before.slots());
    trial.equal("it expires as before", &record.expires, &before.expires);
    trial
        .apply(
            &key,
            &trial.update([set(Some(&slot("a", "1")), &slot("a", "2"))]),
        )
        .await;
    trial.equal(
        "it can be written",
        &trial.slot(&key, "a").await,
        &slot("a", "2"),
    );
}

pub(super) async fn releasing_a_live_record_changes_nothing<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1")]).await;
    let release = release(trial);
    refused(trial, "it is applied", &key, (&release, Committed::Applied)).await;
}

pub(super) async fn a_released_record_can_be_claimed_by_another<S: Store>(trial: &Trial<S>) {
    let key = claimed_session(trial).await;
    trial.apply(&key, &release(trial)).await;
    trial.clock.advance(SECOND);
    trial.apply(&key, &trial.change(claim("bob"))).await;
    trial.equal(
        "it is his",
        &trial.record(&key).await.state,
        &claimed("bob", trial.now()),
    );
}

pub(super) async fn a_release_lets_go_of_its_own_claim_alone<S: Store>(trial: &Trial<S>) {
    let key = claimed_session(trial).await;
    let late = release(trial);
    trial.apply(&key, &release(trial)).await;
    trial.clock.advance(SECOND);
    trial.apply(&key, &trial.change(claim("bob"))).await;
    refused(trial, "it is of another", &key, (&late, Committed::Gone)).await;
}

pub(super) async fn a_claim_follows_no_move<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    trial.create(&from, &[]).await;
    trial.apply(&from, &trial.relocation(&to)).await;
    for kind in [claim("ada"), Kind::Release(trial.now())] {
        let change = trial.change(kind);
        let moved = Committed::Moved(to.clone());
        refused(trial, "it lives elsewhere", &from, (&change, moved)).await;
    }
    trial.apply(&to, &trial.change(claim("ada"))).await;
    trial.equal(
        "there it is claimed",
        &trial.record(&to).await.state,
        &claimed("ada", trial.now()),
    );
    trial.equal(
        "the old key still leads there",
        &trial.record(&from).await.state,
        &State::Moved(to),
    );
}

pub(super) async fn a_claimed_record_keeps_its_owner<S: Store>(trial: &Trial<S>) {
    let (key, ada) = (session_key(), UserId::new("ada"));
    let create = Change {
        owner: Some(ada.clone()),
        ..trial.creation(&[])
    };
    trial.apply(&key, &create).await;
    let listed = vec![key.clone()];
    for kind in [claim("ada"), Kind::Release(trial.now()), claim("ada")] {
        trial.apply(&key, &trial.change(kind)).await;
        trial.equal("it is listed", &trial.owned_by(&ada).await, &listed);
    }
    trial
        .apply(&key, &trial.change(Kind::End(Ended::LoggedIn)))
        .await;
    trial.equal("until it ends", &trial.owned_by(&ada).await, &Vec::new());
}

pub(super) async fn a_claimed_record_lapses_in_its_time<S: Store>(trial: &Trial<S>) {
    let key = claimed_session(trial).await;
    trial.clock.advance(2 * HOUR);
    trial.equal("it is swept", &trial.sweep(10).await.deleted, &1);
    trial.equal("it is gone", &trial.load(&key).await, &None);
}

pub(super) async fn a_repeated_claim_is_applied_once<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let first = trial.change(claim("ada"));
    trial.apply(&key, &first).await;
    trial.apply(&key, &release(trial)).await;
    refused(trial, "it was applied", &key, (&first, Committed::Applied)).await;
    trial.equal("it is live", &trial.record(&key).await.state, &State::Live);
}

pub(super) async fn a_repeated_release_is_applied_once<S: Store>(trial: &Trial<S>) {
    let key = claimed_session(trial).await;
    let first = release(trial);
    trial.apply(&key, &first).await;
    trial.apply(&key, &trial.change(claim("bob"))).await;
    refused(trial, "it was applied", &key, (&first, Committed::Applied)).await;
    trial.equal(
        "the claim since then stands",
        &trial.record(&key).await.state,
        &claimed("bob", trial.now()),
    );
}

pub(super) async fn users_of_unusual_names_claim<S: Store>(trial: &Trial<S>) {
    let long = "u".repeat(300);
    for name in ["", " ", "a}", "user:{a}", "a'b\"", "\0", "ü\n", "0", &long] {
        let key = trial.session(&[]).await;
        trial.apply(&key, &trial.change(claim(name))).await;
        trial.equal(
            "the name is as written",
            &trial.record(&key).await.state,
            &claimed(name, trial.now()),
        );
    }
}

pub(super) async fn one_of_many_users_claims<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let name = |n: usize| format!("user {}", n / 2);
    let outcomes = race(trial, |trial, n| {
        let (key, change) = (key.clone(), trial.change(claim(&name(n))));
        async move { trial.commit(&key, &change).await }
    })
    .await;
    trial.equal("one has it, in both of its tasks", &applied(&outcomes), &2);
    let winner = outcomes
        .iter()
        .position(|outcome| *outcome == Committed::Applied);
    trial.equal(
        "it is that one's",
        &trial.record(&key).await.state,
        &shared(&name(winner.unwrap_or_default()), trial.now() + MS),
    );
}

pub(super) async fn nothing_is_written_after_the_claim<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let outcomes = race(trial, |trial, n| {
        let key = key.clone();
        async move {
            if n == TASKS / 2 {
                trial.apply(&key, &trial.change(claim("ada"))).await;
                return (Committed::Gone, trial.load(&key).await);
            }
            let update = trial.update([set(None, &slot(&format!("s{n}"), "1"))]);
            (trial.commit(&key, &update).await, None)
        }
    })
    .await;
    let frozen = outcomes.iter().find_map(|(_, frozen)| frozen.clone());
    let (outcomes, _): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    let record = trial.record(&key).await;
    trial.equal(
        "what was frozen stands",
        &frozen.as_deref(),
        &Some(&*record),
    );
    trial.equal(
        "what was applied is in it, and nothing else",
        &record.slots().len(),
        &applied(&outcomes),
    );
}
