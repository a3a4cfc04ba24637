//! Sweeping: what has expired goes, nothing else does, and in doubt nothing at all.

use super::trial::{HOUR, MINUTE, MS, SECOND, Trial, just_before, session_key, successive_keys};
use crate::change::{Change, Expiry, Kind, TOMBSTONE};
use crate::clock::Timestamp;
use crate::key::{Key, UserId};
use crate::record::Ended;
use crate::store::Store;

/// More than any case has.
const ALL: usize = 1_000;

async fn expiring<S: Store>(trial: &Trial<S>, expires: Timestamp) -> Key {
    let key = session_key();
    trial
        .apply(
            &key,
            &Change {
                expiry: Expiry::Set(expires),
                ..trial.creation(&[])
            },
        )
        .await;
    key
}

pub(super) async fn sweeping_an_empty_store_finds_nothing<S: Store>(trial: &Trial<S>) {
    trial.equal(
        "there is nothing to delete",
        &trial.sweep(ALL).await.deleted,
        &0,
    );
}

pub(super) async fn sweeping_deletes_what_has_expired<S: Store>(trial: &Trial<S>) {
    let early = expiring(trial, trial.now() + SECOND).await;
    let late = expiring(trial, trial.now() + SECOND + MS).await;
    trial.clock.advance(just_before(SECOND));
    trial.equal(
        "a millisecond before, nothing goes",
        &trial.sweep(ALL).await.deleted,
        &0,
    );
    trial.clock.advance(MS);
    trial.equal("then one does", &trial.sweep(ALL).await.deleted, &1);
    trial.equal("it is gone", &trial.load(&early).await, &None);
    trial.record(&late).await;
    trial.clock.advance(MS);
    trial.equal(
        "a millisecond later the other goes",
        &trial.sweep(ALL).await.deleted,
        &1,
    );
    trial.equal("nothing is left to go", &trial.sweep(ALL).await.deleted, &0);
}

pub(super) async fn sweeping_spares_what_lives<S: Store>(trial: &Trial<S>) {
    let live = trial.session(&[]).await;
    let user = Key::User(UserId::new("ada"));
    let forever = Expiry::Set(Timestamp::from_millis(i64::MAX));
    trial
        .apply(
            &user,
            &Change {
                expiry: forever,
                ..trial.creation(&[])
            },
        )
        .await;
    trial.clock.advance(just_before(2 * HOUR));
    trial.sweep(ALL).await;
    trial.record(&live).await;
    trial.record(&user).await;
}

pub(super) async fn sweeping_spares_what_was_extended<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let extend = Change {
        expiry: Expiry::Extend(trial.now() + 4 * HOUR),
        ..trial.update([])
    };
    trial.apply(&key, &extend).await;
    trial.clock.advance(just_before(4 * HOUR));
    trial.sweep(ALL).await;
    trial.record(&key).await;
    trial.clock.advance(MS);
    trial.equal(
        "it goes at its new time",
        &trial.sweep(ALL).await.deleted,
        &1,
    );
}

pub(super) async fn sweeping_finds_what_was_shortened<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let shorten = Change {
        expiry: Expiry::Set(trial.now() + MINUTE),
        ..trial.update([])
    };
    trial.apply(&key, &shorten).await;
    trial.clock.advance(MINUTE);
    trial.equal(
        "it goes at its new time",
        &trial.sweep(ALL).await.deleted,
        &1,
    );
}

pub(super) async fn sweeping_keeps_to_its_limit<S: Store>(trial: &Trial<S>) {
    for n in 1..=25 {
        expiring(trial, trial.now() + n * MS).await;
    }
    trial.clock.advance(SECOND);
    trial.equal(
        "a limit of none deletes none",
        &trial.sweep(0).await.deleted,
        &0,
    );
    for expected in [10, 10, 5, 0] {
        trial.equal(
            "a sweep deletes its limit or what is left",
            &trial.sweep(10).await.deleted,
            &expected,
        );
    }
}

pub(super) async fn sweeping_deletes_tombstones_in_their_time<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    let far = Expiry::Set(trial.now() + 100 * HOUR);
    trial
        .apply(
            &from,
            &Change {
                expiry: far,
                ..trial.creation(&[])
            },
        )
        .await;
    trial.apply(&from, &trial.relocation(&to)).await;
    trial.clock.advance(MINUTE);
    trial.equal(
        "the way to the new key goes after the grace",
        &trial.sweep(ALL).await.deleted,
        &1,
    );
    trial.equal("it is gone", &trial.load(&from).await, &None);

    trial
        .apply(&to, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    trial.clock.advance(just_before(TOMBSTONE));
    trial.equal(
        "the reason stays for a day",
        &trial.sweep(ALL).await.deleted,
        &0,
    );
    trial.record(&to).await;
    trial.clock.advance(MS);
    trial.equal("then it goes", &trial.sweep(ALL).await.deleted, &1);
}

pub(super) async fn sweeping_names_the_sessions_that_nobody_had_ended<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    let (ended, claimed) = (trial.session(&[]).await, trial.session(&[]).await);
    let ada = UserId::new("ada");
    let create = Change {
        owner: Some(ada.clone()),
        ..trial.creation(&[])
    };
    trial.apply(&from, &create).await;
    trial.apply(&from, &trial.relocation(&to)).await;
    trial
        .apply(&ended, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    trial
        .apply(&claimed, &trial.change(Kind::Claim(ada.clone())))
        .await;
    trial.clock.advance(TOMBSTONE);
    let mut swept = trial.sweep(ALL).await;
    trial.equal("all have gone", &swept.deleted, &4);
    swept.expired.sort();
    let mut expected = vec![(to, Some(ada)), (claimed, None)];
    expected.sort();
    trial.equal("two had not ended before", &swept.expired, &expected);
}

pub(super) async fn sweeping_takes_the_owner_off_the_list<S: Store>(trial: &Trial<S>) {
    let (key, ada) = (session_key(), UserId::new("ada"));
    trial
        .apply(
            &key,
            &Change {
                owner: Some(ada.clone()),
                ..trial.creation(&[])
            },
        )
        .await;
    trial.clock.advance(2 * HOUR);
    trial.sweep(ALL).await;
    trial.equal(
        "nothing is listed",
        &trial.owned_by(&ada).await,
        &Vec::new(),
    );
}

pub(super) async fn sweeping_stands_still_after_a_step_forward<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    for step in [3 * HOUR, 24 * 365 * 10 * HOUR] {
        trial.clock.step_forward(step);
        trial.equal("nothing is deleted", &trial.sweep(ALL).await.deleted, &0);
        trial.record(&key).await;
    }
}

pub(super) async fn sweeping_goes_on_once_the_clock_is_back<S: Store>(trial: &Trial<S>) {
    expiring(trial, trial.now() + SECOND).await;
    trial.clock.advance(SECOND);
    trial.clock.step_back(HOUR);
    trial.equal(
        "after a step back it stands still",
        &trial.sweep(ALL).await.deleted,
        &0,
    );
    trial.clock.step_forward(HOUR);
    trial.equal("then it goes on", &trial.sweep(ALL).await.deleted, &1);
}

pub(super) async fn sweeping_stands_still_while_the_clocks_disagree<S: Store>(trial: &Trial<S>) {
    let expired = expiring(trial, trial.now() + SECOND).await;
    let live = trial.session(&[]).await;
    trial.clock.advance(MINUTE);
    let touch = |now| Change::new(Kind::Update, now);
    trial
        .apply(&live, &touch(trial.now() - MINUTE - SECOND))
        .await;
    trial.equal(
        "the app's clock is behind",
        &trial.sweep(ALL).await.deleted,
        &0,
    );
    trial
        .apply(&live, &touch(trial.now() + MINUTE + SECOND))
        .await;
    trial.equal(
        "the app's clock is ahead",
        &trial.sweep(ALL).await.deleted,
        &0,
    );
    trial.record(&expired).await;
    trial.apply(&live, &touch(trial.now() + SECOND)).await;
    trial.equal("they agree again", &trial.sweep(ALL).await.deleted, &1);
}
