//! What the tests of the stores share.
#![allow(dead_code, reason = "each test uses some of it")]

use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::Store;
use session_runtime::{
    Change, Committed, Ended, Expiry, Key, Kind, SessionId, Slot, SlotChange, Timestamp,
};

pub(crate) const TTL: Duration = Duration::from_secs(2 * 60 * 60);

pub(crate) fn session_key() -> Key {
    Key::from(&SessionId::generate().expect("random bytes"))
}

pub(crate) fn slot(name: &str, payload: impl Into<Vec<u8>>) -> Slot {
    Slot::new(name, payload.into(), None)
}

/// A create of these slots that lives for two hours.
pub(crate) fn creation(now: Timestamp, slots: &[Slot]) -> Change {
    let slots = slots
        .iter()
        .map(|slot| SlotChange::set(None, Arc::new(slot.clone())))
        .collect();
    Change {
        slots,
        expiry: Expiry::Set(now + TTL),
        ..Change::new(Kind::Create, now)
    }
}

pub(crate) fn update(now: Timestamp, slots: impl IntoIterator<Item = SlotChange>) -> Change {
    Change {
        slots: slots.into_iter().collect(),
        ..Change::new(Kind::Update, now)
    }
}

pub(crate) fn end(now: Timestamp) -> Change {
    Change::new(Kind::End(Ended::Revoked), now)
}

pub(crate) async fn create(store: &impl Store, now: Timestamp, slots: &[Slot]) -> Key {
    let key = session_key();
    apply(store, &key, &creation(now, slots)).await;
    key
}

pub(crate) async fn apply(store: &impl Store, key: &Key, change: &Change) {
    let committed = store.commit(key, change).await.expect("an answer");
    assert_eq!(committed, Committed::Applied);
}

/// Adds one to slot `n`, from whatever it is now, until that is applied.
pub(crate) async fn increment(store: &impl Store, key: &Key, now: Timestamp) {
    let mut record = store.load(key).await.expect("an answer").expect("a record");
    loop {
        let base = record.slot("n").expect("a slot").clone();
        let next = Arc::new(slot("n", (number(&base) + 1).to_string()));
        let change = update(now, [SlotChange::set(Some(base), next)]);
        match store.commit(key, &change).await.expect("an answer") {
            Committed::Conflict(newer) => record = newer,
            committed => return assert_eq!(committed, Committed::Applied),
        }
    }
}

pub(crate) fn number(slot: &Slot) -> usize {
    std::str::from_utf8(slot.payload())
        .expect("text")
        .parse()
        .expect("a number")
}
