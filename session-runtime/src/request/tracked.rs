//! One record as a request knows it, and what is to become of it.

use std::mem::take;
use std::sync::Arc;

use crate::amend::UnknownOutcome;
use crate::clock::Timestamp;
use crate::error::{Error, own_name};
use crate::id::SessionId;
use crate::merge::Occasion;
use crate::observe;
use crate::plan::edit::{
    self, Caps, SlotEdit, merge3, same_payload, same_slot, stored_near, stored_under,
};
use crate::record::{Record, Slot};
use crate::row::AnyRow;

/// A record and the edits that wait to be written. A request has one for the browser's session, and one more for the
/// user who is logged in.
#[derive(Default)]
pub(super) struct TrackedRecord {
    /// The record as last seen in the store.
    pub(super) stored: Option<Arc<Record>>,
    /// Sorted by name, each name once.
    pub(super) edits: Vec<SlotEdit>,
    /// What the write that is under way, or was the last, holds, sorted, too: an edit that comes to nothing may have to
    /// undo it.
    sent: Option<Arc<[SlotEdit]>>,
    pub(super) unknown: Option<Box<InDoubt>>,
}

/// A write whose outcome is unknown.
#[derive(Clone)]
pub(super) struct InDoubt {
    pub(super) outcome: UnknownOutcome,
    /// The id that it issues.
    pub(super) issues: Option<SessionId>,
    /// It was the opening of a login.
    pub(super) opens: bool,
}

impl InDoubt {
    pub(super) fn of(
        outcome: Option<UnknownOutcome>,
        issues: Option<SessionId>,
        opens: bool,
    ) -> Option<Box<Self>> {
        let in_doubt = |outcome| Self {
            outcome,
            issues,
            opens,
        };
        outcome.map(in_doubt).map(Box::new)
    }
}

impl TrackedRecord {
    pub(super) fn of(record: impl Into<Option<Arc<Record>>>) -> Self {
        Self {
            stored: record.into(),
            ..Self::default()
        }
    }

    pub(super) fn has_edits(&self) -> bool {
        !self.edits.is_empty()
    }

    pub(super) fn slots(&self) -> &[Arc<Slot>] {
        self.stored.as_deref().map_or(&[], Record::slots)
    }

    /// Returns the record as the handles of the request see it, with `passing` on top, if that is not just what is
    /// stored. What was used up is still seen.
    pub(super) fn seen_by_handles(&self, passing: &[Arc<Slot>], now: Timestamp) -> Option<Record> {
        if self.edits.is_empty() && passing.is_empty() {
            return None;
        }
        let mut seen = Record::new(now, now).with_slots(self.slots().iter().cloned());
        for edit in self.edits.iter().filter(|edit| !edit.used_up) {
            edit.show(&mut seen);
        }
        Some(seen.with_slots(passing.iter().cloned()))
    }

    /// Returns an edit of a slot as somebody has seen it on top of what was folded in before. What is stored is looked for as by
    /// [`Record::find_near`].
    pub(super) fn folded(
        &self,
        edit: SlotEdit,
        occasion: Occasion,
        now: Timestamp,
        near: &mut usize,
    ) -> Result<SlotEdit, Error> {
        let SlotEdit {
            row,
            base,
            ours,
            used_up,
        } = edit;
        let base = base.as_ref();
        let (in_store, current) = self.current(row, now, near);
        let ours = if same_slot(base, current) {
            ours
        } else {
            let both_changed = !same_payload(base, current) && !same_payload(base, ours.as_ref());
            let has_earlier = !same_slot(in_store, current);
            if has_earlier && both_changed && !row.has_rule() && !used_up {
                observe::overwritten(own_name(row.name()));
            }
            merge3(row, base, ours.as_ref(), current, occasion, now)?
        };
        Ok(SlotEdit {
            row,
            base: in_store.cloned(),
            ours,
            used_up,
        })
    }

    /// Returns what is stored of a field, and what the handles see of it: a flash that was used up, too, though it goes when the
    /// request ends. It is looked for as by [`Record::find_near`].
    pub(super) fn current(
        &self,
        row: &dyn AnyRow,
        now: Timestamp,
        near: &mut usize,
    ) -> (Option<&Arc<Slot>>, Option<&Arc<Slot>>) {
        match self.edit_of(row) {
            Some(edit) if edit.used_up => (edit.base.as_ref(), edit.base.as_ref()),
            Some(edit) => (edit.base.as_ref(), edit.ours.as_ref()),
            None => {
                let record = self.stored.as_deref();
                let stored = record.and_then(|record| stored_near(row, record, now, near));
                (stored, stored)
            }
        }
    }

    pub(super) fn edit_of(&self, row: &dyn AnyRow) -> Option<&SlotEdit> {
        Some(&self.edits[position(&self.edits, row.name()).ok()?])
    }

    /// Puts an edit in place of any other of its slot.
    pub(super) fn replace(&mut self, edit: SlotEdit) {
        let is_among = |sent: &[SlotEdit]| position(sent, edit.name()).is_ok();
        let wanted = edit.is_change() || self.sent.as_deref().is_some_and(is_among);
        match position(&self.edits, edit.name()) {
            Ok(at) if wanted => self.edits[at] = edit,
            Ok(at) => drop(self.edits.remove(at)),
            Err(at) if wanted => self.edits.insert(at, edit),
            Err(_) => {}
        }
    }

    /// Returns what is to be written now; what was used up only at the end of the request. Whoever calls it holds the
    /// gate: no other write is under way.
    pub(super) fn send(&mut self, ends: bool) -> Arc<[SlotEdit]> {
        self.edits.retain(SlotEdit::is_change);
        let sent: Arc<[SlotEdit]> = if ends {
            self.edits.iter().cloned().collect()
        } else {
            let lasts = self.edits.iter().filter(|edit| !edit.used_up);
            lasts.cloned().collect()
        };
        Arc::clone(self.sent.insert(sent))
    }

    /// Refuses what has no room, before anything is written.
    pub(super) fn check_sizes(&self, caps: Caps, now: Timestamp) -> Result<(), Error> {
        let Some(stored) = self.stored.as_deref().filter(|_| !self.edits.is_empty()) else {
            return Ok(());
        };
        let mut after = stored.clone();
        edit::apply(&self.edits, &mut after, caps, now)?;
        caps.check(Some(stored), &after)
    }

    /// The record was looked up again: the edits go on top of that.
    pub(super) fn refreshed(&mut self, record: Arc<Record>, now: Timestamp) -> Result<(), Error> {
        let edits = take(&mut self.edits);
        self.sent = None;
        self.rebase(edits, record, now)
    }

    /// Notes that what was sent is in `record`. What was folded in meanwhile stays, on top of that.
    pub(super) fn committed(&mut self, record: &Arc<Record>, now: Timestamp) -> Result<(), Error> {
        let unsent = self.take_unsent();
        self.rebase(unsent, Arc::clone(record), now)
    }

    /// Puts edits on top of another state of the record. What comes to nothing is left out. One that cannot be merged stays
    /// as it was, so that the next write is refused, too, and does not pass it over in silence.
    fn rebase(
        &mut self,
        edits: Vec<SlotEdit>,
        record: Arc<Record>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut outcome = Ok(());
        for edit in edits {
            if edit.row.follows() && record.user().is_some() {
                self.replace(edit); // to be set apart in it, on top of nothing
                continue;
            }
            match edit.rebased(stored_under(edit.row, &record, now), now) {
                Ok(rebased) => self.replace(rebased),
                Err(error) => {
                    self.replace(edit);
                    outcome = outcome.and(Err(error));
                }
            }
        }
        self.stored = Some(record);
        outcome
    }

    /// Returns `true` if the last write held something of a field that follows the user.
    pub(super) fn has_sent_what_follows(&self) -> bool {
        let mut sent = self.sent.iter().flat_map(|sent| sent.iter());
        sent.any(|edit| edit.row.follows() && edit.is_change())
    }

    /// Takes the edits that the last write did not hold: what was folded in since, and what is used up.
    pub(super) fn take_unsent(&mut self) -> Vec<SlotEdit> {
        let sent = self.sent.take();
        let mut sent = sent.iter().flat_map(|sent| sent.iter()).peekable();
        let mut unsent = take(&mut self.edits);
        unsent.retain_mut(|edit| {
            while sent.next_if(|sent| sent.name() < edit.name()).is_some() {}
            let Some(sent) = sent.next_if(|sent| sent.name() == edit.name()) else {
                return true;
            };
            edit.base.clone_from(&sent.ours);
            edit.is_change()
        });
        unsent
    }

    /// Notes that what was sent is written where this request does not look: it goes on seeing what it has seen, and its edits.
    pub(super) fn committed_elsewhere(&mut self, now: Timestamp) -> Result<(), Error> {
        let Some(stored) = &self.stored else {
            self.edits = self.take_unsent();
            return Ok(());
        };
        let mut seen = Record::clone(stored);
        for edit in self.sent.iter().flat_map(|sent| sent.iter()) {
            edit.show(&mut seen);
        }
        self.committed(&Arc::new(seen), now)
    }

    /// Nothing of what was changed is to be written.
    pub(super) fn drop_edits(&mut self) {
        self.edits.clear();
        self.unknown = None;
    }

    /// Returns `true` if this request has used up what the flash said.
    pub(super) fn uses_up(&self, row: &dyn AnyRow) -> bool {
        self.edit_of(row).is_some_and(|edit| edit.used_up)
    }

    /// Returns `true` if this request has given the field another value.
    pub(super) fn has_set(&self, row: &dyn AnyRow) -> bool {
        self.edit_of(row)
            .is_some_and(|edit| !same_payload(edit.ours.as_ref(), edit.base.as_ref()))
    }
}

/// Returns where the edit of that name is, or belongs.
fn position(edits: &[SlotEdit], name: &str) -> Result<usize, usize> {
    // They mostly come in their order.
    match edits.last() {
        Some(last) if last.name() < name => Err(edits.len()),
        _ => edits.binary_search_by(|edit| edit.name().cmp(name)),
    }
}
