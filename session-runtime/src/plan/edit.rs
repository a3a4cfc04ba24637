//! Edits of slots: how what a request has changed goes on top of what is there.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::Error;
use crate::merge::{Occasion, Sides};
use crate::observe;
use crate::record::{Expiry, FieldName, Record, Slot};
use crate::row::{AnyRow, MergeFault};

/// A request's change of one field.
#[derive(Clone)]
pub(crate) struct SlotEdit {
    pub(crate) row: &'static dyn AnyRow,
    /// The slot that the request found.
    pub(crate) base: Option<Arc<Slot>>,
    /// What is to be in its place; `None` takes it out.
    pub(crate) ours: Option<Arc<Slot>>,
    /// It is a flash that was read, and so goes when the request ends.
    pub(crate) used_up: bool,
}

impl SlotEdit {
    pub(crate) fn name(&self) -> &'static str {
        self.row.name()
    }

    /// Returns `true` if anything is left to be written.
    pub(crate) fn is_change(&self) -> bool {
        !same_slot(self.base.as_ref(), self.ours.as_ref())
    }

    /// Returns `true` if the app has asked for it: it is more than a flash that was read, or a field that lives longer since it
    /// was used.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.is_change() && !self.used_up && !self.only_slides()
    }

    /// Returns `true` if the value stays, and lives longer since it was used.
    pub(crate) fn only_slides(&self) -> bool {
        let (base, ours) = (self.base.as_ref(), self.ours.as_ref());
        let is_later = matches!(
            (expiry(base), expiry(ours)),
            (Some(Expiry::Usual(before)), Some(Expiry::Usual(after))) if before < after
        );
        self.row.is_sliding() && same_payload(base, ours) && is_later
    }

    /// Returns the same edit, based on what is there by now.
    pub(crate) fn rebased(
        &self,
        theirs: Option<&Arc<Slot>>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        Ok(Self {
            base: theirs.cloned(),
            ours: self.merged(theirs, now)?,
            ..self.clone()
        })
    }

    /// Returns what becomes of the slot.
    pub(crate) fn merged(
        &self,
        theirs: Option<&Arc<Slot>>,
        now: Timestamp,
    ) -> Result<Option<Arc<Slot>>, Error> {
        let (base, ours) = (self.base.as_ref(), self.ours.as_ref());
        merge3(self.row, base, ours, theirs, Occasion::Conflict, now)
    }

    /// Puts the edit on top of what `record` holds. Returns `true` if that changes it. Refuses what is too large for the
    /// field, by a merge say. The slot is looked for as by [`Record::find_near`].
    pub(crate) fn apply(
        &self,
        record: &mut Record,
        caps: Caps,
        now: Timestamp,
        near: &mut usize,
    ) -> Result<bool, Error> {
        let theirs = stored_near(self.row, record, now, near).cloned();
        let merged = self.merged(theirs.as_ref(), now)?;
        if same_slot(theirs.as_ref(), merged.as_ref()) {
            return Ok(false);
        }
        if let Some(slot) = &merged {
            caps.check_field(slot)?;
        }
        replace_near(self.row, record, merged, near);
        Ok(true)
    }

    /// Makes the edit seen in `record`, as the request sees it.
    pub(crate) fn show(&self, record: &mut Record) {
        replace(self.row, record, self.ours.clone());
    }
}

/// Puts edits on top of what `record` holds. Returns `true` if that changes it.
pub(crate) fn apply(
    edits: &[SlotEdit],
    record: &mut Record,
    caps: Caps,
    now: Timestamp,
) -> Result<bool, Error> {
    let (mut changed, mut near) = (false, 0);
    for edit in edits {
        changed |= edit.apply(record, caps, now, &mut near)?;
    }
    Ok(changed)
}

/// Puts a slot under the field's present name, and nothing under its older ones.
pub(crate) fn replace(row: &dyn AnyRow, record: &mut Record, slot: Option<Arc<Slot>>) {
    replace_near(row, record, slot, &mut 0);
}

fn replace_near(row: &dyn AnyRow, record: &mut Record, slot: Option<Arc<Slot>>, near: &mut usize) {
    for alias in row.aliases() {
        record.remove(alias);
    }
    match slot {
        Some(slot) if slot.name().compare(row.name()).is_eq() => record.set_near(slot, near),
        Some(slot) => {
            let slot = slot.named(FieldName::fixed(row.name()));
            record.set_near(Arc::new(slot), near);
        }
        None => drop(record.remove(row.name())),
    }
}

/// Returns the slot that a reader of the field finds: under its name, or under an older one.
pub(crate) fn stored_under<'r>(
    row: &dyn AnyRow,
    record: &'r Record,
    now: Timestamp,
) -> Option<&'r Arc<Slot>> {
    stored_near(row, record, now, &mut 0)
}

/// The same, looked for as by [`Record::find_near`].
pub(crate) fn stored_near<'r>(
    row: &dyn AnyRow,
    record: &'r Record,
    now: Timestamp,
    near: &mut usize,
) -> Option<&'r Arc<Slot>> {
    let own = record.find_near(row.name(), near);
    let mut older = row.aliases().iter();
    own.filter(|slot| slot.is_live(now))
        .or_else(|| older.find_map(|name| record.live_slot(name, now)))
}

pub(crate) fn same_payload(a: Option<&Arc<Slot>>, b: Option<&Arc<Slot>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.has_value_of(b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

pub(crate) fn same_slot(a: Option<&Arc<Slot>>, b: Option<&Arc<Slot>>) -> bool {
    same_payload(a, b) && expiry(a) == expiry(b)
}

fn expiry(slot: Option<&Arc<Slot>>) -> Option<Expiry> {
    slot.map(|slot| slot.expiry())
}

/// Merges a slot that two sides may have changed.
///
/// Where one side left the payload alone, the other side's stands; where both changed it, the field's rule
/// decides, also if they wrote the same. In a conflict, nobody has changed what has lapsed by `now`. Of the expiry: where one side
/// changed it, that; where both did, the later, or of a field that slides the one that was asked for.
pub(crate) fn merge3(
    row: &dyn AnyRow,
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
    occasion: Occasion,
    now: Timestamp,
) -> Result<Option<Arc<Slot>>, Error> {
    let has_lapsed = theirs.is_none() && base.is_some_and(|base| !base.is_live(now));
    let has_lapsed = has_lapsed && occasion == Occasion::Conflict;
    let payload = if same_payload(ours, base) {
        theirs.cloned()
    } else if same_payload(theirs, base) || has_lapsed {
        ours.cloned()
    } else {
        by_rule(row, base, ours, theirs, occasion)?
    };
    let expiry = merged_expiry(base, ours, theirs);
    Ok(payload.map(|slot| {
        if expiry == slot.expiry() {
            slot
        } else {
            Arc::new(slot.expiring(expiry))
        }
    }))
}

fn by_rule(
    row: &dyn AnyRow,
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
    occasion: Occasion,
) -> Result<Option<Arc<Slot>>, Error> {
    if row.is_flash() && ours.is_none() {
        return Ok(theirs.cloned()); // using one up takes no newer one away
    }
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
        Err(MergeFault::Undecodable) if occasion == Occasion::Login => {
            Err(Error::undecodable(row.name()))
        }
        Err(MergeFault::Undecodable) => {
            observe::undecodable(row.name());
            Ok(theirs.cloned())
        }
    }
}

/// Returns when a slot that both sides may have retimed expires.
fn merged_expiry(
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
) -> Expiry {
    let merged = match (ours, theirs) {
        // A side that has none, or whose slot has expired, says nothing of how long the other's lives.
        (Some(_), None) => ours,
        (None, Some(_)) => theirs,
        _ if expiry(ours) == expiry(base) => theirs,
        _ if expiry(theirs) == expiry(base) || rank(ours) > rank(theirs) => ours,
        _ => theirs,
    };
    expiry(merged).unwrap_or_default()
}

/// Returns what is compared of two expiries: the later counts, but having used a field that slides undoes nothing that
/// was asked for.
fn rank(slot: Option<&Arc<Slot>>) -> Option<(bool, Timestamp)> {
    const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);
    let expiry = expiry(slot)?;
    let asked_for = !matches!(expiry, Expiry::Usual(_));
    Some((asked_for, expiry.at().unwrap_or(NEVER)))
}

/// The largest values and records that are written, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub(crate) field: usize,
    pub(crate) record: usize,
}

impl Caps {
    /// Refuses a record that has become too large. What shrinks always fits.
    pub(crate) fn check(self, before: Option<&Record>, after: &Record) -> Result<(), Error> {
        let (old, new) = (before.map_or(0, Record::size), after.size());
        if new > self.record && new > old {
            return Err(Error::too_large("the session", new, self.record));
        }
        Ok(())
    }

    /// Refuses a value that is too large for its field.
    pub(crate) fn check_field(self, slot: &Slot) -> Result<(), Error> {
        if slot.payload().len() > self.field {
            let name = slot.name().as_str();
            return Err(Error::field_too_large(name, slot.payload(), self.field));
        }
        Ok(())
    }
}
