//! Bytes: whatever is stored comes back as it was.

use super::trial::{Trial, slot};
use crate::change::Kind;
use crate::key::{Key, UserId};
use crate::record::{Ended, Slot, State};
use crate::signature::Signature;
use crate::store::Store;

async fn comes_back<S: Store>(trial: &Trial<S>, slots: &[Slot]) {
    let key = trial.session(slots).await;
    let record = trial.record(&key).await;
    trial.equal(
        "no slot is missing or new",
        &record.slots().len(),
        &slots.len(),
    );
    for slot in slots {
        let same = record
            .slot(slot.name().as_str())
            .is_some_and(|found| **found == *slot);
        trial.check("the slot comes back as it was", same);
    }
}

pub(super) async fn payloads_keep_their_exact_bytes<S: Store>(trial: &Trial<S>) {
    let every: Vec<u8> = (0..=255).collect();
    let payloads: [&[u8]; 8] = [
        b"",
        b"\0",
        b"a\0b\0",
        b"\xff\xfe\xfa",
        b"\xc3\x28",
        b"'\"\\\r\n\t;--",
        "ß→😀".as_bytes(),
        &every,
    ];
    let slots: Vec<_> = payloads
        .iter()
        .zip('a'..)
        .map(|(bytes, name)| Slot::new(name.to_string(), bytes.to_vec(), None))
        .collect();
    comes_back(trial, &slots).await;
}

/// Bytes without a pattern that compression or a wrong length would hide.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let step = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(step).take(length).collect()
}

pub(super) async fn a_large_payload_keeps_its_bytes<S: Store>(trial: &Trial<S>) {
    let (kib, cap) = (1 << 10, 256 << 10);
    for length in [
        127,
        128,
        16_383,
        16_384,
        64 * kib - 1,
        64 * kib,
        cap - 1,
        cap,
    ] {
        comes_back(trial, &[Slot::new("large", noise(length), None)]).await;
    }
}

pub(super) async fn a_large_record_keeps_its_bytes<S: Store>(trial: &Trial<S>) {
    let quarter = (256 << 10) - 1;
    let slots = ["a", "b", "c", "d"].map(|name| Slot::new(name, noise(quarter), None));
    comes_back(trial, &slots).await;
}

pub(super) async fn unusual_names_keep_their_bytes<S: Store>(trial: &Trial<S>) {
    let long = "n".repeat(1_000);
    let names = [
        "", " ", "@ttl", "a.b", "a:b", "a b", "A", "a", "{}", "\0", "\n", "%s", "'", "ü",
        "u\u{308}", "0", &long,
    ];
    let slots: Vec<_> = names.iter().map(|name| slot(name, name)).collect();
    comes_back(trial, &slots).await;
}

pub(super) async fn unusual_user_names_keep_apart<S: Store>(trial: &Trial<S>) {
    let long = "u".repeat(300);
    let names = [
        "", " ", "a", "A", "a}", "{a}", "a:b", "user:{a}", "*", "%", "a'b", "ü", "u\u{308}", "0",
        "00", &long,
    ];
    let keys = names.map(|name| (Key::User(UserId::new(name)), slot("name", name)));
    for (key, slot) in &keys {
        trial.create(key, std::slice::from_ref(slot)).await;
    }
    for (key, slot) in &keys {
        trial.equal(
            "each user has a record of their own",
            &trial.slot(key, "name").await,
            slot,
        );
    }
}

pub(super) async fn signatures_are_kept_as_given<S: Store>(trial: &Trial<S>) {
    let bytes = [
        [0; 16],
        [0xff; 16],
        *b"\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0d'\"\\\0",
    ];
    let slots: Vec<_> = bytes
        .into_iter()
        .zip('a'..)
        .map(|(bytes, name)| {
            Slot::signed(name.to_string(), "1", None, Signature::from_bytes(bytes))
        })
        .collect();
    comes_back(trial, &slots).await;
}

pub(super) async fn a_long_reason_keeps_its_text<S: Store>(trial: &Trial<S>) {
    let reason = Ended::Deleted("why? \0 “because” ".repeat(500));
    let key = trial.session(&[]).await;
    trial
        .apply(&key, &trial.change(Kind::End(reason.clone())))
        .await;
    let record = trial.record(&key).await;
    trial.check(
        "the text comes back as it was",
        record.state == State::Ended(reason),
    );
}
