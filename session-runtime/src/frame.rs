//! The stored form of a record: one run of bytes, opened without copying a payload.
//!
//! ```text
//! version    1 byte
//! state      1 byte, then a text where it has one (the key it moved to, the reason it was deleted for)
//! times      expires, updated, seen: 8 bytes each, little-endian
//! slots      how many; then for each its name, expiry, signature and payload length
//! payloads   in the order of the slots, to the end
//! ```
//!
//! Lengths take seven bits a byte, so that a short one takes one byte: a sealed cookie has but 4096.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::{Key, UserId};
use crate::record::{Ended, FieldName, Record, Slot, State};
use crate::signature::Signature;

/// The version written. Older ones must stay readable; a newer one is refused, not guessed at.
const VERSION: u8 = 1;

/// Bytes before the slots, but for a text in the state.
const HEAD: usize = 1 + 1 + 3 * 8 + 3;

/// The fewest bytes that a slot takes in the table: empty name, no expiry, signature, empty payload.
const SHORTEST_ROW: usize = 1 + 1 + 16 + 1;

/// The most bytes that a slot usually takes in the table, besides its name.
const USUAL_ROW: usize = 1 + 9 + 16 + 3;

const LIVE: u8 = 0;
const MOVED: u8 = 1;
const EXPIRED: u8 = 2;
const ADDRESS_DIFFERS: u8 = 3;
const USER_AGENT_DIFFERS: u8 = 4;
const REVOKED: u8 = 5;
const DELETED: u8 = 6;
const MALFORMED: u8 = 7;
const LOGGED_IN: u8 = 8;
const LOGGED_OUT: u8 = 9;
const CLAIMED: u8 = 10;
const SHARED: u8 = 11;

/// How many bytes of a frame tell its state, but for a text in it.
#[cfg(feature = "sqlite")]
pub(crate) const STATE: u32 = 2;

/// Whether the frame that begins so is of a record that nobody has ended or moved.
#[cfg(feature = "sqlite")]
pub(crate) fn is_open(start: &[u8]) -> bool {
    matches!(start, [VERSION, LIVE | CLAIMED | SHARED, ..])
}

/// The bytes to keep of `record`.
pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let slots = record.slots();
    let mut frame = Vec::with_capacity(HEAD + slots.len() * USUAL_ROW + record.size());
    frame.push(VERSION);
    put_state(&mut frame, &record.state);
    for time in [record.expires, record.updated, record.seen] {
        put_time(&mut frame, time);
    }
    put_length(&mut frame, slots.len());
    for slot in slots {
        put_row(&mut frame, slot);
    }
    for slot in slots {
        frame.extend_from_slice(slot.payload());
    }
    frame
}

fn put_state(frame: &mut Vec<u8>, state: &State) {
    match state {
        State::Live => frame.push(LIVE),
        State::Moved(to) => {
            frame.push(MOVED);
            put_text(frame, &to.to_string());
        }
        State::Ended(reason) => put_reason(frame, reason),
        State::Claimed { by, at, shared } => {
            frame.push(if *shared { SHARED } else { CLAIMED });
            put_text(frame, by.as_str());
            put_time(frame, *at);
        }
    }
}

fn put_reason(frame: &mut Vec<u8>, reason: &Ended) {
    frame.push(match reason {
        Ended::Expired => EXPIRED,
        Ended::AddressDiffers => ADDRESS_DIFFERS,
        Ended::UserAgentDiffers => USER_AGENT_DIFFERS,
        Ended::Revoked => REVOKED,
        Ended::Deleted(_) => DELETED,
        Ended::Malformed => MALFORMED,
        Ended::LoggedIn => LOGGED_IN,
        Ended::LoggedOut => LOGGED_OUT,
    });
    if let Ended::Deleted(text) = reason {
        put_text(frame, text);
    }
}

fn put_row(frame: &mut Vec<u8>, slot: &Slot) {
    put_text(frame, slot.name().as_str());
    frame.push(u8::from(slot.expires().is_some()));
    if let Some(expires) = slot.expires() {
        put_time(frame, expires);
    }
    frame.extend_from_slice(slot.signature().as_bytes());
    put_length(frame, slot.payload().len());
}

fn put_time(frame: &mut Vec<u8>, time: Timestamp) {
    frame.extend_from_slice(&time.as_millis().to_le_bytes());
}

fn put_text(frame: &mut Vec<u8>, text: &str) {
    put_length(frame, text.len());
    frame.extend_from_slice(text.as_bytes());
}

fn put_length(frame: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        frame.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    frame.push(length.to_le_bytes()[0]);
}

/// The record that `frame` is the stored form of. Its payloads are slices of `frame`.
///
/// Whatever the bytes, it neither panics nor sets aside more than a small multiple of their number.
pub(crate) fn decode(frame: &Bytes) -> Result<Record, StoreError> {
    Reader { frame, at: 0 }.record().map_err(StoreError::broken)
}

/// A place in a frame, up to which it has been read.
struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
}

/// A slot as the table has it: all but the payload.
struct Row {
    name: FieldName,
    expires: Option<Timestamp>,
    signature: Signature,
    length: usize,
}

impl<'a> Reader<'a> {
    fn record(mut self) -> Result<Record, Fault> {
        match self.byte()? {
            VERSION => {}
            other => return Err(Fault::Version(other)),
        }
        let state = self.state()?;
        let (expires, updated, seen) = (self.time()?, self.time()?, self.time()?);
        let slots = self.slots()?;
        let mut record = Record::new(updated, expires).with_slots(slots);
        (record.state, record.seen) = (state, seen);
        Ok(record)
    }

    fn state(&mut self) -> Result<State, Fault> {
        let code = self.byte()?;
        Ok(match code {
            LIVE => State::Live,
            MOVED => State::Moved(Key::parse(self.text()?).ok_or(Fault::Key)?),
            EXPIRED => State::Ended(Ended::Expired),
            ADDRESS_DIFFERS => State::Ended(Ended::AddressDiffers),
            USER_AGENT_DIFFERS => State::Ended(Ended::UserAgentDiffers),
            REVOKED => State::Ended(Ended::Revoked),
            DELETED => State::Ended(Ended::Deleted(self.text()?.to_owned())),
            MALFORMED => State::Ended(Ended::Malformed),
            LOGGED_IN => State::Ended(Ended::LoggedIn),
            LOGGED_OUT => State::Ended(Ended::LoggedOut),
            CLAIMED | SHARED => State::Claimed {
                by: UserId::from(self.text()?),
                at: self.time()?,
                shared: code == SHARED,
            },
            _ => return Err(Fault::State(code)),
        })
    }

    fn slots(&mut self) -> Result<Vec<Arc<Slot>>, Fault> {
        let rows = self.rows()?;
        let slots = rows
            .into_iter()
            .map(|row| self.slot(row))
            .collect::<Result<_, _>>()?;
        if self.at == self.frame.len() {
            Ok(slots)
        } else {
            Err(Fault::Surplus)
        }
    }

    fn rows(&mut self) -> Result<Vec<Row>, Fault> {
        let count = self.length()?;
        if count > self.rest().len() / SHORTEST_ROW {
            return Err(Fault::Short);
        }
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            let row = self.row()?;
            if rows.last().is_some_and(|last: &Row| last.name >= row.name) {
                return Err(Fault::Order);
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn row(&mut self) -> Result<Row, Fault> {
        let name = FieldName::from(self.text()?);
        let expires = match self.byte()? {
            0 => None,
            1 => Some(self.time()?),
            _ => return Err(Fault::Flag),
        };
        let signature = Signature::from_bytes(self.array()?);
        Ok(Row {
            name,
            expires,
            signature,
            length: self.length()?,
        })
    }

    fn slot(&mut self, row: Row) -> Result<Arc<Slot>, Fault> {
        let start = self.at;
        self.take(row.length)?;
        let payload = self.frame.slice(start..self.at);
        Ok(Arc::new(Slot::signed(
            row.name,
            payload,
            row.expires,
            row.signature,
        )))
    }

    fn time(&mut self) -> Result<Timestamp, Fault> {
        self.array()
            .map(i64::from_le_bytes)
            .map(Timestamp::from_millis)
    }

    fn text(&mut self) -> Result<&'a str, Fault> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Fault::Text)
    }

    /// A length as [`put_length`] writes it. What does not fit 64 bits is no length.
    fn length(&mut self) -> Result<usize, Fault> {
        let mut length = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            length |= bits << shift;
            if bits << shift >> shift != bits {
                return Err(Fault::Length);
            }
            if byte & 0x80 == 0 {
                return usize::try_from(length).map_err(|_| Fault::Length);
            }
        }
        Err(Fault::Length)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = *self.rest().first_chunk().ok_or(Fault::Short)?;
        self.at += N;
        Ok(bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let taken = self.rest().get(..length).ok_or(Fault::Short)?;
        self.at += length;
        Ok(taken)
    }

    fn rest(&self) -> &'a [u8] {
        &self.frame[self.at..]
    }
}

/// Why bytes are no record. It never quotes them.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Version(u8),
    State(u8),
    Key,
    Flag,
    Text,
    Length,
    Order,
    Short,
    Surplus,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Version(version) => {
                return write!(
                    f,
                    "a stored record has format {version}, and this version of the library reads {VERSION}"
                );
            }
            Self::State(code) => return write!(f, "a stored record has the unknown state {code}"),
            Self::Key => "has moved to something that is no key",
            Self::Flag => "has a slot that neither has an expiry nor has none",
            Self::Text => "has a text that is not UTF-8",
            Self::Length => "has an impossible length",
            Self::Order => "has its slots out of order",
            Self::Short => "is cut short",
            Self::Surplus => "goes on after its end",
        };
        write!(f, "a stored record {what}")
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::id::SessionId;

    fn key() -> Key {
        Key::from(&SessionId::parse(b"0123456789abcdef0123456789abcdef01234567").expect("an id"))
    }

    fn sample() -> Record {
        let at = Timestamp::from_millis;
        let slots = [
            Slot::new("@created", "1700000000000", None),
            Slot::new("cart", r#"{"apple":2}"#, Some(at(99))),
            Slot::new("note", "", None),
        ];
        let mut record = Record::new(at(1), at(2)).with_slots(slots.map(Arc::new));
        record.seen = at(3);
        record
    }

    fn fault(bytes: &[u8]) -> String {
        let error = decode(&Bytes::copy_from_slice(bytes)).expect_err("no record");
        error.source().expect("a cause").to_string()
    }

    #[test]
    fn payloads_are_slices_of_the_frame() {
        let frame = Bytes::from(encode(&sample()));
        let record = decode(&frame).expect("a record");
        let within = frame.as_ptr_range();
        for slot in record
            .slots()
            .iter()
            .filter(|slot| !slot.payload().is_empty())
        {
            assert!(
                within.contains(&slot.payload().as_ptr()),
                "{slot:?} was copied"
            );
        }
    }

    #[test]
    fn a_small_record_takes_little_more_than_its_content() {
        let record = sample();
        let overhead = encode(&record).len() - record.size();
        assert_eq!(overhead, 27 + 3 * 19 + 8);
    }

    #[test]
    fn the_first_format_stays_readable() {
        let mut frame = vec![1, 0];
        frame.extend([2_i64, 1, 3].iter().flat_map(|time| time.to_le_bytes()));
        frame.extend([1, 4]);
        frame.extend(b"cart");
        frame.push(0);
        frame.extend([7; 16]);
        frame.extend([2]);
        frame.extend(b"{}");
        let record = decode(&frame.into()).expect("a record");
        let slot = record.slot("cart").expect("a slot");
        assert_eq!(
            (slot.payload().as_ref(), slot.signature()),
            (&b"{}"[..], Signature::from_bytes([7; 16]))
        );
        assert_eq!(
            [record.expires, record.updated, record.seen].map(Timestamp::as_millis),
            [2, 1, 3]
        );
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let mut frame = encode(&sample());
        frame[0] = 9;
        assert_eq!(
            fault(&frame),
            "a stored record has format 9, and this version of the library reads 1"
        );
    }

    #[test]
    fn a_record_cut_anywhere_is_refused() {
        let frame = encode(&sample());
        for end in 0..frame.len() {
            fault(&frame[..end]);
        }
    }

    #[test]
    fn a_record_that_goes_on_is_refused() {
        let mut frame = encode(&sample());
        frame.push(0);
        assert_eq!(fault(&frame), "a stored record goes on after its end");
    }

    #[test]
    fn a_count_beyond_the_bytes_sets_nothing_aside() {
        let mut frame = encode(&Record::new(
            Timestamp::from_millis(0),
            Timestamp::from_millis(0),
        ));
        frame.pop();
        frame.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(fault(&frame), "a stored record is cut short");
    }

    #[test]
    fn a_length_beyond_64_bits_is_refused() {
        let mut frame = encode(&Record::new(
            Timestamp::from_millis(0),
            Timestamp::from_millis(0),
        ));
        frame.pop();
        frame.extend([0xff; 9]);
        frame.push(0x02);
        assert_eq!(fault(&frame), "a stored record has an impossible length");
    }

    #[test]
    fn one_name_twice_is_refused() {
        let one = Record::new(Timestamp::from_millis(0), Timestamp::from_millis(0))
            .with_slots([Arc::new(Slot::new("a", "", None))]);
        let mut frame = encode(&one);
        let row = frame[HEAD - 2..].to_vec();
        frame[HEAD - 3] = 2;
        frame.extend(row);
        assert_eq!(fault(&frame), "a stored record has its slots out of order");
    }

    fn times() -> impl Strategy<Value = Timestamp> {
        any::<i64>().prop_map(Timestamp::from_millis)
    }

    fn states() -> impl Strategy<Value = State> {
        prop_oneof![
            Just(State::Live),
            Just(State::Moved(key())),
            ".*".prop_map(|name| State::Moved(Key::User(UserId::from(name)))),
            ".*".prop_map(|reason| State::Ended(Ended::Deleted(reason))),
            prop::sample::select(vec![
                Ended::Expired,
                Ended::AddressDiffers,
                Ended::UserAgentDiffers,
                Ended::Revoked,
                Ended::Malformed,
                Ended::LoggedIn,
                Ended::LoggedOut,
            ])
            .prop_map(State::Ended),
            (".*", times(), any::<bool>()).prop_map(|(name, at, shared)| State::Claimed {
                by: name.into(),
                at,
                shared
            }),
        ]
    }

    prop_compose! {
        fn slots()(
            name in ".{0,200}",
            payload in vec(any::<u8>(), 0..400),
            expires in option::of(times()),
            signature in any::<[u8; 16]>(),
        ) -> Arc<Slot> {
            Arc::new(Slot::signed(name, payload, expires, Signature::from_bytes(signature)))
        }
    }

    prop_compose! {
        fn records()(
            state in states(),
            slots in vec(slots(), 0..8),
            expires in times(),
            updated in times(),
            seen in times(),
        ) -> Record {
            let mut record = Record::new(updated, expires).with_slots(slots);
            (record.state, record.seen) = (state, seen);
            record
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(record in records()) {
            prop_assert_eq!(decode(&encode(&record).into()).expect("a record"), record);
        }

        #[test]
        fn lengths_of_any_size_round_trip(length in any::<usize>()) {
            let mut frame = Vec::new();
            put_length(&mut frame, length);
            let frame = Bytes::from(frame);
            prop_assert_eq!(Reader { frame: &frame, at: 0 }.length(), Ok(length));
        }

        /// A record, if any, comes of it; and that one has one stored form.
        #[test]
        fn a_flipped_bit_never_panics(record in records(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let mut frame = encode(&record);
            let at = at.index(frame.len());
            frame[at] ^= 1_u8 << bit;
            if let Ok(other) = decode(&frame.into()) {
                prop_assert_eq!(decode(&encode(&other).into()).expect("a record"), other);
            }
        }

        #[test]
        fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..600), versioned in any::<bool>()) {
            if let (true, Some(first)) = (versioned, bytes.first_mut()) {
                *first = VERSION;
            }
            let _ = decode(&bytes.into());
        }
    }
}
