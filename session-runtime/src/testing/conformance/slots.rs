//! Slots: each is compared and set by itself, and a change is whole.

use super::trial::{MINUTE, MS, SECOND, Trial, drop_slot, just_before, retime, set, slot};
use crate::change::{Change, SlotChange};
use crate::record::Slot;
use crate::signature::Signature;
use crate::store::Store;

pub(super) async fn a_slot_is_set_from_the_value_it_is_based_on<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("n", "1")]).await;
    for (base, next) in [("1", "2"), ("2", "3"), ("3", "3")] {
        trial
            .apply(
                &key,
                &trial.update([set(Some(&slot("n", base)), &slot("n", next))]),
            )
            .await;
        trial.equal(
            "the slot is set",
            &trial.slot(&key, "n").await,
            &slot("n", next),
        );
    }
}

pub(super) async fn a_stale_slot_conflicts_and_shows_the_record<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("n", "1"), slot("m", "1")]).await;
    trial
        .apply(
            &key,
            &trial.update([set(Some(&slot("n", "1")), &slot("n", "2"))]),
        )
        .await;
    let stale = trial.update([set(Some(&slot("n", "1")), &slot("n", "3"))]);
    trial
        .conflict("the base is not what is stored", &key, &stale)
        .await;
    let same = trial.update([set(Some(&slot("n", "1")), &slot("n", "2"))]);
    trial
        .conflict("so it is if both wrote the same", &key, &same)
        .await;
}

pub(super) async fn a_slot_based_on_absence_must_be_absent<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let first = trial.update([set(None, &slot("n", "1"))]);
    trial.apply(&key, &first).await;
    trial.equal(
        "an absent slot is set",
        &trial.slot(&key, "n").await,
        &slot("n", "1"),
    );
    let second = trial.update([set(None, &slot("n", "2"))]);
    trial.conflict("a present one is not", &key, &second).await;
}

pub(super) async fn a_slot_based_on_a_value_must_be_there<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let never = slot("n", "1");
    trial
        .conflict(
            "an absent slot is no base",
            &key,
            &trial.update([set(Some(&never), &slot("n", "2"))]),
        )
        .await;
    trial
        .conflict(
            "nor for retiming",
            &key,
            &trial.update([retime(&never, None)]),
        )
        .await;
    trial
        .conflict("nor for dropping", &key, &trial.update([drop_slot(&never)]))
        .await;
}

pub(super) async fn changes_to_different_slots_never_conflict<S: Store>(trial: &Trial<S>) {
    let (a, b, c) = (slot("a", "1"), slot("b", "1"), slot("c", "1"));
    let key = trial.session(&[a.clone(), b.clone(), c.clone()]).await;
    // All made from one reading of the record.
    let changes = [
        trial.update([set(Some(&a), &slot("a", "2"))]),
        trial.update([retime(&b, Some(trial.now() + MINUTE))]),
        trial.update([drop_slot(&c)]),
        trial.update([set(None, &slot("d", "1"))]),
        trial.update([]),
    ];
    for change in &changes {
        trial.apply(&key, change).await;
    }
    trial.equal(
        "the first is kept",
        &trial.slot(&key, "a").await,
        &slot("a", "2"),
    );
    let retimed = b.retimed(Some(trial.now() + MINUTE));
    trial.equal("so is the second", &trial.slot(&key, "b").await, &retimed);
    trial.check(
        "and the third",
        trial.record(&key).await.slot("c").is_none(),
    );
    trial.equal(
        "and the fourth",
        &trial.slot(&key, "d").await,
        &slot("d", "1"),
    );
}

/// A change of `b` that was computed from `a`.
fn guarded<S: Store>(trial: &Trial<S>, name: &str, expected: Option<Signature>) -> Change {
    Change {
        unchanged: vec![(name.into(), expected)],
        ..trial.update([set(Some(&slot("b", "1")), &slot("b", "2"))])
    }
}

pub(super) async fn a_slot_that_was_read_must_not_have_changed<S: Store>(trial: &Trial<S>) {
    let (a, b) = (slot("a", "1"), slot("b", "1"));
    let key = trial.session(&[a.clone(), b]).await;
    let other = Some(slot("a", "other").signature());
    trial
        .conflict("another value stops it", &key, &guarded(trial, "a", other))
        .await;
    trial
        .conflict(
            "so does absence that was read",
            &key,
            &guarded(trial, "a", None),
        )
        .await;
    trial
        .apply(&key, &guarded(trial, "a", Some(a.signature())))
        .await;
    trial.equal(
        "what was read is untouched",
        &trial.slot(&key, "a").await,
        &a,
    );
    trial.equal(
        "what was computed from it is set",
        &trial.slot(&key, "b").await,
        &slot("b", "2"),
    );
}

pub(super) async fn a_slot_that_was_absent_must_not_have_appeared<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("b", "1")]).await;
    let read = Some(slot("a", "1").signature());
    trial
        .conflict(
            "a value that was read is gone",
            &key,
            &guarded(trial, "a", read),
        )
        .await;
    trial.apply(&key, &guarded(trial, "a", None)).await;
    trial.check(
        "what was absent stays so",
        trial.record(&key).await.slot("a").is_none(),
    );
}

pub(super) async fn a_lapsed_slot_counts_as_absent<S: Store>(trial: &Trial<S>) {
    let old = Slot::new("code", "1", Some(trial.now() + MINUTE));
    let key = trial.session(std::slice::from_ref(&old)).await;
    let next = slot("code", "2");

    trial.clock.advance(just_before(MINUTE));
    trial
        .conflict(
            "a millisecond before, it is there",
            &key,
            &trial.update([set(None, &next)]),
        )
        .await;
    trial.clock.advance(MS);
    let from_old = [set(Some(&old), &next), retime(&old, None), drop_slot(&old)];
    for change in from_old {
        trial
            .conflict("then it is not", &key, &trial.update([change]))
            .await;
    }
    trial.apply(&key, &trial.update([set(None, &next)])).await;
    trial.equal(
        "another takes its place",
        &trial.slot(&key, "code").await,
        &next,
    );
}

pub(super) async fn a_lapsed_slot_is_dropped_as_absent<S: Store>(trial: &Trial<S>) {
    let old = Slot::new("code", "1", Some(trial.now() + MINUTE));
    let key = trial.session(&[old.clone(), slot("n", "1")]).await;
    let change = || {
        trial.update([SlotChange {
            base: None,
            ..drop_slot(&old)
        }])
    };
    trial
        .conflict("while it is there, it is not absent", &key, &change())
        .await;
    trial.clock.advance(MINUTE);
    trial.apply(&key, &change()).await;
    let record = trial.record(&key).await;
    trial.check("nothing of it is left", record.slot("code").is_none());
    trial.check("the others are", record.slot("n").is_some());
}

pub(super) async fn a_lapsed_slot_guards_as_absent<S: Store>(trial: &Trial<S>) {
    let a = Slot::new("a", "1", Some(trial.now() + MINUTE));
    let key = trial.session(&[a.clone(), slot("b", "1")]).await;
    trial.clock.advance(just_before(MINUTE));
    trial
        .conflict(
            "a millisecond before, it is there",
            &key,
            &guarded(trial, "a", None),
        )
        .await;
    trial.clock.advance(MS);
    let present = guarded(trial, "a", Some(a.signature()));
    trial.conflict("then it is not", &key, &present).await;
    trial.apply(&key, &guarded(trial, "a", None)).await;
}

pub(super) async fn a_slot_is_retimed_without_its_payload<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1")]).await;
    for expires in [Some(trial.now() + MINUTE), Some(trial.now() + SECOND), None] {
        let base = trial.slot(&key, "a").await;
        trial
            .apply(&key, &trial.update([retime(&base, expires)]))
            .await;
        let retimed = trial.slot(&key, "a").await;
        trial.equal(
            "the expiry is new and the rest is not",
            &retimed,
            &slot("a", "1").retimed(expires),
        );
    }
}

pub(super) async fn a_stale_retime_conflicts<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "2")]).await;
    let stale = trial.update([retime(&slot("a", "1"), Some(trial.now() + MINUTE))]);
    trial
        .conflict("another value is not retimed", &key, &stale)
        .await;
}

pub(super) async fn a_dropped_slot_is_gone<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("a", "1"), slot("b", "1")]).await;
    trial
        .apply(&key, &trial.update([drop_slot(&slot("a", "1"))]))
        .await;
    trial.check("it is gone", trial.record(&key).await.slot("a").is_none());
    trial.equal(
        "the other is not",
        &trial.slot(&key, "b").await,
        &slot("b", "1"),
    );
    trial
        .apply(&key, &trial.update([set(None, &slot("a", "2"))]))
        .await;
    trial.equal(
        "it can be set again",
        &trial.slot(&key, "a").await,
        &slot("a", "2"),
    );
}

pub(super) async fn a_stale_drop_conflicts<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("notice", "newer")]).await;
    let stale = trial.update([drop_slot(&slot("notice", "older"))]);
    trial
        .conflict("a newer value is not dropped", &key, &stale)
        .await;
}

pub(super) async fn a_change_is_applied_whole_or_not_at_all<S: Store>(trial: &Trial<S>) {
    let (a, b, c) = (slot("a", "1"), slot("b", "1"), slot("c", "1"));
    let key = trial.session(&[a.clone(), b.clone(), c.clone()]).await;
    let good = [
        set(Some(&a), &slot("a", "2")),
        drop_slot(&b),
        set(None, &slot("d", "1")),
    ];
    // The stale one first, last, and in the middle.
    for at in 0..=good.len() {
        let mut slots = good.to_vec();
        slots.insert(at, set(None, &slot("c", "2")));
        trial
            .conflict("one stale slot stops all", &key, &trial.update(slots))
            .await;
    }
    trial.apply(&key, &trial.update(good)).await;
}

pub(super) async fn signatures_decide_and_not_payloads<S: Store>(trial: &Trial<S>) {
    let [one, two] =
        [1, 2].map(|n| Slot::signed("flash", "same", None, Signature::from_bytes([n; 16])));
    let key = trial.session(std::slice::from_ref(&two)).await;
    trial
        .conflict(
            "equal bytes under another signature differ",
            &key,
            &trial.update([drop_slot(&one)]),
        )
        .await;
    let other = Slot::signed("flash", "other", None, two.signature());
    trial.apply(&key, &trial.update([drop_slot(&other)])).await;
    trial.check(
        "other bytes under the same do not",
        trial.record(&key).await.slots().is_empty(),
    );
}

pub(super) async fn unknown_slots_are_carried_along<S: Store>(trial: &Trial<S>) {
    let unknown = Slot::new("from a newer version", "?", Some(trial.now() + MINUTE));
    let key = trial.session(std::slice::from_ref(&unknown)).await;
    trial
        .apply(&key, &trial.update([set(None, &slot("a", "1"))]))
        .await;
    trial
        .apply(&key, &trial.update([drop_slot(&slot("a", "1"))]))
        .await;
    trial.equal(
        "it is untouched",
        &trial.slot(&key, unknown.name().as_str()).await,
        &unknown,
    );
}

pub(super) async fn many_slots_stay_apart<S: Store>(trial: &Trial<S>) {
    let slots: Vec<_> = (0..200)
        .map(|n| slot(&format!("s{n}"), &n.to_string()))
        .collect();
    let key = trial.session(&slots).await;
    let (dropped, kept) = slots.split_at(100);
    trial
        .apply(&key, &trial.update(dropped.iter().map(drop_slot)))
        .await;
    trial.equal(
        "half of them are left",
        &trial.record(&key).await.slots().len(),
        &kept.len(),
    );
    for slot in kept {
        trial.equal(
            "each as it was",
            &trial.slot(&key, slot.name().as_str()).await,
            slot,
        );
    }
}
