//! Records that nobody thought of, for the tests of whatever handles records.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Ended, Head, Record, Slot, Until, Version};
use crate::clock::Timestamp;
use crate::key::UserId;
use crate::secret::{Secret, SecretHash, Secrets, Standing};
use crate::signature::Signature;

/// Any text, control characters and the empty one included.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let chars = vec(any::<char>(), 0..12);
    prop_oneof![
        4 => chars.prop_map(String::from_iter),
        1 => "[a-c]{0,3}",
        1 => (100..600_usize).prop_map(|length| "x".repeat(length)),
    ]
}

fn boxed_text() -> impl Strategy<Value = Option<Box<str>>> {
    option::of(text().prop_map(String::into_boxed_str))
}

pub(crate) fn time() -> impl Strategy<Value = Timestamp> {
    let millis = prop_oneof![any::<i64>(), -1..2_i64, Just(i64::MIN), Just(i64::MAX)];
    millis.prop_map(Timestamp::from_millis)
}

fn version() -> impl Strategy<Value = Version> {
    any::<[u8; 8]>().prop_map(Version::from_bytes)
}

fn standing() -> impl Strategy<Value = Standing> {
    let by_and_until = (any::<u32>(), option::of(time()));
    prop_oneof![
        option::of(time()).prop_map(|presented| Standing::Current { presented }),
        by_and_until.prop_map(|(by, until)| Standing::Retiring { by, until }),
        (any::<u32>(), time(), option::of(time()))
            .prop_map(|(by, at, since)| Standing::Superseded { by, at, since }),
    ]
}

fn secret() -> impl Strategy<Value = Secret> {
    let parts = (any::<[u8; 16]>(), any::<u32>(), time(), standing());
    parts.prop_map(|(hash, number, issued, standing)| Secret {
        hash: SecretHash::from_bytes(hash),
        number,
        issued,
        standing,
    })
}

fn head() -> impl Strategy<Value = Head> {
    // Boxed: as one type they are too large for a test's stack.
    let undo = option::of(flat_head().boxed());
    (flat_head().boxed(), undo).prop_map(|(head, undo)| Head {
        undo: undo.map(Box::new),
        ..head
    })
}

/// A head that has none in it.
fn flat_head() -> impl Strategy<Value = Head> {
    let ttl = option::of(any::<u64>().prop_map(Duration::from_millis));
    let later = (option::of(time()), option::of(time()), option::of(time()));
    let times = (time(), ttl, later);
    let texts = (option::of(text()), boxed_text(), boxed_text(), boxed_text());
    let flags = (
        any::<bool>(),
        any::<Option<bool>>(),
        any::<Option<[u8; 16]>>(),
    );
    let rest = (vec(secret(), 0..6), flags, any::<u32>());
    (times, texts, rest).prop_map(|(times, texts, rest)| {
        let (created, ttl, (limit, ends, authenticated)) = times;
        let (user, address, user_agent, label) = texts;
        let (secrets, (unbound, kept, fingerprint), brought) = rest;
        Head {
            created,
            ttl,
            limit,
            until: Until::of(ends, fingerprint.map(SecretHash::from_bytes)),
            secrets: Secrets(secrets),
            user: user.map(UserId::from),
            authenticated,
            address,
            user_agent,
            unbound,
            kept,
            label,
            brought,
            undo: None,
        }
    })
}

pub(crate) fn ended() -> impl Strategy<Value = Option<Ended>> {
    option::of(prop_oneof![
        Just(Ended::Expired),
        Just(Ended::AddressDiffers),
        Just(Ended::UserAgentDiffers),
        Just(Ended::Revoked),
        text().prop_map(Ended::Deleted),
        Just(Ended::Malformed),
        Just(Ended::LoggedIn),
        Just(Ended::LoggedOut),
    ])
}

/// A slot whose payload is on this side or that of what is packed with a head. Few names, so that they meet.
pub(crate) fn slot() -> impl Strategy<Value = Slot> {
    let name = prop_oneof![3 => "[a-f]", 1 => text()];
    let length = prop_oneof![4 => 0..40_usize, 3 => 200..300_usize, 1 => 600..3_000_usize];
    let payload = (length, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]);
    let signature = option::of(any::<[u8; 16]>());
    let parts = (name, payload, option::of(time()), signature);
    parts.prop_map(|(name, payload, expires, signature)| match signature {
        None => Slot::new(name, payload, expires),
        Some(bytes) => Slot::signed(name, payload, expires, Signature::from_bytes(bytes)),
    })
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    let versions = (version(), vec(version(), 0..20));
    let times = (time(), time(), time());
    let parts = (versions, ended(), times, head(), vec(slot(), 0..14));
    parts.prop_map(|((version, earlier), ended, times, head, slots)| {
        let mut record = Record::stored(version, earlier, head);
        record.ended = ended;
        (record.expires, record.updated, record.seen) = times;
        record.with_slots(slots.into_iter().map(Arc::new))
    })
}
