//! What comes of each kind of change, by what is under the key.

use super::trial::{
    HOUR, MINUTE, MS, SECOND, Trial, drop_slot, just_before, session_key, set, slot,
    successive_keys,
};
use crate::change::{Change, Committed, Expiry, Kind, TOMBSTONE};
use crate::key::{Key, UserId};
use crate::record::{Ended, State};
use crate::store::Store;

pub(super) async fn an_unknown_key_loads_nothing<S: Store>(trial: &Trial<S>) {
    trial.create(&session_key(), &[]).await;
    trial.equal(
        "an unknown session loads nothing",
        &trial.load(&session_key()).await,
        &None,
    );
    let user = Key::User(UserId::new("nobody"));
    trial.equal(
        "an unknown user loads nothing",
        &trial.load(&user).await,
        &None,
    );
}

pub(super) async fn a_created_record_loads_as_it_was_written<S: Store>(trial: &Trial<S>) {
    let slots = [
        slot("cart", "[1,2]"),
        slot("@created", "7"),
        slot("empty", ""),
    ];
    let key = trial.session(&slots).await;
    let record = trial.record(&key).await;
    trial.equal("it is live", &record.state, &State::Live);
    trial.equal(
        "it has these slots and no others",
        &record.slots().len(),
        &slots.len(),
    );
    for slot in &slots {
        trial.equal(
            "the slot is as written",
            &trial.slot(&key, slot.name().as_str()).await,
            slot,
        );
    }
    trial.equal(
        "it expires as told",
        &record.expires,
        &(trial.now() + 2 * HOUR),
    );
    trial.equal("it was updated now", &record.updated, &trial.now());
    trial.equal("it was seen now", &record.seen, &trial.now());
}

pub(super) async fn a_second_create_finds_the_key_taken<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1")]).await;
    let before = trial.record(&key).await;
    let second = trial.creation(&[slot("b", "2")]);
    trial
        .expect("the key is taken", &key, &second, &Committed::Exists)
        .await;
    trial.equal(
        "the first record is untouched",
        &trial.record(&key).await,
        &before,
    );
}

pub(super) async fn a_create_over_a_lapsed_record_starts_from_nothing<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("old", "1")]).await;
    trial.clock.advance(just_before(2 * HOUR));
    let early = trial.creation(&[slot("new", "2")]);
    trial
        .expect(
            "a millisecond before it lapses it is taken",
            &key,
            &early,
            &Committed::Exists,
        )
        .await;
    trial.clock.advance(MS);
    trial.create(&key, &[slot("new", "2")]).await;
    let record = trial.record(&key).await;
    trial.check(
        "nothing of the lapsed record remains",
        record.slot("old").is_none(),
    );
    trial.equal(
        "the new one is there",
        &trial.slot(&key, "new").await,
        &slot("new", "2"),
    );
    trial.equal("its times are its own", &record.updated, &trial.now());
}

pub(super) async fn a_create_waits_until_a_way_to_another_key_has_lapsed<S: Store>(
    trial: &Trial<S>,
) {
    let [moved, to] = successive_keys();
    trial.create(&moved, &[]).await;
    trial.apply(&moved, &trial.relocation(&to)).await;
    trial
        .expect(
            "the key is taken",
            &moved,
            &trial.creation(&[]),
            &Committed::Exists,
        )
        .await;
    trial.clock.advance(MINUTE);
    trial.create(&moved, &[]).await;
}

pub(super) async fn a_create_over_an_ended_record_starts_from_nothing<S: Store>(trial: &Trial<S>) {
    let key = session_key();
    trial.create(&key, &[slot("old", "1")]).await;
    trial
        .apply(&key, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    trial.clock.advance(SECOND);
    let again = trial.creation(&[slot("new", "2")]);
    trial.apply(&key, &again).await;
    let record = trial.record(&key).await;
    trial.equal("it is live", &record.state, &State::Live);
    trial.check("nothing old is there", record.slot("old").is_none());
    trial.equal(
        "the new is",
        &trial.slot(&key, "new").await,
        &slot("new", "2"),
    );
    trial.equal(
        "it expires as it says",
        &record.expires,
        &(trial.now() + 2 * HOUR),
    );
    trial
        .expect(
            "it takes the key",
            &key,
            &trial.creation(&[]),
            &Committed::Exists,
        )
        .await;
}

pub(super) async fn a_change_to_no_record_is_gone<S: Store>(trial: &Trial<S>) {
    let [key, to] = successive_keys();
    for change in others(trial, &to) {
        trial
            .expect(
                "nothing is there to change",
                &key,
                &change,
                &Committed::Gone,
            )
            .await;
    }
    trial.equal("nothing comes to life", &trial.load(&key).await, &None);
    trial.equal(
        "nothing comes to life where it would move",
        &trial.load(&to).await,
        &None,
    );
}

pub(super) async fn a_change_to_an_ended_record_is_gone<S: Store>(trial: &Trial<S>) {
    let [key, to] = successive_keys();
    trial.create(&key, &[slot("a", "1")]).await;
    trial
        .apply(&key, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    let tombstone = trial.record(&key).await;
    for change in others(trial, &to) {
        trial
            .expect("an ended record stays so", &key, &change, &Committed::Gone)
            .await;
    }
    trial.equal(
        "the tombstone is untouched",
        &trial.record(&key).await,
        &tombstone,
    );
    trial.equal("nothing has moved", &trial.load(&to).await, &None);
}

pub(super) async fn a_change_to_a_lapsed_record_is_gone<S: Store>(trial: &Trial<S>) {
    let [key, to] = successive_keys();
    trial.create(&key, &[]).await;
    trial.clock.advance(2 * HOUR);
    for change in others(trial, &to) {
        trial
            .expect("a lapsed record stays so", &key, &change, &Committed::Gone)
            .await;
    }
    trial.equal("nothing has moved", &trial.load(&to).await, &None);
}

/// An update, a touch, a move and an end.
fn others<S: Store>(trial: &Trial<S>, to: &Key) -> [Change; 4] {
    let touch = Change {
        expiry: Expiry::Extend(trial.now() + HOUR),
        ..trial.update([])
    };
    let end = trial.change(Kind::End(Ended::Deleted("again".to_owned())));
    [
        trial.update([set(None, &slot("b", "2"))]),
        touch,
        trial.relocation(to),
        end,
    ]
}

pub(super) async fn a_move_takes_the_record_along<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    let (kept, old, new) = (slot("kept", "1"), slot("user", "null"), slot("user", "42"));
    trial.create(&from, &[kept.clone(), old.clone()]).await;
    trial.clock.advance(SECOND);
    let change = Change {
        slots: vec![set(Some(&old), &new)],
        expiry: Expiry::Set(trial.now() + 3 * HOUR),
        ..trial.relocation(&to)
    };
    trial.apply(&from, &change).await;

    let moved = trial.record(&to).await;
    trial.equal("it is live under the new key", &moved.state, &State::Live);
    trial.equal(
        "what it held goes along",
        &trial.slot(&to, "kept").await,
        &kept,
    );
    trial.equal(
        "the change is applied to it",
        &trial.slot(&to, "user").await,
        &new,
    );
    trial.equal(
        "so is the expiry",
        &moved.expires,
        &(trial.now() + 3 * HOUR),
    );
    let left = trial.record(&from).await;
    trial.equal(
        "the old key leads to the new one",
        &left.state,
        &State::Moved(to),
    );
    trial.check("nothing else is left there", left.slots().is_empty());
    trial.equal(
        "it leads there for the grace",
        &left.expires,
        &(trial.now() + MINUTE),
    );
}

pub(super) async fn a_moved_record_tells_its_new_key_until_the_grace_ends<S: Store>(
    trial: &Trial<S>,
) {
    let [from, to, elsewhere] = successive_keys();
    trial.create(&from, &[]).await;
    trial.apply(&from, &trial.relocation(&to)).await;
    trial.clock.advance(just_before(MINUTE));
    for change in others(trial, &elsewhere) {
        trial
            .expect(
                "the new key is told",
                &from,
                &change,
                &Committed::Moved(to.clone()),
            )
            .await;
    }
    trial.clock.advance(MS);
    for change in others(trial, &elsewhere) {
        trial
            .expect(
                "after the grace it is gone",
                &from,
                &change,
                &Committed::Gone,
            )
            .await;
    }
    trial
        .apply(&to, &trial.update([set(None, &slot("b", "2"))]))
        .await;
}

pub(super) async fn a_move_onto_a_taken_key_changes_nothing<S: Store>(trial: &Trial<S>) {
    let [from, taken, ended] = successive_keys();
    for key in [&from, &taken, &ended] {
        trial.create(key, &[slot("a", "1")]).await;
    }
    trial
        .apply(&ended, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    for to in [&taken, &ended, &from] {
        let before = (trial.record(&from).await, trial.record(to).await);
        trial
            .expect(
                "the new key is taken",
                &from,
                &trial.relocation(to),
                &Committed::Exists,
            )
            .await;
        let after = (trial.record(&from).await, trial.record(to).await);
        trial.equal("both records are untouched", &after, &before);
    }
}

pub(super) async fn a_move_onto_a_lapsed_record_replaces_it<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    trial.create(&to, &[slot("old", "1")]).await;
    trial.clock.advance(2 * HOUR);
    trial.create(&from, &[slot("new", "2")]).await;
    trial.apply(&from, &trial.relocation(&to)).await;
    trial.equal(
        "the record has moved",
        &trial.slot(&to, "new").await,
        &slot("new", "2"),
    );
    trial.check(
        "nothing of the lapsed one remains",
        trial.record(&to).await.slot("old").is_none(),
    );
}

pub(super) async fn a_move_that_conflicts_changes_nothing<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    trial.create(&from, &[slot("a", "1")]).await;
    let stale = Change {
        slots: vec![set(None, &slot("a", "2"))],
        ..trial.relocation(&to)
    };
    trial
        .conflict("a stale slot stops the move", &from, &stale)
        .await;
    trial.equal("nothing has moved", &trial.load(&to).await, &None);
}

pub(super) async fn a_second_move_leads_to_the_first<S: Store>(trial: &Trial<S>) {
    let [from, first, second] = successive_keys();
    trial.create(&from, &[]).await;
    trial.apply(&from, &trial.relocation(&first)).await;
    let late = trial.relocation(&second);
    trial
        .expect(
            "the first move stands",
            &from,
            &late,
            &Committed::Moved(first),
        )
        .await;
    trial.equal(
        "nothing is under the second key",
        &trial.load(&second).await,
        &None,
    );
}

pub(super) async fn a_chain_of_moves_is_followed_step_by_step<S: Store>(trial: &Trial<S>) {
    let [first, second, third] = successive_keys();
    trial.create(&first, &[slot("a", "1")]).await;
    trial.apply(&first, &trial.relocation(&second)).await;
    trial.apply(&second, &trial.relocation(&third)).await;
    let change = trial.update([drop_slot(&slot("a", "1"))]);
    trial
        .expect(
            "the first leads to the second",
            &first,
            &change,
            &Committed::Moved(second.clone()),
        )
        .await;
    trial
        .expect(
            "the second leads to the third",
            &second,
            &change,
            &Committed::Moved(third.clone()),
        )
        .await;
    trial.apply(&third, &change).await;
    trial.check(
        "there it is applied",
        trial.record(&third).await.slots().is_empty(),
    );
}

pub(super) async fn a_retired_key_leads_here_no_longer<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    trial.create(&from, &[]).await;
    trial.apply(&from, &trial.relocation(&to)).await;
    let soon = trial.now() + 10 * SECOND;
    let retire = Change {
        retire: Some((from.clone(), soon)),
        ..trial.update([])
    };
    trial.apply(&to, &retire).await;
    trial.equal(
        "the old key leads here until then",
        &trial.record(&from).await.expires,
        &soon,
    );
    let later = Change {
        retire: Some((from.clone(), soon + SECOND)),
        ..trial.update([])
    };
    trial.apply(&to, &later).await;
    trial.equal(
        "the grace is never lengthened",
        &trial.record(&from).await.expires,
        &soon,
    );
    trial.clock.advance(10 * SECOND);
    trial
        .expect(
            "then it leads nowhere",
            &from,
            &trial.update([]),
            &Committed::Gone,
        )
        .await;
}

pub(super) async fn retiring_touches_nothing_but_a_moved_record<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let (live, ended) = (trial.session(&[]).await, trial.session(&[]).await);
    trial
        .apply(&ended, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    for other in [&live, &ended] {
        let before = trial.record(other).await;
        let retire = Change {
            retire: Some((other.clone(), trial.now())),
            ..trial.update([])
        };
        trial.apply(&key, &retire).await;
        trial.equal(
            "a record that has not moved is untouched",
            &trial.record(other).await,
            &before,
        );
    }
    let nowhere = Change {
        retire: Some((session_key(), trial.now())),
        ..trial.update([])
    };
    trial.apply(&key, &nowhere).await;
}

pub(super) async fn a_change_not_applied_retires_nothing<S: Store>(trial: &Trial<S>) {
    let [from, to] = successive_keys();
    trial.create(&from, &[slot("a", "1")]).await;
    trial.apply(&from, &trial.relocation(&to)).await;
    let before = trial.record(&from).await;
    let stale = Change {
        retire: Some((from.clone(), trial.now())),
        ..trial.update([set(None, &slot("a", "2"))])
    };
    trial.conflict("the slot is stale", &to, &stale).await;
    trial.equal("the grace goes on", &trial.record(&from).await, &before);
}

pub(super) async fn every_reason_for_an_end_comes_back<S: Store>(trial: &Trial<S>) {
    let reasons = [
        Ended::Expired,
        Ended::AddressDiffers,
        Ended::UserAgentDiffers,
        Ended::Revoked,
        Ended::Deleted("the account was closed — “for good”".to_owned()),
        Ended::Deleted(String::new()),
        Ended::Malformed,
    ];
    for reason in reasons {
        let key = trial.session(&[slot("a", "1")]).await;
        trial
            .apply(&key, &trial.change(Kind::End(reason.clone())))
            .await;
        let record = trial.record(&key).await;
        trial.equal("the reason is kept", &record.state, &State::Ended(reason));
        trial.check("the slots are not", record.slots().is_empty());
    }
}

pub(super) async fn an_end_leaves_a_tombstone_for_a_day<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    trial.clock.advance(SECOND);
    trial
        .apply(&key, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    let record = trial.record(&key).await;
    trial.equal(
        "it lasts a day from the end",
        &record.expires,
        &(trial.now() + TOMBSTONE),
    );
}

pub(super) async fn an_end_with_a_stale_slot_conflicts<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1")]).await;
    let stale = Change {
        unchanged: vec![("a".into(), None)],
        ..trial.change(Kind::End(Ended::Deleted("unused".to_owned())))
    };
    trial
        .conflict("what was read has changed", &key, &stale)
        .await;
}

pub(super) async fn user_records_behave_like_sessions<S: Store>(trial: &Trial<S>) {
    let (ada, bob) = (Key::User(UserId::new("ada")), Key::User(UserId::new("bob")));
    trial
        .expect(
            "there is nobody yet",
            &ada,
            &trial.update([]),
            &Committed::Gone,
        )
        .await;
    trial.create(&ada, &[slot("cart", "1")]).await;
    trial
        .expect(
            "the user is there",
            &ada,
            &trial.creation(&[]),
            &Committed::Exists,
        )
        .await;
    trial.equal("another user is not", &trial.load(&bob).await, &None);
    trial
        .conflict(
            "slots conflict",
            &ada,
            &trial.update([set(None, &slot("cart", "2"))]),
        )
        .await;
    trial
        .apply(
            &ada,
            &trial.update([set(Some(&slot("cart", "1")), &slot("cart", "2"))]),
        )
        .await;
    trial.equal(
        "slots are set",
        &trial.slot(&ada, "cart").await,
        &slot("cart", "2"),
    );
    trial
        .apply(&ada, &trial.change(Kind::End(Ended::Revoked)))
        .await;
    trial
        .expect(
            "an ended user stays so",
            &ada,
            &trial.update([]),
            &Committed::Gone,
        )
        .await;
}
