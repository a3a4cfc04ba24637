//! One record as a request knows it, and what is to become of it.

use std::sync::Arc;

use crate::change::Change;
use crate::clock::Timestamp;
use crate::commit::{self, Doubt, Pending, epoch, same_payload, same_slot, settle};
use crate::config::Config;
use crate::error::Error;
use crate::id::SessionId;
use crate::key::Key;
use crate::merge::Occasion;
use crate::record::{FieldName, Record, Slot};
use crate::schema::AnyRow;

/// A record, where it is, and the changes that wait for their commit. A request has one for the browser's
/// session, and one more for the user who is logged in.
#[derive(Default)]
pub(super) struct Part {
    /// Where the record is.
    pub(super) key: Option<Key>,
    /// The record as last seen in the store.
    pub(super) stored: Option<Arc<Record>>,
    /// The record was not looked up, since no schema has asked for it.
    pub(super) unread: bool,
    pub(super) pending: Vec<Pending>,
    /// What the commit that is under way, or was the last, writes: a pending change that comes to nothing may
    /// have to undo it.
    pub(super) sent: Vec<Pending>,
    /// A commit whose outcome is not known, and the id it issues.
    pub(super) doubt: Option<(Box<Doubt>, Option<SessionId>)>,
}

/// What one commit is about to write, taken from a part in one go.
pub(super) struct Batch {
    pub(super) stored: Option<(Key, Arc<Record>)>,
    pub(super) pending: Vec<Pending>,
}

impl Part {
    pub(super) fn found(&mut self, key: Key, record: Arc<Record>) {
        self.key = Some(key);
        self.stored = Some(record);
        self.unread = false;
    }

    pub(super) fn slots(&self) -> &[Arc<Slot>] {
        self.stored.as_deref().map_or(&[], Record::slots)
    }

    /// The record, and where it is.
    pub(super) fn stored(&self) -> Option<(Key, Arc<Record>)> {
        self.key.clone().zip(self.stored.clone())
    }

    pub(super) fn stored_slot(&self, name: &str) -> Option<Arc<Slot>> {
        self.stored.as_ref()?.slot(name).cloned()
    }

    /// The slots as the handles of the request see them, with `passing` on top, if that is not just what is stored.
    /// What was used up is still seen.
    pub(super) fn seen_by_handles(&self, passing: &[Arc<Slot>], now: Timestamp) -> Option<Record> {
        if self.pending.is_empty() && passing.is_empty() {
            return None;
        }
        let mut seen = Record::new(now, now).with_slots(self.slots().iter().cloned());
        for pending in self.pending.iter().filter(|pending| !pending.used_up) {
            pending.show(&mut seen);
        }
        Some(seen.with_slots(passing.iter().cloned()))
    }

    /// Takes in that a slot has become `ours`, seen from `base`.
    pub(super) fn fold_slot(
        &mut self,
        row: &'static dyn AnyRow,
        base: Option<&Arc<Slot>>,
        ours: Option<&Arc<Slot>>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut change = Pending::of(row, None, None);
        let record = self.stored.as_deref();
        let stored = record
            .and_then(|record| change.stored_in(record, now))
            .cloned();
        let mut pending = self.pending.iter();
        let earlier = pending.find(|pending| pending.name == change.name);
        let (base_in_store, current) = match earlier {
            Some(pending) => (pending.base.clone(), pending.ours.clone()),
            None => (stored.clone(), stored),
        };
        change.ours = settle(row, base, ours, current.as_ref(), Occasion::Conflict)?;
        change.base = base_in_store;
        self.replace(change);
        Ok(())
    }

    /// Puts a pending change in place of any other to its slot.
    pub(super) fn replace(&mut self, change: Pending) {
        self.pending.retain(|pending| pending.name != change.name);
        if change.is_change() || self.sent.iter().any(|sent| sent.name == change.name) {
            self.pending.push(change);
        }
    }

    /// What is to be written now. Whoever calls it holds the gate: nothing else is under way.
    pub(super) fn batch(&mut self) -> Batch {
        self.pending.retain(Pending::is_change);
        self.sent.clone_from(&self.pending);
        Batch {
            stored: self.stored(),
            pending: self.pending.clone(),
        }
    }

    /// Whether there is room for what is pending.
    pub(super) fn check_sizes(&self, config: &Config) -> Result<(), Error> {
        let changes: Vec<_> = self.pending.iter().flat_map(Pending::to_changes).collect();
        commit::check_sizes(config, self.stored.as_deref(), &changes)
    }

    /// Whether this request has given the slot another value.
    pub(super) fn has_set(&self, name: &FieldName) -> bool {
        self.pending.iter().any(|pending| {
            pending.name == *name && !same_payload(pending.ours.as_ref(), pending.base.as_ref())
        })
    }

    /// Whether `record` is not the user's that was looked up before, but that of one who came after.
    pub(super) fn is_reborn(&self, record: &Record) -> bool {
        let before = self.stored.as_deref();
        before.is_some_and(|before| epoch::is_reborn(before, record))
    }

    /// The record was looked up again: what is pending goes on top of that.
    pub(super) fn refreshed(
        &mut self,
        key: Key,
        record: Arc<Record>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.pending = commit::rebase(&self.pending, &record, now)?;
        self.found(key, record);
        Ok(())
    }

    /// What was sent is stored: `record` with `change`. What was folded in meanwhile stays pending, on top of that.
    pub(super) fn committed(
        &mut self,
        key: Key,
        mut record: Arc<Record>,
        change: Option<&Change>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.stored = None; // so that nobody else has the record, and it is changed in place
        if let Some(change) = change {
            change.apply(Arc::make_mut(&mut record));
        }
        self.found(key, Arc::clone(&record));
        let sent = std::mem::take(&mut self.sent);
        let newer = std::mem::take(&mut self.pending);
        newer.into_iter().try_for_each(|pending| {
            let sent = sent.iter().find(|sent| sent.name == pending.name);
            if sent.is_some_and(|sent| same_slot(sent.ours.as_ref(), pending.ours.as_ref())) {
                return Ok(());
            }
            let base = sent.map_or(pending.base.clone(), |sent| sent.ours.clone());
            let theirs = pending.stored_in(&record, now).cloned();
            self.replace(Pending { base, ..pending }.rebased(theirs.as_ref())?);
            Ok(())
        })
    }

    /// Nothing of what was changed is to be written.
    pub(super) fn drop_changes(&mut self) {
        self.pending.clear();
        self.doubt = None;
    }

    pub(super) fn forget_slot(&mut self, name: &FieldName) {
        if let Some(record) = &mut self.stored {
            Arc::make_mut(record).remove(name.as_str());
        }
    }
}
