//! Records and slots: what a store keeps.

use std::fmt;
use std::mem;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::key::UserId;
use crate::secret::{SecretHash, Secrets};
use crate::signature::Signature;

mod name;
mod payload;
mod short;

pub use name::FieldName;
pub(crate) use payload::Payload;

/// How many of its earlier versions a record remembers.
pub(crate) const REMEMBERED: usize = 16;

/// How long the end of a session is remembered, for [`Session::ended`](crate::Session::ended).
pub(crate) const TOMBSTONE: Duration = Duration::from_secs(24 * 60 * 60);

/// The expiry of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// With its record.
    #[default]
    Never,
    /// Then.
    Usual(Timestamp),
    /// Then, though its field slides: somebody has asked for that, and using the field does not move it.
    Asked(Timestamp),
}

impl Expiry {
    /// Returns when that is; `None` if it is not before the record's.
    pub(crate) fn at(self) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::Usual(at) | Self::Asked(at) => Some(at),
        }
    }
}

impl From<Option<Timestamp>> for Expiry {
    fn from(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Never, Self::Usual)
    }
}

/// One named value of a record: its bytes, when they expire, and their signature.
///
/// ```
/// use session_runtime::store::Slot;
///
/// let slot = Slot::new("cart", r#"{"apple":2}"#, None);
/// assert_eq!(slot.payload(), br#"{"apple":2}"#);
/// ```
#[derive(Clone)]
pub struct Slot {
    name: FieldName,
    payload: Payload,
    expiry: Expiry,
    signature: Signed,
}

#[derive(Clone)]
enum Signed {
    Given(Signature),
    /// Taken of the payload when a store asks for it.
    Taken(OnceLock<Signature>),
}

impl Signed {
    fn known(&self) -> Option<&Signature> {
        match self {
            Self::Given(signature) => Some(signature),
            Self::Taken(signature) => signature.get(),
        }
    }
}

impl Slot {
    /// Makes a slot that is signed by its payload.
    pub fn new(
        name: impl Into<FieldName>,
        payload: impl Into<Bytes>,
        expires: Option<Timestamp>,
    ) -> Self {
        Self::stored(name.into(), payload.into().into(), expires.into(), None)
    }

    /// Makes a slot as a store kept it, signature included.
    pub fn signed(
        name: impl Into<FieldName>,
        payload: impl Into<Bytes>,
        expires: Option<Timestamp>,
        signature: Signature,
    ) -> Self {
        let (payload, signature) = (payload.into().into(), Some(signature));
        Self::stored(name.into(), payload, expires.into(), signature)
    }

    /// The same, with an expiry that may have been asked for. Without a signature it is signed by its payload.
    pub(crate) fn stored(
        name: FieldName,
        payload: Payload,
        expiry: Expiry,
        signature: Option<Signature>,
    ) -> Self {
        Self {
            name,
            payload,
            expiry,
            signature: signature.map_or_else(|| Signed::Taken(OnceLock::new()), Signed::Given),
        }
    }

    /// Returns the same value with another expiry.
    #[must_use]
    pub fn retimed(&self, expires: Option<Timestamp>) -> Self {
        self.expiring(expires.into())
    }

    /// Returns the same value with another expiry, asked for or not.
    pub(crate) fn expiring(&self, expiry: Expiry) -> Self {
        Self {
            expiry,
            ..self.clone()
        }
    }

    /// Returns the same under another name.
    pub(crate) fn named(&self, name: FieldName) -> Self {
        Self {
            name,
            ..self.clone()
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &FieldName {
        &self.name
    }

    /// Returns the bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns when it expires; `None` if it lives as long as its record.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expiry.at()
    }

    /// Returns that, and whether it was asked for.
    pub(crate) fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// Returns what the value is recognised by.
    pub fn signature(&self) -> Signature {
        match &self.signature {
            Signed::Given(signature) => *signature,
            Signed::Taken(signature) => *signature.get_or_init(|| Signature::of(&self.payload)),
        }
    }

    /// Returns `true` if both have the same value: equal bytes, and of those that are told apart, the same writing of them.
    pub(crate) fn has_value_of(&self, other: &Self) -> bool {
        let (one, two) = (self.payload(), other.payload());
        let is_shared = one.as_ptr() == two.as_ptr() && one.len() == two.len();
        let is_given = self.signature.known().or(other.signature.known()).is_some();
        (is_shared || one == two) && (!is_given || self.signature() == other.signature())
    }

    /// Returns `true` if it is there for a reader at `now`: at `t ≥ expiry` it is not.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires().is_none_or(|expires| now < expires)
    }

    /// Returns what it adds to its record's size: the bytes of the name and of the payload.
    pub fn size(&self) -> usize {
        self.name.as_bytes().len() + self.payload.len()
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.expiry == other.expiry && self.has_value_of(other)
    }
}

impl Eq for Slot {}

impl fmt::Debug for Slot {
    /// Writes the name, the size and the expiry; never the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.name)
            .field("bytes", &self.payload.len())
            .field("expires", &self.expires())
            .finish_non_exhaustive()
    }
}

/// Says why a session is no longer there.
///
/// ```
/// use session_runtime::Ended;
///
/// let text = match Ended::Deleted("account closed".into()) {
///     Ended::Expired => "You were away for too long.".to_owned(),
///     Ended::Deleted(reason) => format!("Your session has ended: {reason}."),
///     _ => "Please sign in again.".to_owned(),
/// };
/// assert_eq!(text, "Your session has ended: account closed.");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Its lifetime ran out, or the store has never heard of it.
    Expired,
    /// It was presented from another address than the one it is bound to.
    AddressDiffers,
    /// It was presented by another user agent than the one it is bound to.
    UserAgentDiffers,
    /// It was ended from elsewhere.
    Revoked,
    /// The app ended it, and said why.
    Deleted(String),
    /// What the client presented is no session id, or more than one.
    Malformed,
    /// The client has logged in since, and has a newer id.
    LoggedIn,
    /// The client has logged out.
    LoggedOut,
}

/// The version of a record: 64 random bits that each write renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// Returns a version that nothing else has.
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// Returns the version of these bytes, as a store kept them.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// Returns the bytes, for a store to keep and to compare.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

/// The library's own facts of a session or a user, decoded.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Since when the session is there.
    pub(crate) created: Timestamp,
    /// The idle lifetime that this one session was given.
    pub(crate) ttl: Option<Duration>,
    /// What nothing extends the session beyond, from a login on.
    pub(crate) limit: Option<Timestamp>,
    /// Other ends of it. In a box: few have one, and every session has room for it.
    pub(crate) until: Option<Box<Until>>,
    /// Which ids open it.
    pub(crate) secrets: Secrets,
    /// Who is logged in.
    pub(crate) user: Option<UserId>,
    /// When that user logged in.
    pub(crate) authenticated: Option<Timestamp>,
    /// The address that it was created from, or logged in from.
    pub(crate) address: Option<Box<str>>,
    /// The user agent that created it, or logged in.
    pub(crate) user_agent: Option<Box<str>>,
    /// It is bound to neither any more.
    pub(crate) unbound: bool,
    /// Whether the browser keeps the cookie when it is closed, if somebody has said so.
    pub(crate) kept: Option<bool>,
    /// What the user calls it.
    pub(crate) label: Option<Box<str>>,
    /// The last number under which fields were set apart for a user.
    pub(crate) brought: u32,
    /// What a login was opened on, until its id has been presented: what a refusal goes back to.
    pub(crate) undo: Option<Box<Self>>,
}

impl fmt::Debug for Head {
    /// Writes facts; no values: not where the client is, nor what the user calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("created", &self.created)
            .field("ttl", &self.ttl)
            .field("limit", &self.limit)
            .field("ends", &self.ends())
            .field("secrets", &self.secrets)
            .field("user", &self.user)
            .field("authenticated", &self.authenticated)
            .field("unbound", &self.unbound)
            .field("kept", &self.kept)
            .field("brought", &self.brought)
            .field("undo", &self.undo)
            .finish_non_exhaustive()
    }
}

/// The ends of a session besides its lifetimes, as the app has said.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Until {
    /// A time.
    ends: Option<Timestamp>,
    /// Another fingerprint than this, which the app has logged the user in by; hashed.
    fingerprint: Option<SecretHash>,
}

impl Until {
    /// Returns what a head holds of these.
    pub(crate) fn of(
        ends: Option<Timestamp>,
        fingerprint: Option<SecretHash>,
    ) -> Option<Box<Self>> {
        let until = Self { ends, fingerprint };
        (until != Self::default()).then(|| Box::new(until))
    }
}

impl Head {
    /// Returns when the session ends at the latest, if somebody has said so.
    pub(crate) fn ends(&self) -> Option<Timestamp> {
        self.until.as_deref()?.ends
    }

    /// Returns what the app has logged the user in by, hashed, if it has said so.
    pub(crate) fn fingerprint(&self) -> Option<SecretHash> {
        self.until.as_deref()?.fingerprint
    }

    /// Returns a copy to go back to. What that one would go back to is not wanted any more.
    pub(crate) fn without_undo(&self) -> Box<Self> {
        Box::new(Self {
            undo: None,
            ..self.clone()
        })
    }
}

/// A session or a user as a store keeps it: named slots, an expiry, two times that only move forward, and a version.
///
/// Slots are shared, so that a copy of a record copies no payload.
///
/// ```
/// use session_runtime::{Timestamp, store::{Record, Slot}};
/// use std::sync::Arc;
///
/// let (now, later) = (Timestamp::from_millis(0), Timestamp::from_millis(10));
/// let record = Record::new(now, later).with_slots([Arc::new(Slot::new("cart", "1", None))]);
/// assert!(record.slot("cart").is_some());
/// assert!(!record.is_live(later));
///
/// let stored = record.to_bytes();
/// assert_eq!(Record::from_bytes(&stored.into())?, record);
/// # Ok::<(), session_runtime::store::StoreError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    version: Version,
    /// The versions it has had, the newest last.
    earlier: Box<[Version]>,
    /// Why it is over, if it is.
    pub(crate) ended: Option<Ended>,
    /// When it is gone for readers.
    pub(crate) expires: Timestamp,
    /// When a slot was last written.
    pub(crate) updated: Timestamp,
    /// When it was last written or touched.
    pub(crate) seen: Timestamp,
    /// Shared with the versions that have the same.
    pub(crate) head: Arc<Head>,
    /// Sorted by name, each name once.
    slots: Vec<Arc<Slot>>,
    /// The bytes of all names and payloads.
    size: usize,
}

impl Record {
    /// Makes a live record without slots, of a version of its own.
    pub fn new(now: Timestamp, expires: Timestamp) -> Self {
        Self {
            version: Version::random(),
            earlier: Box::default(),
            ended: None,
            expires,
            updated: now,
            seen: now,
            head: Arc::new(Head {
                created: now,
                ..Head::default()
            }),
            slots: Vec::new(),
            size: 0,
        }
    }

    /// Makes a record of a version that it was stored with, and of the versions before.
    pub(crate) fn stored(version: Version, earlier: Vec<Version>, head: Head) -> Self {
        let epoch = Timestamp::default();
        Self {
            version,
            earlier: earlier.into(),
            ended: None,
            expires: epoch,
            updated: epoch,
            seen: epoch,
            head: Arc::new(head),
            slots: Vec::new(),
            size: 0,
        }
    }

    /// Returns a copy of the next version, to be changed and swapped for this one.
    #[must_use]
    pub fn next(&self) -> Self {
        let surplus = (self.earlier.len() + 1).saturating_sub(REMEMBERED);
        let mut earlier = Vec::with_capacity(self.earlier.len() + 1 - surplus);
        earlier.extend_from_slice(&self.earlier[surplus..]);
        earlier.push(self.version);
        Self {
            version: Version::random(),
            earlier: earlier.into(),
            ended: self.ended.clone(),
            head: Arc::clone(&self.head),
            slots: self.slots.clone(),
            ..*self
        }
    }

    /// Notes that what it holds was changed at `now`, by somebody who uses it.
    pub(crate) fn note_write(&mut self, now: Timestamp) {
        self.updated = self.updated.max(now);
        self.seen = self.seen.max(now);
    }

    /// Returns what is left of it when it ends: who knows a secret of it is told why, for a day.
    #[must_use]
    pub(crate) fn tombstone(&self, reason: Ended, now: Timestamp) -> Self {
        let mut record = self.next();
        record.ended = Some(reason);
        record.expires = now + TOMBSTONE;
        record.seen = record.seen.max(now);
        record.put_sorted(Vec::new());
        record.head = Arc::new(Head {
            created: self.head.created,
            secrets: self.head.secrets.clone(),
            ..Head::default()
        });
        record
    }

    /// Makes it a record of these slots, too, in any order; of two with one name the later counts.
    #[must_use]
    pub fn with_slots(mut self, slots: impl IntoIterator<Item = Arc<Slot>>) -> Self {
        for slot in slots {
            self.set(slot);
        }
        self
    }

    /// Returns the version: what a store compares.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the versions it has had before, the newest last.
    pub(crate) fn earlier(&self) -> &[Version] {
        &self.earlier
    }

    /// Returns `true` if it is of that version, or remembers to have been.
    pub(crate) fn is_or_was(&self, version: Version) -> bool {
        self.version == version || self.earlier.contains(&version)
    }

    /// Returns `true` if it knows every version that it has had.
    pub(crate) fn remembers_all(&self) -> bool {
        self.earlier.len() < REMEMBERED
    }

    /// Returns when it is gone for readers.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Returns when a slot was last written.
    pub fn updated(&self) -> Timestamp {
        self.updated
    }

    /// Returns when it was last written or touched.
    pub fn seen(&self) -> Timestamp {
        self.seen
    }

    /// Returns why the session is over, if it is: then this is its tombstone.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Returns who is logged in, if this is a session and somebody is.
    pub fn user(&self) -> Option<&UserId> {
        self.head.user.as_ref()
    }

    /// Returns all slots, by name, expired ones included.
    pub fn slots(&self) -> &[Arc<Slot>] {
        &self.slots
    }

    /// Returns the slot of that name, even if expired.
    pub fn slot(&self, name: &str) -> Option<&Arc<Slot>> {
        self.position(name).ok().map(|at| &self.slots[at])
    }

    /// Returns the slot of that name if it is there for a reader at `now`.
    pub fn live_slot(&self, name: &str, now: Timestamp) -> Option<&Arc<Slot>> {
        self.slot(name).filter(|slot| slot.is_live(now))
    }

    /// Returns `true` if the record has not expired at `now`: at `t ≥ expiry` it has. Tombstones live, too.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    /// Puts a slot in, in place of any other of its name.
    pub fn set(&mut self, slot: Arc<Slot>) {
        self.set_near(slot, &mut 0);
    }

    /// The same, looked for as by [`find_near`](Self::find_near).
    pub(crate) fn set_near(&mut self, slot: Arc<Slot>, near: &mut usize) {
        self.size += slot.size();
        match self.position_near(slot.name().as_str(), near) {
            Ok(at) => {
                let before = mem::replace(&mut self.slots[at], slot);
                self.size -= before.size();
            }
            Err(at) => self.slots.insert(at, slot),
        }
    }

    /// Takes a slot out, if it is there.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Slot>> {
        let at = self.position(name).ok()?;
        let slot = self.slots.remove(at);
        self.size -= slot.size();
        Some(slot)
    }

    /// Keeps those slots that `keep` says.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Slot) -> bool) {
        self.slots.retain(|slot| {
            let keeps = keep(slot);
            self.size -= if keeps { 0 } else { slot.size() };
            keeps
        });
    }

    /// Replaces all slots. They have to be sorted by name, each name once.
    pub(crate) fn put_sorted(&mut self, slots: Vec<Arc<Slot>>) {
        debug_assert!(slots.is_sorted_by(|a, b| a.name() < b.name()));
        self.size = slots.iter().map(|slot| slot.size()).sum();
        self.slots = slots;
    }

    /// Returns the bytes of all names and payloads together: what the record cap limits.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the head, to be changed: a copy, if other versions have it, too.
    pub(crate) fn head_mut(&mut self) -> &mut Head {
        Arc::make_mut(&mut self.head)
    }

    /// Returns the slot of that name, even if expired. Looks first at `near` and behind that, and notes where it was: whoever goes
    /// through fields in their order finds each behind the one before.
    pub(crate) fn find_near(&self, name: &str, near: &mut usize) -> Option<&Arc<Slot>> {
        let at = self.position_near(name, near).ok()?;
        Some(&self.slots[at])
    }

    fn position_near(&self, name: &str, near: &mut usize) -> Result<usize, usize> {
        let is_at = |at: &usize| {
            let slot = self.slots.get(*at);
            slot.is_some_and(|slot| slot.name().compare(name).is_eq())
        };
        let found = [*near, *near + 1].into_iter().find(is_at);
        let found = found.map_or_else(|| self.position(name), Ok);
        let (Ok(at) | Err(at)) = found;
        *near = at;
        found
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.slots
            .binary_search_by(|slot| slot.name().compare(name))
    }
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;
