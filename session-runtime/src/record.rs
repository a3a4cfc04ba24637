//! Records and slots: what a store keeps.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::key::{Key, UserId};
use crate::signature::Signature;

/// The name of a slot.
///
/// Names that begin with `@` are the session's own facts; no field of an app can have such a name.
///
/// ```
/// use session_runtime::FieldName;
/// assert_eq!(FieldName::from("cart").as_str(), "cart");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(Cow<'static, str>);

impl FieldName {
    /// A name known at compile time.
    pub const fn fixed(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for FieldName {
    fn from(name: &str) -> Self {
        Self(Cow::Owned(name.to_owned()))
    }
}

impl From<String> for FieldName {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One named value of a record: its bytes, when they lapse, and their signature.
///
/// ```
/// use session_runtime::Slot;
///
/// let slot = Slot::new("cart", r#"{"apple":2}"#, None);
/// assert_eq!(slot.payload().as_ref(), br#"{"apple":2}"#);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Slot {
    name: FieldName,
    payload: Bytes,
    expires: Option<Timestamp>,
    signature: Signature,
}

impl Slot {
    /// A slot signed by its payload.
    pub fn new(
        name: impl Into<FieldName>,
        payload: impl Into<Bytes>,
        expires: Option<Timestamp>,
    ) -> Self {
        let payload = payload.into();
        let signature = Signature::of(&payload);
        Self::signed(name, payload, expires, signature)
    }

    /// A slot as a store kept it, signature included.
    pub fn signed(
        name: impl Into<FieldName>,
        payload: impl Into<Bytes>,
        expires: Option<Timestamp>,
        signature: Signature,
    ) -> Self {
        Self {
            name: name.into(),
            payload: payload.into(),
            expires,
            signature,
        }
    }

    /// The same value with another expiry.
    #[must_use]
    pub fn retimed(&self, expires: Option<Timestamp>) -> Self {
        Self {
            expires,
            ..self.clone()
        }
    }

    /// The same under another name.
    pub(crate) fn named(&self, name: FieldName) -> Self {
        Self {
            name,
            ..self.clone()
        }
    }

    /// What it is called.
    pub fn name(&self) -> &FieldName {
        &self.name
    }

    /// Its bytes, shared.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// When it lapses; `None` if it lives as long as its record.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// What it is recognised by.
    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// Whether it is there for a reader at `now`: at `t ≥ expiry` it is not.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl fmt::Debug for Slot {
    /// The name, the size and the expiry; never the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.name)
            .field("bytes", &self.payload.len())
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What a record is at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It can be read and written.
    Live,
    /// It lives under another key now. Until this record expires, that is where to look.
    Moved(Key),
    /// It is over, for the reason given. Nothing brings it back.
    Ended(Ended),
    /// It is frozen while what it holds is credited to a user who logs in.
    Claimed {
        /// The user.
        by: UserId,
        /// Since when: each login that takes the claim up moves it forward. A claim that is older than ten seconds
        /// has been abandoned.
        at: Timestamp,
        /// Whether a second login has taken it up.
        shared: bool,
    },
}

impl State {
    /// Whether nobody has ended or moved the record: it is live, or frozen for a login.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Live | Self::Claimed { .. })
    }
}

/// Why a session is no longer there.
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
    /// The client has logged in since, and has a newer session.
    LoggedIn,
    /// The client has logged out.
    LoggedOut,
}

/// A session as a store keeps it: named slots, an expiry, and two times that only move forward.
///
/// Slots are shared, so that a copy of a record copies no payload.
///
/// ```
/// use session_runtime::{Record, Slot, Timestamp};
/// use std::sync::Arc;
///
/// let (now, later) = (Timestamp::from_millis(0), Timestamp::from_millis(10));
/// let mut record = Record::new(now, later);
/// record.set(Arc::new(Slot::new("cart", "1", None)));
/// assert!(record.slot("cart").is_some());
/// assert!(!record.is_live(later));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Sorted by name, each name once.
    slots: Vec<Arc<Slot>>,
    /// What it is at present.
    pub state: State,
    /// When it is gone for readers.
    pub expires: Timestamp,
    /// When a slot was last written.
    pub updated: Timestamp,
    /// When it was last written or touched.
    pub seen: Timestamp,
}

impl Record {
    /// A live record without slots.
    pub fn new(now: Timestamp, expires: Timestamp) -> Self {
        Self {
            slots: Vec::new(),
            state: State::Live,
            expires,
            updated: now,
            seen: now,
        }
    }

    /// A record of these slots, in any order; of two with one name the later counts.
    #[must_use]
    pub fn with_slots(mut self, slots: impl IntoIterator<Item = Arc<Slot>>) -> Self {
        for slot in slots {
            self.set(slot);
        }
        self
    }

    /// All slots, by name, lapsed ones included.
    pub fn slots(&self) -> &[Arc<Slot>] {
        &self.slots
    }

    /// The slot of that name, even if lapsed.
    pub fn slot(&self, name: &str) -> Option<&Arc<Slot>> {
        self.position(name).ok().map(|at| &self.slots[at])
    }

    /// One of the session's own facts. They come before all fields but oddly named ones, and are few, so that
    /// it takes less to go through them than to search all slots.
    pub(crate) fn fact(&self, name: &str) -> Option<&Arc<Slot>> {
        let mut slots = self.slots.iter();
        slots
            .find(|slot| slot.name().as_str() >= name)
            .filter(|slot| slot.name().as_str() == name)
    }

    /// The slot of that name if it is there for a reader at `now`.
    pub fn live_slot(&self, name: &str, now: Timestamp) -> Option<&Arc<Slot>> {
        self.slot(name).filter(|slot| slot.is_live(now))
    }

    /// Whether the record is there for a reader at `now`: at `t ≥ expiry` it is not. Tombstones are.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    /// Puts a slot in, in place of any other of its name.
    pub fn set(&mut self, slot: Arc<Slot>) {
        match self.position(slot.name().as_str()) {
            Ok(at) => self.slots[at] = slot,
            Err(at) => self.slots.insert(at, slot),
        }
    }

    /// Takes a slot out, if it is there.
    pub fn remove(&mut self, name: &str) {
        if let Ok(at) = self.position(name) {
            self.slots.remove(at);
        }
    }

    /// The bytes of all names and payloads together: what the record cap limits.
    pub fn size(&self) -> usize {
        self.slots.iter().map(|slot| slot_size(slot)).sum()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.slots
            .binary_search_by(|slot| slot.name().as_str().cmp(name))
    }
}

/// What a slot adds to its record's size.
pub(crate) fn slot_size(slot: &Slot) -> usize {
    slot.name().as_str().len() + slot.payload().len()
}
