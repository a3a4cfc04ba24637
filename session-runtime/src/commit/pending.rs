//! Changes to slots that wait for their commit, and what becomes of one that two sides have changed.

use std::sync::Arc;

use crate::change::{SlotChange, SlotOp};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Error;
use crate::merge::{Occasion, Sides};
use crate::observe;
use crate::record::{FieldName, Record, Slot, slot_size};
use crate::schema::{AnyRow, MergeFault, Row, facts};

/// A change to one slot that waits for its commit.
#[derive(Clone)]
pub(crate) struct Pending {
    pub(crate) row: &'static dyn AnyRow,
    pub(crate) name: FieldName,
    /// What it is based on, as stored.
    pub(crate) base: Option<Arc<Slot>>,
    /// What is to be there; `None` takes it out.
    pub(crate) ours: Option<Arc<Slot>>,
    /// It was only read: until the request ends, handles see what is stored.
    pub(crate) used_up: bool,
}

impl Pending {
    /// Sets one of the session's own facts: a number or text, which always has a JSON form.
    pub(crate) fn fact<T: Send + Sync>(
        row: &'static Row<T>,
        base: Option<Arc<Slot>>,
        value: Option<&T>,
    ) -> Self {
        let payload = value.and_then(|value| row.encode_value(value).ok());
        let ours = payload.map(|payload| row.slot(payload, None));
        Self::of(row, base, ours)
    }

    /// Sets a field.
    pub(crate) fn of(
        row: &'static dyn AnyRow,
        base: Option<Arc<Slot>>,
        ours: Option<Arc<Slot>>,
    ) -> Self {
        Self {
            row,
            name: FieldName::fixed(row.name()),
            base,
            ours,
            used_up: false,
        }
    }

    /// Sets a slot that no field is known of.
    pub(crate) fn raw(name: FieldName, base: Option<Arc<Slot>>, ours: Option<Arc<Slot>>) -> Self {
        Self {
            row: &facts::Raw,
            name,
            base,
            ours,
            used_up: false,
        }
    }

    /// Whether anything is left to be written.
    pub(crate) fn is_change(&self) -> bool {
        !same_slot(self.base.as_ref(), self.ours.as_ref())
    }

    /// The same change, based on what is in the store by now.
    pub(crate) fn rebased(&self, theirs: Option<&Arc<Slot>>) -> Result<Self, Error> {
        let base = self.base.as_ref();
        let ours = settle(
            self.row,
            base,
            self.ours.as_ref(),
            theirs,
            Occasion::Conflict,
        )?;
        Ok(Self {
            base: theirs.cloned(),
            ours,
            ..self.clone()
        })
    }

    /// What is stored of it: under its name, or under an older one.
    pub(crate) fn stored_in<'r>(
        &self,
        record: &'r Record,
        now: Timestamp,
    ) -> Option<&'r Arc<Slot>> {
        stored_under(self.name.as_str(), self.row, record, now)
    }

    /// Makes it seen in `record`.
    pub(crate) fn show(&self, record: &mut Record) {
        if let Some(base) = &self.base {
            record.remove(base.name().as_str()); // maybe an older name
        }
        if let Some(slot) = &self.ours {
            record.set(Arc::clone(slot));
        }
    }

    /// What is asked of the store: two things if the field was read under an older name.
    pub(crate) fn to_changes(&self) -> impl Iterator<Item = SlotChange> + use<> {
        let (drop, change) = match (self.base.clone(), self.ours.clone()) {
            (None, None) => (None, None),
            (Some(base), None) => (Some(SlotChange::drop(base)), None),
            (Some(base), Some(ours)) if base.name() != ours.name() => (
                Some(SlotChange::drop(base)),
                Some(SlotChange::set(None, ours)),
            ),
            (Some(base), Some(ours)) if base.signature() == ours.signature() => {
                (None, Some(SlotChange::retime(base, ours.expires())))
            }
            (base, Some(ours)) => (None, Some(SlotChange::set(base, ours))),
        };
        drop.into_iter().chain(change)
    }
}

/// The slot that a reader of the field finds: under `name`, or under an older one.
pub(crate) fn stored_under<'r>(
    name: &str,
    row: &dyn AnyRow,
    record: &'r Record,
    now: Timestamp,
) -> Option<&'r Arc<Slot>> {
    let mut names = std::iter::once(name).chain(row.aliases().iter().copied());
    names.find_map(|name| record.live_slot(name, now))
}

pub(crate) fn same_payload(a: Option<&Arc<Slot>>, b: Option<&Arc<Slot>>) -> bool {
    a.map(|slot| slot.signature()) == b.map(|slot| slot.signature())
}

pub(crate) fn same_slot(a: Option<&Arc<Slot>>, b: Option<&Arc<Slot>>) -> bool {
    same_payload(a, b) && a.map(|slot| slot.expires()) == b.map(|slot| slot.expires())
}

/// What becomes of a slot, given what both sides started from.
///
/// Where one side left the payload alone, the other side's stands; where both changed it, the field's rule
/// decides, also if they wrote the same. Of the expiry: where one side changed it, that; where both did, the
/// later.
pub(crate) fn settle(
    row: &dyn AnyRow,
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
    occasion: Occasion,
) -> Result<Option<Arc<Slot>>, Error> {
    let payload = if same_payload(ours, base) {
        theirs.cloned()
    } else if same_payload(theirs, base) {
        ours.cloned()
    } else {
        merge(row, base, ours, theirs, occasion)?
    };
    let expires = settled_expiry(base, ours, theirs);
    Ok(payload.map(|slot| {
        if expires == slot.expires() {
            slot
        } else {
            Arc::new(slot.retimed(expires))
        }
    }))
}

fn merge(
    row: &dyn AnyRow,
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
    occasion: Occasion,
) -> Result<Option<Arc<Slot>>, Error> {
    let sides = Sides {
        base: base.map(AsRef::as_ref),
        ours: ours.map(AsRef::as_ref),
        theirs: theirs.map(AsRef::as_ref),
        occasion,
    };
    match row.merge(sides) {
        Ok(merged) => Ok(merged),
        Err(MergeFault::Rejected) => Err(Error::rejected(row.name())),
        Err(MergeFault::Encode(error)) => Err(Error::encode(row.name(), error)),
        Err(MergeFault::Undecodable) => {
            observe::undecodable(row.name());
            Ok(theirs.cloned())
        }
    }
}

/// When a slot that both sides may have retimed lapses.
fn settled_expiry(
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
) -> Option<Timestamp> {
    const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);
    let lapse = |side: Option<&Arc<Slot>>| side.map(|slot| slot.expires().unwrap_or(NEVER));
    let (base, ours, theirs) = (lapse(base), lapse(ours), lapse(theirs));
    let settled = if ours == base {
        theirs
    } else if theirs == base {
        ours
    } else {
        ours.max(theirs)
    };
    settled.filter(|lapse| *lapse < NEVER)
}

/// Puts pending changes on top of another state of the record. What comes to nothing is left out.
pub(crate) fn rebase(
    pending: &[Pending],
    record: &Record,
    now: Timestamp,
) -> Result<Vec<Pending>, Error> {
    let mut rebased = Vec::with_capacity(pending.len());
    for change in pending {
        let change = change.rebased(change.stored_in(record, now))?;
        if change.is_change() {
            rebased.push(change);
        }
    }
    Ok(rebased)
}

pub(crate) fn check_sizes(
    config: &Config,
    record: Option<&Record>,
    slots: &[SlotChange],
) -> Result<(), Error> {
    if slots.is_empty() {
        return Ok(());
    }
    let held = |name: &str| record.and_then(|record| record.slot(name));
    let mut after = record.map_or(0, Record::size);
    let mut grows = false;
    for slot in slots {
        let before = held(slot.name.as_str()).map_or(0, |held| slot_size(held));
        let set = match &slot.to {
            SlotOp::Set(set) => slot_size(set),
            SlotOp::Retime(_) => before,
            SlotOp::Drop => 0,
        };
        if let SlotOp::Set(set) = &slot.to
            && set.payload().len() > config.max_field
        {
            return Err(Error::field_too_large(set, config.max_field));
        }
        grows |= set > before;
        after = (after + set).saturating_sub(before);
    }
    if grows && after > config.max_record {
        return Err(Error::too_large("the session", after, config.max_record));
    }
    Ok(())
}
