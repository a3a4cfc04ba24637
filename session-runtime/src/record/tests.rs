use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Ended, FieldName, REMEMBERED, Record, Slot, TOMBSTONE, Version, arbitrary};
use crate::clock::Timestamp;
use crate::key::UserId;
use crate::secret::{SecretHash, Secrets};
use crate::signature::Signature;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn slot(name: &str, payload: &str) -> Arc<Slot> {
    Arc::new(Slot::new(name, payload.to_owned(), None))
}

fn names(record: &Record) -> Vec<&str> {
    let names = record.slots().iter().map(|slot| slot.name().as_str());
    names.collect()
}

#[test]
fn a_record_is_live_until_the_millisecond_it_expires() {
    let record = Record::new(NOW, at(2_000_000));
    assert!(record.is_live(at(1_999_999)));
    assert!(!record.is_live(at(2_000_000)));
    assert!(!record.is_live(at(2_000_001)));
}

#[test]
fn a_slot_is_live_until_the_millisecond_it_expires() {
    let slot = Slot::new("a", "1", Some(at(5)));
    assert!(slot.is_live(at(4)));
    assert!(!slot.is_live(at(5)));
    assert!(slot.retimed(None).is_live(at(i64::MAX)));
    let record = Record::new(NOW, at(9)).with_slots([Arc::new(slot)]);
    assert!(record.live_slot("a", at(4)).is_some());
    assert!(record.live_slot("a", at(5)).is_none());
    assert!(record.slot("a").is_some());
}

#[test]
fn a_slot_with_another_expiry_or_name_is_the_same_value() {
    let slot = Slot::signed("a", "1", None, Signature::unique([7; 16]));
    let later = slot.retimed(Some(at(9)));
    assert_eq!(later.expires(), Some(at(9)));
    let renamed = later.named(FieldName::fixed("b"));
    assert_eq!(renamed.name().as_str(), "b");
    assert_eq!(renamed.payload(), slot.payload());
    assert_eq!(renamed.signature(), slot.signature());
}

#[test]
fn a_name_is_its_text_whatever_its_length() {
    let texts = (0..40).flat_map(|length| ["a", "é"].map(|letter| letter.repeat(length)));
    let mut texts: Vec<String> = texts.collect();
    let mut names: Vec<FieldName> = texts.iter().map(|text| text.as_str().into()).collect();
    for (name, text) in names.iter().zip(&texts) {
        assert_eq!(name.as_str(), text);
        assert_eq!(name, &FieldName::fixed(text.clone().leak()));
        assert_eq!(name.clone().as_str(), text);
    }
    names.sort();
    texts.sort();
    assert!(names.iter().map(FieldName::as_str).eq(&texts));
}

#[test]
fn equal_bytes_are_one_value_unless_a_signature_tells_them_apart() {
    for payload in ["1", "longer than a signature"] {
        let signed = |signature| Slot::signed("a", payload, None, signature);
        let (own, other) = (slot("a", payload), slot("a", payload));
        let stored = signed(Signature::of(payload.as_bytes()));
        let unique = [7, 8].map(|n| signed(Signature::unique([n; 16])));
        assert!(own.has_value_of(&other) && *own == *other);
        assert!(own.has_value_of(&stored) && stored.has_value_of(&other));
        assert!(unique.iter().all(|unique| !own.has_value_of(unique)));
        assert!(!unique[0].has_value_of(&unique[1]) && unique[0] != unique[1]);
        assert!(unique[0].has_value_of(&unique[0].retimed(Some(NOW))));
        assert!(!own.has_value_of(&slot("a", "2")));
    }
}

#[test]
fn of_two_slots_of_one_name_the_later_counts() {
    let record = Record::new(NOW, NOW).with_slots([slot("a", "1"), slot("b", "2"), slot("a", "3")]);
    assert_eq!(names(&record), ["a", "b"]);
    assert_eq!(record.slot("a"), Some(&slot("a", "3")));
}

#[test]
fn a_slot_taken_out_is_no_longer_there() {
    let mut record = Record::new(NOW, NOW).with_slots([slot("a", "1"), slot("b", "2")]);
    assert_eq!(record.remove("a"), Some(slot("a", "1")));
    assert_eq!(record.remove("a"), None);
    record.retain(|slot| slot.name().as_str() != "b");
    assert_eq!(names(&record), Vec::<&str>::new());
}

#[test]
fn the_next_version_differs_in_its_version_alone() {
    let record = Record::new(NOW, at(9)).with_slots([slot("a", "1")]);
    let next = record.next();
    assert_ne!(next.version(), record.version());
    assert_eq!(next.earlier(), [record.version()]);
    assert!(Arc::ptr_eq(&next.slots()[0], &record.slots()[0]));
    let same = Record::stored(record.version(), Vec::new(), (*next.head).clone());
    let mut same = same.with_slots(next.slots().to_vec());
    (same.expires, same.updated, same.seen) = (next.expires, next.updated, next.seen);
    assert_eq!(same, record);
}

#[test]
fn the_last_sixteen_versions_are_remembered() {
    let mut record = Record::new(NOW, NOW);
    let mut versions = vec![record.version()];
    for _ in 0..40 {
        record = record.next();
        let kept = versions.len().saturating_sub(REMEMBERED);
        assert_eq!(record.earlier(), &versions[kept..]);
        // No room to spare: there is one of these for each session.
        versions.push(record.version());
    }
    let (forgotten, kept) = versions.split_at(versions.len() - REMEMBERED - 1);
    assert!(kept.iter().all(|version| record.is_or_was(*version)));
    assert!(!forgotten.iter().any(|version| record.is_or_was(*version)));
}

#[test]
fn a_tombstone_keeps_the_secrets_and_nothing_of_the_user() {
    let mut record = Record::new(NOW, at(9)).with_slots([slot("a", "1")]);
    record.head_mut().secrets = Secrets::first(SecretHash::of(b"1"), NOW);
    record.head_mut().user = Some(UserId::new("ada"));
    record.head_mut().address = Some("::1".into());
    record.head_mut().user_agent = Some("Mosaic".into());
    record.head_mut().label = Some("at home".into());
    let later = at(2_000_000);
    let end = record.tombstone(Ended::Revoked, later);
    assert_eq!(end.ended(), Some(&Ended::Revoked));
    assert_eq!(end.expires(), later + TOMBSTONE);
    assert_eq!(end.earlier(), [record.version()]);
    assert_eq!(end.seen(), later);
    assert_eq!(end.head.created, NOW);
    assert_eq!(end.head.secrets, record.head.secrets);
    assert_eq!(end.user(), None);
    assert_eq!((&end.head.address, &end.head.user_agent), (&None, &None));
    assert_eq!(end.head.label, None);
    assert!(end.slots().is_empty());
}

#[test]
fn a_tombstone_was_never_seen_before_its_record() {
    let record = Record::new(NOW, at(9));
    let end = record.tombstone(Ended::Expired, at(1));
    assert_eq!(end.seen(), NOW);
}

#[test]
fn no_value_and_no_user_is_shown() {
    let mut record = Record::new(NOW, at(9)).with_slots([slot("a", "canary")]);
    record.head_mut().user = Some(UserId::new("canary"));
    record.head_mut().secrets = Secrets::first(SecretHash::of(b"1"), NOW);
    let shown = format!("{record:?}");
    assert!(!shown.contains("canary"), "{shown}");
    let hash = format!("{:?}", SecretHash::of(b"1").as_bytes());
    assert!(!shown.contains(&hash), "{shown}");
}

proptest! {
    #[test]
    fn slots_stay_sorted_and_each_name_once(slots in vec(arbitrary::slot(), 0..30)) {
        let mut record = Record::new(NOW, NOW);
        for slot in &slots {
            record.set(Arc::new(slot.clone()));
            prop_assert_eq!(record.slot(slot.name().as_str()).map(AsRef::as_ref), Some(slot));
        }
        prop_assert!(record.slots().is_sorted_by(|a, b| a.name() < b.name()));
        let sizes = record.slots().iter().map(|slot| slot.name().as_str().len() + slot.payload().len());
        prop_assert_eq!(record.size(), sizes.sum::<usize>());
        for slot in &slots {
            record.remove(slot.name().as_str());
        }
        prop_assert!(record.slots().is_empty());
    }

    #[test]
    fn versions_come_back(bytes in any::<[u8; 8]>()) {
        prop_assert_eq!(Version::from_bytes(bytes).to_bytes(), bytes);
    }
}
