//! Times: when a record or slot is gone, and what moves which of them.

use super::trial::{HOUR, MINUTE, MS, SECOND, Trial, just_before, session_key, set, slot};
use crate::change::{Change, Committed, Expiry, Kind};
use crate::clock::Timestamp;
use crate::key::Key;
use crate::record::Slot;
use crate::store::Store;

pub(super) async fn a_record_lapses_to_the_millisecond<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    trial.clock.advance(just_before(2 * HOUR));
    trial.apply(&key, &trial.update([])).await;
    trial.clock.advance(MS);
    trial
        .expect(
            "at its expiry it is gone",
            &key,
            &trial.update([]),
            &Committed::Gone,
        )
        .await;
}

pub(super) async fn the_time_of_the_change_decides<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let expires = trial.now() + 2 * HOUR;
    let late = Change::new(Kind::Update, expires);
    trial
        .expect(
            "the change's time counts, not the store's",
            &key,
            &late,
            &Committed::Gone,
        )
        .await;
    trial.clock.advance(3 * HOUR);
    let early = Change::new(Kind::Update, expires - MS);
    trial
        .expect("in both directions", &key, &early, &Committed::Applied)
        .await;
}

async fn with_expiry<S: Store>(trial: &Trial<S>, key: &Key, expiry: Expiry) -> Timestamp {
    trial
        .apply(
            key,
            &Change {
                expiry,
                ..trial.update([])
            },
        )
        .await;
    trial.record(key).await.expires
}

pub(super) async fn a_kept_expiry_stays<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let expires = trial.record(&key).await.expires;
    trial.clock.advance(HOUR);
    trial.equal(
        "it stays",
        &with_expiry(trial, &key, Expiry::Keep).await,
        &expires,
    );
}

pub(super) async fn an_extension_never_shortens<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let expires = trial.now() + 2 * HOUR;
    let earlier = Expiry::Extend(expires - MS);
    trial.equal(
        "an earlier time is ignored",
        &with_expiry(trial, &key, earlier).await,
        &expires,
    );
    let later = Expiry::Extend(expires + MS);
    trial.equal(
        "a later one is taken",
        &with_expiry(trial, &key, later).await,
        &(expires + MS),
    );
}

pub(super) async fn a_set_expiry_may_shorten<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let now = trial.now();
    for expires in [now + MINUTE, now + HOUR, now + SECOND] {
        let found = with_expiry(trial, &key, Expiry::Set(expires)).await;
        trial.equal("it is as told", &found, &expires);
    }
    trial.clock.advance(SECOND);
    trial
        .expect("and counts", &key, &trial.update([]), &Committed::Gone)
        .await;
}

pub(super) async fn a_touch_moves_seen_alone<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[slot("ttl", "1")]).await;
    let created = trial.now();
    trial.clock.advance(MINUTE);
    let touch = Change {
        unchanged: vec![("ttl".into(), Some(slot("ttl", "1").signature()))],
        expiry: Expiry::Extend(trial.now() + 2 * HOUR),
        ..trial.update([])
    };
    trial.apply(&key, &touch).await;
    let record = trial.record(&key).await;
    trial.equal("it was seen now", &record.seen, &trial.now());
    trial.equal("it was not updated", &record.updated, &created);
}

pub(super) async fn a_write_moves_updated_and_seen<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    trial.clock.advance(MINUTE);
    trial
        .apply(&key, &trial.update([set(None, &slot("a", "1"))]))
        .await;
    let record = trial.record(&key).await;
    trial.equal("it was updated now", &record.updated, &trial.now());
    trial.equal("it was seen now", &record.seen, &trial.now());
}

pub(super) async fn times_never_move_back<S: Store>(trial: &Trial<S>) {
    let key = trial.session(&[]).await;
    let created = trial.now();
    let earlier = Change {
        slots: vec![set(None, &slot("a", "1"))],
        ..Change::new(Kind::Update, created - SECOND)
    };
    trial.apply(&key, &earlier).await;
    let record = trial.record(&key).await;
    trial.equal(
        "the change is applied",
        &trial.slot(&key, "a").await,
        &slot("a", "1"),
    );
    trial.equal("updated stays", &record.updated, &created);
    trial.equal("seen stays", &record.seen, &created);
}

pub(super) async fn a_record_may_live_forever<S: Store>(trial: &Trial<S>) {
    let forever = Timestamp::from_millis(i64::MAX);
    let kept = Slot::new("a", "1", Some(forever));
    let key = session_key();
    let create = Change {
        expiry: Expiry::Set(forever),
        ..trial.creation(std::slice::from_ref(&kept))
    };
    trial.apply(&key, &create).await;
    trial.equal(
        "the record's expiry is kept",
        &trial.record(&key).await.expires,
        &forever,
    );
    trial.equal("the slot's too", &trial.slot(&key, "a").await, &kept);
    trial.clock.advance(24 * 365 * 100 * HOUR);
    trial.apply(&key, &trial.update([])).await;
}

pub(super) async fn slot_expiries_are_kept_to_the_millisecond<S: Store>(trial: &Trial<S>) {
    let at = |millis| Some(trial.now() + millis);
    let slots = [at(MS), at(HOUR + MS), Some(Timestamp::from_millis(1)), None]
        .into_iter()
        .zip('a'..)
        .map(|(expires, name)| Slot::new(name.to_string(), "1", expires))
        .collect::<Vec<_>>();
    let key = trial.session(&slots).await;
    for slot in &slots {
        trial.equal(
            "the expiry is exact",
            &trial.slot(&key, slot.name().as_str()).await,
            slot,
        );
    }
}
