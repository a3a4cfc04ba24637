//! Changes: what a commit asks of a store, and the one definition of what comes of it.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::key::{Key, UserId};
use crate::record::{Ended, FieldName, Record, Slot, State};
use crate::signature::Signature;

/// How long the reason of an ended session is kept, for [`Session::ended`](crate::Session::ended).
pub const TOMBSTONE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a store answers a repeated commit as it did at first.
pub const REMEMBERED: Duration = Duration::from_secs(60);

/// A random name for one commit.
///
/// A commit whose outcome is unknown is repeated under the same id; a store applies it once.
///
/// ```
/// use session_runtime::CommitId;
/// assert_ne!(CommitId::random(), CommitId::random());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitId(u128);

impl CommitId {
    /// A fresh one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Its bytes, for a store to keep.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// The id whose bytes these are.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

/// What a commit asks of a store: applied whole, or not at all.
///
/// ```
/// use session_runtime::{Change, Committed, Kind, Record, Slot, SlotChange, Timestamp};
/// use std::sync::Arc;
///
/// let now = Timestamp::from_millis(0);
/// let slot = Arc::new(Slot::new("cart", "1", None));
/// let change = Change { slots: vec![SlotChange::set(None, slot)], ..Change::new(Kind::Update, now) };
///
/// let mut record = Record::new(now, Timestamp::from_millis(10));
/// assert!(change.decide(Some(&Arc::new(record.clone()))).is_none()); // nothing speaks against it
/// change.apply(&mut record);
/// assert!(record.slot("cart").is_some());
/// ```
#[derive(Clone, Debug)]
pub struct Change {
    /// What tells a repeat of this commit from another.
    pub id: CommitId,
    /// The app's time. It alone decides what has expired; a store's own clock is for sweeping.
    pub now: Timestamp,
    /// What is to happen to the record.
    pub kind: Kind,
    /// What is to happen to its slots.
    pub slots: Vec<SlotChange>,
    /// Slots that were read and must not have changed: names, and the signatures they had, if any.
    pub unchanged: Vec<(FieldName, Option<Signature>)>,
    /// What is to happen to its expiry.
    pub expiry: Expiry,
    /// Whom to list the record under from now on; `None` leaves that as it is. A create starts without.
    pub owner: Option<UserId>,
    /// A record that was moved here, and the time at which it stops leading here.
    pub retire: Option<(Key, Timestamp)>,
}

/// What a [`Change`] does to the record as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Creates it. The tombstone of a record that has ended is no hindrance: what is created has nothing of it.
    Create,
    /// Changes it.
    Update,
    /// Changes it and moves it to another key of the same tag. The old key leads to the new one until the
    /// time given.
    Move(Key, Timestamp),
    /// Ends it; the reason is kept for a day.
    End(Ended),
    /// Freezes it for the login of one user: from then on it can be ended or released, and nothing else. A
    /// second claim for the same user takes it up: they share it from then on, and it counts from later than
    /// before. One for another user is answered [`Committed::Gone`].
    Claim(UserId),
    /// Lets go of the claim that counts from this time. A record that is live already stays as it is, and
    /// another claim, or one that has been taken up since, is answered [`Committed::Gone`].
    Release(Timestamp),
}

/// What a [`Change`] does to the record's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing.
    Keep,
    /// Moves it to this time, if that is later.
    Extend(Timestamp),
    /// Moves it to this time, be it earlier or later.
    Set(Timestamp),
}

/// What a [`Change`] does to one slot.
#[derive(Clone, Debug)]
pub struct SlotChange {
    /// Which slot.
    pub name: FieldName,
    /// The slot that this was computed from. The store compares its signature; whoever merges needs the
    /// rest.
    pub base: Option<Arc<Slot>>,
    /// What becomes of it.
    pub to: SlotOp,
}

/// What becomes of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotOp {
    /// A new payload and expiry.
    Set(Arc<Slot>),
    /// The stored payload with another expiry; the payload does not travel.
    Retime(Option<Timestamp>),
    /// It goes.
    Drop,
}

impl SlotChange {
    /// Sets a slot that is based on `base`.
    pub fn set(base: Option<Arc<Slot>>, slot: Arc<Slot>) -> Self {
        Self {
            name: slot.name().clone(),
            base,
            to: SlotOp::Set(slot),
        }
    }

    /// Gives `base` another expiry.
    pub fn retime(base: Arc<Slot>, expires: Option<Timestamp>) -> Self {
        Self {
            name: base.name().clone(),
            base: Some(base),
            to: SlotOp::Retime(expires),
        }
    }

    /// Takes `base` out.
    pub fn drop(base: Arc<Slot>) -> Self {
        Self {
            name: base.name().clone(),
            base: Some(base),
            to: SlotOp::Drop,
        }
    }

    /// The signature the slot must have for this to apply; `None` if it must be absent.
    pub fn expected(&self) -> Option<Signature> {
        self.base.as_ref().map(|base| base.signature())
    }
}

/// What came of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Every slot the change names still was what it is based on. Changes to different slots never conflict.
    Applied,
    /// At least one was not; here is the record now.
    Conflict(Arc<Record>),
    /// The record lives under another key now: commit there.
    Moved(Key),
    /// The record has ended or is not there any more. Nothing comes back to life.
    Gone,
    /// A create or a move, and the key is taken.
    Exists,
}

impl Change {
    /// A change of nothing, to be filled in, under a fresh id.
    pub fn new(kind: Kind, now: Timestamp) -> Self {
        Self {
            id: CommitId::random(),
            now,
            kind,
            slots: Vec::new(),
            unchanged: Vec::new(),
            expiry: Expiry::Keep,
            owner: None,
            retire: None,
        }
    }

    /// What speaks against applying this to the record under its key, if anything does.
    ///
    /// This and [`apply`](Self::apply) are the whole decision: a store that can hold a record still while
    /// it calls both needs no other logic. For [`Kind::Move`] it must check in addition that no live record
    /// is under the new key ([`Committed::Exists`]).
    pub fn decide(&self, current: Option<&Arc<Record>>) -> Option<Committed> {
        let current = current.filter(|record| record.is_live(self.now));
        match (&self.kind, current) {
            (Kind::Create, None) => None,
            (Kind::Create, Some(record)) if matches!(record.state, State::Ended(_)) => None,
            (Kind::Create, Some(_)) => Some(Committed::Exists),
            (_, None) => Some(Committed::Gone),
            (_, Some(record)) => match &record.state {
                State::Live => {
                    (!self.holds(record)).then(|| Committed::Conflict(Arc::clone(record)))
                }
                State::Moved(to) => Some(Committed::Moved(to.clone())),
                State::Ended(_) => Some(Committed::Gone),
                State::Claimed { by, at, .. } => self.decide_on_claimed(by, *at),
            },
        }
    }

    /// What speaks against applying this to a record that is frozen, since `at`, for the login of `by`.
    fn decide_on_claimed(&self, by: &UserId, at: Timestamp) -> Option<Committed> {
        match &self.kind {
            Kind::End(_) => None,
            Kind::Release(claim) if *claim == at => None,
            Kind::Claim(user) if user == by => None,
            _ => Some(Committed::Gone),
        }
    }

    /// Whether every slot it names is what it expects. A lapsed slot counts as absent.
    fn holds(&self, record: &Record) -> bool {
        let found = |name: &FieldName| {
            record
                .live_slot(name.as_str(), self.now)
                .map(|slot| slot.signature())
        };
        self.slots
            .iter()
            .all(|slot| found(&slot.name) == slot.expected())
            && self
                .unchanged
                .iter()
                .all(|(name, expected)| found(name) == *expected)
    }

    /// Applies it to the record that becomes of it: the one under the key, or for a move, the one that goes
    /// to the new key. For a create, start from [`Record::new`] with any expiry.
    pub fn apply(&self, record: &mut Record) {
        for slot in &self.slots {
            match &slot.to {
                SlotOp::Set(slot) => record.set(Arc::clone(slot)),
                SlotOp::Retime(expires) => {
                    if let Some(found) = record.slot(slot.name.as_str()) {
                        record.set(Arc::new(found.retimed(*expires)));
                    }
                }
                SlotOp::Drop => record.remove(slot.name.as_str()),
            }
        }
        match &self.kind {
            Kind::Claim(by) => {
                let held = match record.state {
                    State::Claimed { at, .. } => Some(at),
                    _ => None,
                };
                let later = held.map(|at| at + Duration::from_millis(1));
                record.state = State::Claimed {
                    by: by.clone(),
                    at: later.map_or(self.now, |later| later.max(self.now)),
                    shared: held.is_some(),
                }
            }
            Kind::Release(_) => record.state = State::Live,
            _ => {}
        }
        record.seen = record.seen.max(self.now);
        if !self.slots.is_empty() {
            record.updated = record.updated.max(self.now);
        }
        match self.expiry {
            Expiry::Keep => {}
            Expiry::Extend(to) => record.expires = record.expires.max(to),
            Expiry::Set(to) => record.expires = to,
        }
    }

    /// What is left under the key after a move or an end; `None` for the other kinds.
    pub fn tombstone(&self) -> Option<Record> {
        let (state, expires) = match &self.kind {
            Kind::Create | Kind::Update | Kind::Claim(_) | Kind::Release(_) => return None,
            Kind::Move(to, until) => (State::Moved(to.clone()), *until),
            Kind::End(reason) => (State::Ended(reason.clone()), self.now + TOMBSTONE),
        };
        let mut record = Record::new(self.now, expires);
        record.state = state;
        Some(record)
    }
}
