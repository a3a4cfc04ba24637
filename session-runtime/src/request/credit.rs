//! Credits: what a guest had gathered, merged into the user's record.

use std::sync::Arc;

use super::Request;
use super::account::{change_of, mark_frozen};
use super::gathered::Gathered;
use crate::change::Change;
use crate::clock::Timestamp;
use crate::commit::{self, Pending, check_sizes, settle, stored_under};
use crate::error::Error;
use crate::merge::Occasion;
use crate::record::{FieldName, Record, Slot};
use crate::schema::{AnyRow, Rows, row_of};

impl Request {
    /// The change to the user's record; `None` if there is nothing to credit.
    pub(super) fn plan_credit(
        &self,
        account: &Record,
        gathered: &Gathered,
        rows: &Rows,
    ) -> Result<Option<Change>, Error> {
        let now = self.config.now();
        let credited = gathered.is_credited_in(account);
        let mut pending = match (self.config.migrate, credited) {
            (true, true) => follow_up(account, gathered, rows, now)?,
            (true, false) => credits(account, gathered, rows, now)?,
            (false, _) => Vec::new(),
        };
        if !gathered.is_of_a_user() {
            pending.extend(mark_frozen(account, gathered, now)?);
        }
        if !pending.iter().any(Pending::is_change) {
            return Ok(None);
        }
        let change = change_of(account, &pending, now);
        check_sizes(&self.config, Some(account), &change.slots)?;
        Ok(Some(change))
    }
}

/// Whether a change to a user's record is of more than the record's own facts.
pub(super) fn credits_fields(change: &Change) -> bool {
    change
        .slots
        .iter()
        .any(|slot| !slot.name.as_str().starts_with('@'))
}

/// What was gathered of fields that follow the user, merged into the account with nothing as base.
fn credits(
    account: &Record,
    gathered: &Gathered,
    rows: &Rows,
    now: Timestamp,
) -> Result<Vec<Pending>, Error> {
    if gathered.is_of_a_user() {
        return Ok(Vec::new());
    }
    let slots = gathered.slots(now);
    let mut credits = Vec::new();
    for row in rows.iter().filter(|row| row.follows()) {
        if let Some(slot) = stored_under(row.name(), *row, &slots, now) {
            credits.extend(credit_slot(*row, account, slot, now)?);
        }
    }
    Ok(credits)
}

/// One slot of a guest, merged into the account, under the field's present name.
pub(super) fn credit_slot(
    row: &'static dyn AnyRow,
    account: &Record,
    ours: &Arc<Slot>,
    now: Timestamp,
) -> Result<Vec<Pending>, Error> {
    let name = FieldName::fixed(row.name());
    let renamed = |slot: &Arc<Slot>| Arc::new(slot.named(name.clone()));
    let stored = stored_under(row.name(), row, account, now);
    let theirs = stored.map(renamed);
    let merged = settle(
        row,
        None,
        Some(&renamed(ours)),
        theirs.as_ref(),
        Occasion::Login,
    )?;
    let older = stored.filter(|stored| *stored.name() != name);
    let base = theirs.filter(|_| older.is_none());
    let mut credits = vec![Pending::of(row, base, merged)];
    credits
        .extend(older.map(|slot| Pending::raw(slot.name().clone(), Some(Arc::clone(slot)), None)));
    Ok(credits)
}

/// The frozen record has been credited by another login of the same user: what this request changed on top
/// of it comes on top of that.
fn follow_up(
    account: &Record,
    gathered: &Gathered,
    rows: &Rows,
    now: Timestamp,
) -> Result<Vec<Pending>, Error> {
    let follows =
        |pending: &&Pending| row_of(rows, pending.name.as_str()).is_some_and(AnyRow::follows);
    let follows: Vec<Pending> = gathered.pending.iter().filter(follows).cloned().collect();
    commit::rebase(&follows, account, now)
}
