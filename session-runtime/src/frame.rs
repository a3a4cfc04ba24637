//! The stored form of a record: one run of bytes, opened without copying a payload.
//!
//! ```text
//! format     1 byte
//! version    8 bytes; then how many versions it had before, and those
//! times      expires, updated, seen: 8 bytes each, little-endian
//! ended      1 byte, then a text where it has one (the reason it was deleted for)
//! head       2 bytes that say which members there are, then those
//! secrets    how many; then each; then the head to go back to, if there is one
//! slots      how many; then for each its name, flags, expiry, signature and payload length
//! payloads   in the order of the slots, to the end; without those that stand beside
//! ```
//!
//! Lengths take seven bits a byte, so that a short one takes one byte.
//!
//! A store that can hold values apart keeps large payloads *beside* the frame ([`Packed`]), so that a small change does
//! not send them again ([`Delta`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::key::UserId;
use crate::record::{Ended, Expiry, Head, Payload, Record, Slot, Until, Version};
use crate::secret::{Secret, SecretHash, Secrets, Standing};
use crate::signature::Signature;

#[cfg(any(
    test,
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
mod packed;

#[cfg(any(
    test,
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
pub(crate) use packed::{Delta, delta};

/// The format written. Older ones must stay readable; a newer one is refused, not guessed at.
const FORMAT: u8 = 1;

/// The most bytes that a frame usually takes besides its slots.
const USUAL_HEAD: usize = 256;

/// The fewest bytes that a slot takes in the table: empty name, flags, signature, empty payload.
const SHORTEST_ROW: usize = 1 + 1 + 16 + 1;

/// The most bytes that a slot usually takes in the table, besides its name.
const USUAL_ROW: usize = 1 + 9 + 16 + 3;

/// The fewest bytes that a secret takes.
const SHORTEST_SECRET: usize = 16 + 1 + 8 + 1;

/// The flags of a slot.
const EXPIRES: u8 = 1;
const BESIDE: u8 = 2;
const ASKED: u8 = 4;

/// Live, and the codes of reasons.
const LIVE: u8 = 0;
const DELETED: u8 = 6;
const REASONS: [(u8, Ended); 7] = [
    (2, Ended::Expired),
    (3, Ended::AddressDiffers),
    (4, Ended::UserAgentDiffers),
    (5, Ended::Revoked),
    (7, Ended::Malformed),
    (8, Ended::LoggedIn),
    (9, Ended::LoggedOut),
];

impl Record {
    /// Returns the stored form: all of the record in one run of bytes, its version included.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self, |_| false)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. Payloads are slices of `bytes`.
    ///
    /// # Errors
    ///
    /// If it is something else, or of a newer format. Whatever the bytes, it neither panics nor sets aside more than a
    /// small multiple of their number.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, FrameError> {
        unpack(bytes, |_| None)
    }
}

fn encode(record: &Record, is_beside: impl Fn(&Slot) -> bool) -> Vec<u8> {
    let slots = record.slots();
    let mut frame = Vec::with_capacity(USUAL_HEAD + slots.len() * USUAL_ROW + record.size());
    frame.push(FORMAT);
    frame.extend_from_slice(&record.version().to_bytes());
    put_length(&mut frame, record.earlier().len());
    for version in record.earlier() {
        frame.extend_from_slice(&version.to_bytes());
    }
    for time in [record.expires, record.updated, record.seen] {
        put_time(&mut frame, time);
    }
    put_ended(&mut frame, record.ended());
    put_head(&mut frame, &record.head);
    put_length(&mut frame, slots.len());
    for slot in slots {
        put_row(&mut frame, slot, is_beside(slot));
    }
    for slot in slots.iter().filter(|slot| !is_beside(slot)) {
        frame.extend_from_slice(slot.payload());
    }
    frame
}

fn put_ended(frame: &mut Vec<u8>, ended: Option<&Ended>) {
    match ended {
        None => frame.push(LIVE),
        Some(Ended::Deleted(text)) => {
            frame.push(DELETED);
            put_text(frame, text.as_bytes());
        }
        Some(reason) => {
            let code = REASONS.iter().find(|(_, other)| other == reason);
            frame.push(code.map_or(REASONS[0].0, |(code, _)| *code));
        }
    }
}

fn put_head(frame: &mut Vec<u8>, head: &Head) {
    let members = [
        head.ttl.is_some(),
        head.limit.is_some(),
        head.user.is_some(),
        head.authenticated.is_some(),
        head.address.is_some(),
        head.user_agent.is_some(),
        head.unbound,
        head.label.is_some(),
        head.brought > 0,
        head.undo.is_some(),
        head.kept.is_some(),
        head.kept == Some(true),
        head.ends().is_some(),
        head.fingerprint().is_some(),
    ];
    let mut flags = 0_u16;
    for (at, member) in members.into_iter().enumerate() {
        flags |= u16::from(member) << at;
    }
    frame.extend_from_slice(&flags.to_le_bytes());
    put_time(frame, head.created);
    if let Some(ttl) = head.ttl {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        frame.extend_from_slice(&millis.to_le_bytes());
    }
    for time in [head.limit, head.authenticated, head.ends()]
        .into_iter()
        .flatten()
    {
        put_time(frame, time);
    }
    let user = head.user.as_ref().map(UserId::as_str);
    let texts = [
        user,
        head.address.as_deref(),
        head.user_agent.as_deref(),
        head.label.as_deref(),
    ];
    for text in texts.into_iter().flatten() {
        put_text(frame, text.as_bytes());
    }
    if head.brought > 0 {
        frame.extend_from_slice(&head.brought.to_le_bytes());
    }
    if let Some(fingerprint) = head.fingerprint() {
        frame.extend_from_slice(fingerprint.as_bytes());
    }
    put_length(frame, head.secrets.0.len());
    for secret in &head.secrets.0 {
        put_secret(frame, secret);
    }
    if let Some(undo) = &head.undo {
        put_head(frame, undo);
    }
}

fn put_secret(frame: &mut Vec<u8>, secret: &Secret) {
    frame.extend_from_slice(secret.hash.as_bytes());
    put_number(frame, secret.number);
    put_time(frame, secret.issued);
    match secret.standing {
        Standing::Current { presented: None } => frame.push(0),
        Standing::Current {
            presented: Some(at),
        } => {
            frame.push(1);
            put_time(frame, at);
        }
        Standing::Retiring { by, until: None } => {
            frame.push(2);
            put_number(frame, by);
        }
        Standing::Retiring {
            by,
            until: Some(until),
        } => {
            frame.push(3);
            put_number(frame, by);
            put_time(frame, until);
        }
        Standing::Superseded { by, at, since } => {
            frame.push(4 + u8::from(since.is_some()));
            put_number(frame, by);
            put_time(frame, at);
            if let Some(since) = since {
                put_time(frame, since);
            }
        }
    }
}

fn put_row(frame: &mut Vec<u8>, slot: &Slot, beside: bool) {
    put_text(frame, slot.name().as_bytes());
    let expires = u8::from(slot.expires().is_some()) * EXPIRES;
    let asked = u8::from(matches!(slot.expiry(), Expiry::Asked(_))) * ASKED;
    frame.push(expires + u8::from(beside) * BESIDE + asked);
    if let Some(expires) = slot.expires() {
        put_time(frame, expires);
    }
    frame.extend_from_slice(slot.signature().as_bytes());
    put_length(frame, slot.payload().len());
}

fn put_time(frame: &mut Vec<u8>, time: Timestamp) {
    frame.extend_from_slice(&time.as_millis().to_le_bytes());
}

fn put_text(frame: &mut Vec<u8>, text: &[u8]) {
    put_length(frame, text.len());
    frame.extend_from_slice(text);
}

fn put_number(frame: &mut Vec<u8>, number: u32) {
    put_length(frame, usize::try_from(number).unwrap_or(usize::MAX));
}

fn put_length(frame: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        frame.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    frame.push(length.to_le_bytes()[0]);
}

/// Reads a record from its head and from what stands beside it, which `beside` looks up by name.
pub(crate) fn unpack(
    head: &Bytes,
    beside: impl FnMut(&str) -> Option<Bytes>,
) -> Result<Record, FrameError> {
    let mut reader = Reader::new(head);
    reader.record(beside).map_err(FrameError)
}

/// Reads all of a record but its slots: what its head says of it, whatever stands beside it.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub(crate) fn unpack_head(head: &Bytes) -> Result<Record, FrameError> {
    let mut reader = Reader::new(head);
    reader.facts().map_err(FrameError)
}

/// A place in a frame, up to which it has been read.
struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(frame: &'a Bytes) -> Self {
        Self { frame, rest: frame }
    }

    fn record(&mut self, beside: impl FnMut(&str) -> Option<Bytes>) -> Result<Record, Fault> {
        let mut record = self.facts()?;
        record.put_sorted(self.slots(beside)?);
        Ok(record)
    }

    fn facts(&mut self) -> Result<Record, Fault> {
        match self.byte()? {
            FORMAT => {}
            other => return Err(Fault::Format(other)),
        }
        let version = self.version()?;
        let count = self.count(8)?;
        let earlier = (0..count)
            .map(|_| self.version())
            .collect::<Result<_, _>>()?;
        let (expires, updated, seen) = (self.time()?, self.time()?, self.time()?);
        let ended = self.ended()?;
        let head = self.head(false)?;
        let mut record = Record::stored(version, earlier, head);
        (record.expires, record.updated, record.seen) = (expires, updated, seen);
        record.ended = ended;
        Ok(record)
    }

    fn version(&mut self) -> Result<Version, Fault> {
        self.array().map(Version::from_bytes)
    }

    fn ended(&mut self) -> Result<Option<Ended>, Fault> {
        match self.byte()? {
            LIVE => Ok(None),
            DELETED => Ok(Some(Ended::Deleted(self.text()?.to_owned()))),
            code => {
                let reason = REASONS.iter().find(|(other, _)| *other == code);
                let (_, reason) = reason.ok_or(Fault::State(code))?;
                Ok(Some(reason.clone()))
            }
        }
    }

    /// Reads a head. One that is `nested` in another has none in it.
    fn head(&mut self, nested: bool) -> Result<Head, Fault> {
        let flags = u16::from_le_bytes(self.array()?);
        let has = |at: u32| flags & 1 << at != 0;
        if flags >> 14 != 0 || nested && has(9) || has(11) && !has(10) {
            return Err(Fault::Flag);
        }
        let created = self.time()?;
        let ttl = self.if_there(has(0), Self::duration)?;
        let limit = self.if_there(has(1), Self::time)?;
        let authenticated = self.if_there(has(3), Self::time)?;
        let ends = self.if_there(has(12), Self::time)?;
        let user = self.if_there(has(2), Self::text)?.map(UserId::from);
        let address = self.if_there(has(4), Self::text)?.map(Box::from);
        let user_agent = self.if_there(has(5), Self::text)?.map(Box::from);
        let label = self.if_there(has(7), Self::text)?.map(Box::from);
        let brought = self.if_there(has(8), Self::array)?;
        let fingerprint = self.if_there(has(13), Self::array)?;
        let count = self.count(SHORTEST_SECRET)?;
        let secrets = (0..count)
            .map(|_| self.secret())
            .collect::<Result<_, _>>()?;
        let undo = self.if_there(has(9), |reader| reader.head(true))?;
        Ok(Head {
            created,
            ttl,
            limit,
            until: Until::of(ends, fingerprint.map(SecretHash::from_bytes)),
            secrets: Secrets(secrets),
            user,
            authenticated,
            address,
            user_agent,
            unbound: has(6),
            kept: has(10).then(|| has(11)),
            label,
            brought: brought.map_or(0, u32::from_le_bytes),
            undo: undo.map(Box::new),
        })
    }

    fn if_there<T>(
        &mut self,
        there: bool,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        there.then(|| read(self)).transpose()
    }

    fn duration(&mut self) -> Result<Duration, Fault> {
        self.array()
            .map(u64::from_le_bytes)
            .map(Duration::from_millis)
    }

    fn secret(&mut self) -> Result<Secret, Fault> {
        let hash = SecretHash::from_bytes(self.array()?);
        let (number, issued) = (self.number()?, self.time()?);
        let standing = match self.byte()? {
            0 => Standing::Current { presented: None },
            1 => Standing::Current {
                presented: Some(self.time()?),
            },
            2 => Standing::Retiring {
                by: self.number()?,
                until: None,
            },
            3 => Standing::Retiring {
                by: self.number()?,
                until: Some(self.time()?),
            },
            code @ (4 | 5) => Standing::Superseded {
                by: self.number()?,
                at: self.time()?,
                since: self.if_there(code == 5, Self::time)?,
            },
            code => return Err(Fault::State(code)),
        };
        Ok(Secret {
            hash,
            number,
            issued,
            standing,
        })
    }

    /// Reads the table and the payloads after it, side by side.
    fn slots(
        &mut self,
        mut beside: impl FnMut(&str) -> Option<Bytes>,
    ) -> Result<Vec<Arc<Slot>>, Fault> {
        let count = self.count(SHORTEST_ROW)?;
        let mut payloads = Reader { ..*self };
        for _ in 0..count {
            payloads.skip_row()?;
        }
        let mut slots: Vec<Arc<Slot>> = Vec::with_capacity(count);
        for _ in 0..count {
            let slot = self.slot(&mut payloads, &mut beside)?;
            if slots.last().is_some_and(|last| last.name() >= slot.name()) {
                return Err(Fault::Order);
            }
            slots.push(Arc::new(slot));
        }
        if payloads.rest.is_empty() {
            Ok(slots)
        } else {
            Err(Fault::Surplus)
        }
    }

    fn skip_row(&mut self) -> Result<(), Fault> {
        let name = self.length()?;
        self.take(name)?;
        if self.byte()? & EXPIRES != 0 {
            self.take(8)?;
        }
        self.take(16)?;
        self.length().map(drop)
    }

    fn slot(
        &mut self,
        payloads: &mut Self,
        beside: &mut impl FnMut(&str) -> Option<Bytes>,
    ) -> Result<Slot, Fault> {
        let name = self.text()?;
        let flags = self.byte()?;
        let expiry = match flags & !BESIDE {
            0 => Expiry::Never,
            EXPIRES => Expiry::Usual(self.time()?),
            flags if flags == EXPIRES | ASKED => Expiry::Asked(self.time()?),
            _ => return Err(Fault::Flag),
        };
        let signature = Some(Signature::from_bytes(self.array()?));
        let length = self.length()?;
        let payload = if flags & BESIDE == 0 {
            Payload::of_part(self.frame, payloads.take(length)?)
        } else {
            let payload = beside(name).filter(|payload| payload.len() == length);
            payload.ok_or(Fault::Beside)?.into()
        };
        Ok(Slot::stored(name.into(), payload, expiry, signature))
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

    fn number(&mut self) -> Result<u32, Fault> {
        u32::try_from(self.length()?).map_err(|_| Fault::Length)
    }

    /// Reads how many things of at least `size` bytes follow: no more than there are bytes for.
    fn count(&mut self, size: usize) -> Result<usize, Fault> {
        let count = self.length()?;
        let fits = count <= self.rest.len() / size;
        fits.then_some(count).ok_or(Fault::Short)
    }

    /// Reads a length as [`put_length`] writes it. What does not fit 64 bits is no length.
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
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Fault::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Fault::Short)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Says why bytes are no stored record. It never quotes them.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameError(Fault);

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0 {
            Fault::Format(format) => {
                return write!(
                    f,
                    "a stored record has format {format}, and this version of the library reads {FORMAT}"
                );
            }
            Fault::State(code) => return write!(f, "a stored record has the unknown state {code}"),
            Fault::Flag => "has flags that mean nothing",
            Fault::Text => "has a text that is not UTF-8",
            Fault::Length => "has an impossible length",
            Fault::Order => "has its slots out of order",
            Fault::Short => "is cut short",
            Fault::Surplus => "goes on after its end",
            Fault::Beside => "lacks a value that stands beside it",
        };
        write!(f, "a stored record {what}")
    }
}

impl std::error::Error for FrameError {}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Format(u8),
    State(u8),
    Flag,
    Text,
    Length,
    Order,
    Short,
    Surplus,
    Beside,
}

#[cfg(test)]
mod tests;
