use std::collections::BTreeMap;
use std::sync::Arc;

use allocation_counter::measure;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::packed::{Packed, SMALL, pack};
use super::{FORMAT, Fault, Reader, delta, put_length, unpack};
use crate::clock::Timestamp;
use crate::error::Causes;
use crate::key::UserId;
use crate::record::{Ended, Head, Record, Slot, Version, arbitrary};
use crate::secret::{Secret, SecretHash, Secrets, Standing};
use crate::signature::Signature;
use crate::store::StoreError;

/// The rooms that stores pack into, some that none has, and all that there is.
const ROOMS: [usize; 7] = [0, 1, 100, 256, 700, 2_048, usize::MAX];

/// What stands beside a head.
type Beside = BTreeMap<String, Bytes>;

fn read(bytes: &[u8]) -> Result<Record, Fault> {
    let frame = Bytes::copy_from_slice(bytes);
    let mut reader = Reader::new(&frame);
    reader.record(|_| None)
}

fn unpacked(head: Vec<u8>, beside: &Beside) -> Record {
    let lookup = |name: &str| beside.get(name).cloned();
    unpack(&Bytes::from(head), lookup).unwrap()
}

fn standing_beside(record: &Record, room: usize) -> Beside {
    let Packed { beside, .. } = pack(record, room);
    let beside = beside.into_iter();
    let named = beside.map(|slot| {
        let payload = Bytes::copy_from_slice(slot.payload());
        (slot.name().as_str().to_owned(), payload)
    });
    named.collect()
}

// The form.

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn golden_secrets() -> Secrets {
    let standings = [
        Standing::Current { presented: None },
        Standing::Current {
            presented: Some(at(1)),
        },
        Standing::Retiring {
            by: 300,
            until: None,
        },
        Standing::Retiring {
            by: 2,
            until: Some(at(2)),
        },
        Standing::Superseded {
            by: 6,
            at: at(3),
            since: None,
        },
        Standing::Superseded {
            by: 7,
            at: at(3),
            since: Some(at(5)),
        },
    ];
    let secrets = standings
        .into_iter()
        .zip(1..)
        .map(|(standing, number)| Secret {
            hash: SecretHash::from_bytes([u8::try_from(number).unwrap(); 16]),
            number,
            issued: at(4),
            standing,
        });
    Secrets(secrets.collect())
}

fn golden_record() -> Record {
    let head = Head {
        created: at(-1),
        ttl: Some(std::time::Duration::from_millis(0x0708)),
        limit: Some(at(0x0102)),
        until: None,
        secrets: golden_secrets(),
        user: Some(UserId::new("ada")),
        authenticated: Some(at(0x0304)),
        address: Some("::1".into()),
        user_agent: Some("".into()),
        unbound: true,
        kept: Some(true),
        label: Some("ü".into()),
        brought: 0x0001_0203,
        undo: Some(Box::new(Head {
            created: at(-2),
            ..Head::default()
        })),
    };
    let version = Version::from_bytes(*b"version!");
    let earlier = vec![
        Version::from_bytes(*b"earlier1"),
        Version::from_bytes(*b"earlier2"),
    ];
    let mut record = Record::stored(version, earlier, head);
    (record.expires, record.updated, record.seen) = (at(i64::MAX), at(2), at(3));
    record.ended = Some(Ended::Deleted("why".to_owned()));
    let signature = Signature::from_bytes(*b"signature of b..");
    let long = Slot::signed("b", vec![b'!'; 200], Some(at(5)), signature);
    let signature = Signature::from_bytes(*b"signature of a..");
    record.with_slots([long, Slot::signed("a", "1", None, signature)].map(Arc::new))
}

/// The golden record, part by part. What is written here is in stores: a change of it is a new format.
fn golden_frame() -> Vec<u8> {
    let time = i64::to_le_bytes;
    let parts: [&[u8]; 57] = [
        b"\x01version!",
        b"\x02earlier1earlier2",
        &time(i64::MAX),
        &time(2),
        &time(3),
        b"\x06\x03why",
        // All members, and when it was created.
        b"\xff\x0f",
        &time(-1),
        &time(0x0708),
        &time(0x0102),
        &time(0x0304),
        b"\x03ada",
        b"\x03::1",
        b"\x00",
        b"\x02\xc3\xbc",
        b"\x03\x02\x01\x00",
        // Six secrets: hash, number, issued, standing.
        b"\x06",
        &[1; 16],
        b"\x01",
        &time(4),
        b"\x00",
        &[2; 16],
        b"\x02",
        &time(4),
        b"\x01",
        &time(1),
        &[3; 16],
        b"\x03",
        &time(4),
        b"\x02\xac\x02",
        &[4; 16],
        b"\x04",
        &time(4),
        b"\x03\x02",
        &time(2),
        &[5; 16],
        b"\x05",
        &time(4),
        b"\x04\x06",
        &time(3),
        &[6; 16],
        b"\x06",
        &time(4),
        b"\x05\x07",
        &time(3),
        &time(5),
        // The head to go back to: no members, when it was created, no secrets.
        b"\x00\x00",
        &time(-2),
        b"\x00",
        // Two slots: name, flags, expiry, signature, length.
        b"\x02",
        b"\x01a\x00signature of a..\x01",
        b"\x01b\x01",
        &time(5),
        b"signature of b..",
        b"\xc8\x01",
        b"1",
        &[b'!'; 200],
    ];
    parts.concat()
}

/// Counts by slots, since each load of a session takes so many for each field that there is.
#[test]
fn reading_takes_one_allocation_for_each_slot() {
    let of = |slots: usize| {
        let slots =
            (0..slots).map(|n| Arc::new(Slot::new(format!("a_usual_name_{n:03}"), "1", None)));
        let bytes = Bytes::from(Record::new(at(0), at(1)).with_slots(slots).to_bytes());
        measure(|| drop(Record::from_bytes(&bytes))).count_total
    };
    assert_eq!(of(122) - of(22), 100);
}

#[test]
fn the_stored_form_is_what_it_was() {
    assert_eq!(golden_record().to_bytes(), golden_frame());
    assert_eq!(read(&golden_frame()), Ok(golden_record()));
}

#[test]
fn an_empty_record_takes_a_few_dozen_bytes() {
    let record = Record::new(at(1), at(2));
    assert_eq!(record.to_bytes().len(), 1 + 8 + 1 + 24 + 1 + 2 + 8 + 1 + 1);
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let mut frame = golden_frame();
    frame[0] = FORMAT + 1;
    assert_eq!(read(&frame), Err(Fault::Format(2)));
    let error = StoreError::from(Record::from_bytes(&frame.into()).unwrap_err());
    let said = Causes(&error).to_string();
    let expected = "a stored record has format 2, and this version of the library reads 1";
    assert!(said.ends_with(expected), "{said}");
    assert!(!error.is_transient());
}

#[test]
fn each_fault_is_told_from_the_others() {
    let frame = golden_frame();
    let faulty = |at: usize, byte: u8| {
        let mut frame = frame.clone();
        frame[at] = byte;
        read(&frame).unwrap_err()
    };
    // After format, versions and times.
    let end = 1 + 8 + 1 + 16 + 24;
    assert_eq!(faulty(end, 1), Fault::State(1));
    assert_eq!(faulty(end, 10), Fault::State(10));
    assert_eq!(faulty(end + 2, 0xff), Fault::Text);
    assert_eq!(faulty(end + 6, 0x4f), Fault::Flag);
    assert_eq!(faulty(end + 6, 0x0b), Fault::Flag);
    // A head within a head within a head.
    let nested = frame.len() - 201 - 20 - 29 - 1 - 11;
    assert_eq!(&frame[nested..nested + 2], b"\0\0");
    assert_eq!(faulty(nested + 1, 0x02), Fault::Flag);
    let slots = frame.len() - 201 - 20 - 29;
    assert_eq!(&frame[slots..slots + 2], b"\x01a");
    assert_eq!(faulty(slots + 1, b'c'), Fault::Order);
    assert_eq!(faulty(slots + 1, b'b'), Fault::Order);
    assert_eq!(faulty(slots + 2, 8), Fault::Flag);
    assert_eq!(faulty(slots + 2, 2), Fault::Beside);
    assert_eq!(faulty(slots + 19, 0), Fault::Surplus);
    assert_eq!(faulty(slots + 19, 2), Fault::Short);
    assert_eq!(read(&[]), Err(Fault::Short));
    assert_eq!(read(&[&frame[..], b"\0"].concat()), Err(Fault::Surplus));
    let endless = [&frame[..9], &[0xff; 10]].concat();
    assert_eq!(read(&endless), Err(Fault::Length));
    // The tenth byte has room for one bit.
    let too_long = [&frame[..9], &[0x80; 9], &[2]].concat();
    assert_eq!(read(&too_long), Err(Fault::Length));
}

#[test]
fn faults_quote_nothing_of_a_record() {
    let mut frame = golden_frame();
    frame.truncate(frame.len() - 1);
    let error = Record::from_bytes(&frame.into()).unwrap_err();
    let said = format!("{} {error:?}", Causes(&error));
    assert!(!said.contains("ada") && !said.contains('!'), "{said}");
}

#[test]
fn long_payloads_are_slices_of_what_was_read() {
    let now = at(0);
    let slot = Arc::new(Slot::new("a", vec![b'1'; 24], None));
    let frame = Bytes::from(Record::new(now, now).with_slots([slot]).to_bytes());
    let record = Record::from_bytes(&frame).unwrap();
    let within = frame.as_ptr_range();
    assert!(within.contains(&record.slots()[0].payload().as_ptr()));
}

// Whatever the bytes.

/// How much is set aside for a byte that is read, at most.
const MULTIPLE: u64 = 24;

fn reads_within_bounds(bytes: &[u8]) {
    let frame = Bytes::copy_from_slice(bytes);
    let taken = measure(|| drop(Record::from_bytes(&frame)));
    let most = MULTIPLE * bytes.len() as u64 + 1_024;
    assert!(
        taken.bytes_max <= most,
        "{} for {}",
        taken.bytes_max,
        bytes.len()
    );
}

#[test]
fn a_count_that_lies_sets_nothing_aside() {
    let frame = golden_frame();
    for at in 0..frame.len() {
        for claim in [&[0x7f_u8][..], &[0xff, 0xff, 0x7f], &[0xff; 5], &[0xff; 10]] {
            reads_within_bounds(&[&frame[..at], claim, &frame[at..]].concat());
        }
    }
}

#[test]
fn the_smallest_of_slots_take_a_small_multiple() {
    let slots = (0..10_000).map(|n: u32| Arc::new(Slot::new(format!("{n:x}"), "", None)));
    reads_within_bounds(&Record::new(at(1), at(2)).with_slots(slots).to_bytes());
}

#[test]
fn a_cut_frame_is_no_record() {
    let frame = golden_frame();
    for length in 0..frame.len() {
        assert!(read(&frame[..length]).is_err(), "cut after {length} bytes");
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed_or_panics() {
    let (frame, record) = (golden_frame(), golden_record());
    for bit in 0..8 * frame.len() {
        let mut flipped = frame.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(read(&flipped), Ok(record.clone()), "bit {bit}");
        reads_within_bounds(&flipped);
    }
}

proptest! {
    #[test]
    fn any_record_comes_back(record in arbitrary::record()) {
        let bytes = Bytes::from(record.to_bytes());
        prop_assert_eq!(Record::from_bytes(&bytes).unwrap(), record);
    }

    #[test]
    fn any_record_is_told_from_any_other(one in arbitrary::record(), other in arbitrary::record()) {
        prop_assert_eq!(one == other, one.to_bytes() == other.to_bytes());
    }

    #[test]
    fn any_bytes_are_read_without_panic(mut bytes in vec(any::<u8>(), 0..400), marked: bool) {
        if let Some(first) = bytes.first_mut().filter(|_| marked) {
            *first = FORMAT;
        }
        reads_within_bounds(&bytes);
    }

    #[test]
    fn any_damage_is_read_without_panic(
        record in arbitrary::record(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = record.to_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        reads_within_bounds(&bytes);
        reads_within_bounds(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_length_comes_back(length: usize) {
        let mut written = Vec::new();
        put_length(&mut written, length);
        let frame = Bytes::from(written);
        let mut reader = Reader::new(&frame);
        prop_assert_eq!(reader.length(), Ok(length));
        prop_assert!(reader.rest.is_empty());
    }
}

// Packing.

/// Returns the lengths of what is packed with the head, and of what stands beside it.
fn lengths(record: &Record, room: usize) -> (Vec<usize>, Vec<usize>) {
    let beside = standing_beside(record, room);
    let (apart, packed) = record
        .slots()
        .iter()
        .partition::<Vec<_>, _>(|slot| beside.contains_key(slot.name().as_str()));
    let lengths = |slots: Vec<&Arc<Slot>>| slots.iter().map(|slot| slot.payload().len()).collect();
    (lengths(packed), lengths(apart))
}

fn record_of(lengths: &[usize]) -> Record {
    let slots = lengths.iter().zip('a'..);
    let slots = slots.map(|(length, name)| Slot::new(name.to_string(), vec![b'.'; *length], None));
    Record::new(at(1), at(2)).with_slots(slots.map(Arc::new))
}

#[test]
fn a_small_payload_is_packed_and_a_large_one_is_not() {
    let record = record_of(&[SMALL, SMALL + 1]);
    for room in [700, 2_048, usize::MAX] {
        assert_eq!(lengths(&record, room), (vec![SMALL], vec![SMALL + 1]));
    }
}

#[test]
fn payloads_are_packed_until_the_room_is_full() {
    let none: [usize; 0] = [];
    assert_eq!(lengths(&record_of(&[250, 250, 200]), 700).1, none);
    assert_eq!(lengths(&record_of(&[250, 250, 201]), 700).1, [250]);
    assert_eq!(lengths(&record_of(&[256; 8]), 2_048).1, none);
    assert_eq!(
        lengths(&record_of(&[256, 256, 1, 256, 256]), 700).0,
        [256, 256, 1]
    );
    assert_eq!(lengths(&record_of(&[0, 0, 1]), 0), (vec![0, 0], vec![1]));
}

#[test]
fn an_equal_payload_beside_is_not_written_again() {
    let before = record_of(&[1, 5_000, 6_000]);
    let mut after = before.next();
    after.set(Arc::new(Slot::new("a", "2", None)));
    let delta = delta(Some(&before), &after, 700);
    assert!(delta.written.is_empty() && delta.removed.is_empty());
    assert!(delta.head.len() < 250, "{} bytes", delta.head.len());
}

proptest! {
    #[test]
    fn packing_keeps_to_its_limits(record in arbitrary::record(), room in prop::sample::select(&ROOMS)) {
        let (packed, beside) = lengths(&record, room);
        prop_assert!(packed.iter().sum::<usize>() <= room);
        prop_assert!(packed.iter().all(|length| *length <= SMALL));
        // The smallest first, and as many as fit.
        let (largest, smallest) = (packed.iter().max(), beside.iter().min());
        if let (Some(largest), Some(smallest)) = (largest, smallest) {
            prop_assert!(largest <= smallest);
        }
        if let Some(smallest) = smallest.filter(|smallest| **smallest <= SMALL) {
            prop_assert!(packed.iter().sum::<usize>() + smallest > room);
        }
    }

    #[test]
    fn what_is_packed_unpacks(record in arbitrary::record(), room in prop::sample::select(&ROOMS)) {
        let head = pack(&record, room).head;
        prop_assert_eq!(unpacked(head, &standing_beside(&record, room)), record);
    }

    #[test]
    fn a_lost_or_cut_payload_is_noticed(record in arbitrary::record()) {
        let head = Bytes::from(pack(&record, 0).head);
        let beside = standing_beside(&record, 0);
        for name in beside.keys() {
            let lost = unpack(&head, |other| beside.get(other).filter(|_| other != name).cloned());
            prop_assert!(lost.is_err());
            let cut = unpack(&head, |other| {
                let payload = beside.get(other)?;
                let cut = usize::from(other == name);
                Some(payload.slice(cut..))
            });
            prop_assert!(cut.is_err());
        }
    }

    #[test]
    fn deltas_leave_exactly_what_is_to_be_there(
        mut records in vec(arbitrary::record(), 1..6),
        edits in vec((any::<prop::sample::Index>(), arbitrary::slot(), any::<bool>()), 0..12),
        room in prop::sample::select(&ROOMS),
    ) {
        for (at, slot, removes) in edits {
            let mut next = records[at.index(records.len())].next();
            if removes {
                next.remove(slot.name().as_str());
            } else {
                next.set(Arc::new(slot));
            }
            records.push(next);
        }
        let mut held = Beside::new();
        let mut before = None;
        for after in &records {
            let delta = delta(before, after, room);
            for name in delta.removed {
                prop_assert!(held.remove(name.as_str()).is_some(), "{:?} was not there", name);
            }
            for slot in delta.written {
                let payload = Bytes::copy_from_slice(slot.payload());
                held.insert(slot.name().as_str().to_owned(), payload);
            }
            // Two values with one signature are one value: only records that keep to that are compared.
            prop_assume!(before.is_none_or(|before| signatures_agree(before, after)));
            prop_assert_eq!(&held, &standing_beside(after, room));
            prop_assert_eq!(&unpacked(delta.head, &held), after);
            before = Some(after);
        }
    }
}

fn signatures_agree(before: &Record, after: &Record) -> bool {
    after.slots().iter().all(|slot| {
        let old = before.slot(slot.name().as_str());
        old.is_none_or(|old| old.signature() != slot.signature() || old.payload() == slot.payload())
    })
}
