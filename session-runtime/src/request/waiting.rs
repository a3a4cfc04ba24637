//! Slots that wait: what a guest had gathered under schemas that the login did not know, another crate's or a
//! newer version's, travels with the user's session until a schema that knows it comes by.
//!
//! So does what an older version of the app, or the same before a deploy, has put into a user's session of a field
//! that follows the user by now. That is set aside first, under a name that is used only once: the older version
//! may put the same there again.

use std::fmt::Display;
use std::sync::Arc;

use tokio::time::Instant;

use super::Request;
use super::account::{change_of, is_credited, mark_of};
use super::credit::credit_slot;
use super::part::Part;
use crate::change::{Change, Kind, SlotChange};
use crate::clock::Timestamp;
use crate::commit::{check_sizes, stored_under};
use crate::error::Error;
use crate::id::random_text;
use crate::record::{Ended, FieldName, Record, Slot};
use crate::schema::{AnyRow, RowOf, Rows, row_of};

/// Slots of a session that wait for a schema that knows them.
pub(super) const WAITING: &str = "@pending/";

impl Request {
    /// Whether slots wait in the session for a schema that knows them, and `rows` do.
    pub(crate) fn knows_waiting(&self, rows: &[RowOf]) -> bool {
        let state = self.state();
        let (Some(_), Some(session)) = (&state.account, &state.session.stored) else {
            return false;
        };
        let mut waiting = session.slots().iter().filter_map(|slot| waiting_for(slot));
        waiting.any(|name| rows.iter().any(|row| row.0.knows(name)))
            || rows.iter().any(|row| self.is_astray(session, row.0))
    }

    /// Whether a user's session holds a field that belongs to the user's record.
    fn is_astray(&self, session: &Record, row: &dyn AnyRow) -> bool {
        let found = || stored_under(row.name(), row, session, self.config.now());
        row.follows() && self.config.migrate && found().is_some()
    }

    /// Takes in slots that have waited since the login for a schema that knows them, each once. That writes nothing
    /// else: what handlers have changed may yet come to nothing.
    pub(crate) async fn adopt(&self, rows: &Rows) -> Result<(), Error> {
        let _gate = self.gate().await?;
        let _ = self.settle_doubt().await?;
        let plan = |session: &Record| {
            let astray = rows.iter().filter(|row| self.is_astray(session, **row));
            Ok(set_aside(session, astray, self.config.now()))
        };
        self.amend_session(plan).await?;
        let stored = self.state().session.stored.clone();
        let Some(session) = stored else {
            return Ok(());
        };
        let mut credited = Vec::new();
        for (slot, row) in waiting_in(&session, rows, self.config.now()) {
            if row.follows() && (!self.config.migrate || self.credit_waiting(row, slot).await?) {
                credited.push(slot.name());
            }
        }
        let plan = |session: &Record| Ok(taken_in(session, rows, &credited, self.config.now()));
        self.amend_session(plan).await
    }

    async fn amend_session(
        &self,
        plan: impl FnMut(&Record) -> Result<Option<Change>, Error>,
    ) -> Result<(), Error> {
        let stored = self.state().session.stored();
        let Some((key, session)) = stored else {
            return Ok(());
        };
        let deadline = Instant::now() + self.config.deadline;
        let amended = self.amend(&key, session, deadline, plan).await?;
        let mut state = self.state();
        let Some(session) = amended else {
            state.lost(Ended::Revoked);
            return Ok(());
        };
        state.session.refreshed(key, session, self.config.now())
    }

    /// Credits one slot that waited, together with a mark that says so. `false` if that cannot be: it waits on, and the
    /// user is not kept out by it.
    async fn credit_waiting(
        &self,
        row: &'static dyn AnyRow,
        slot: &Arc<Slot>,
    ) -> Result<bool, Error> {
        let stored = self.state().account.as_ref().and_then(Part::stored);
        let Some((user, account)) = stored else {
            return Ok(true);
        };
        let mark = mark_of(slot.name().as_str());
        let mut refused = None;
        let plan = |account: &Record| {
            refused = None;
            if is_credited(account, &mark) || self.is_reborn(account) {
                return Ok(None);
            }
            let planned = self.plan_adoption(account, row, slot, &mark);
            Ok(planned.map_err(|error| refused = Some(error)).ok())
        };
        let deadline = Instant::now() + self.config.deadline;
        let stored = self.amend(&user, account, deadline, plan).await?;
        let stored = stored.filter(|record| !self.is_reborn(record));
        if let (Some(account), Some(record)) = (&mut self.state().account, stored) {
            account.refreshed(user, record, self.config.now())?;
        }
        if let Some(error) = &refused {
            tracing::warn!(field = row.name(), %error, "what waits since a login cannot be merged, and waits on");
        }
        Ok(refused.is_none())
    }

    fn plan_adoption(
        &self,
        account: &Record,
        row: &'static dyn AnyRow,
        slot: &Arc<Slot>,
        mark: &str,
    ) -> Result<Change, Error> {
        let now = self.config.now();
        let mut credits = credit_slot(row, account, slot, now)?;
        credits.push(self.mark(mark.to_owned(), now));
        let change = change_of(account, &credits, now);
        check_sizes(&self.config, Some(account), &change.slots)?;
        Ok(change)
    }

    /// Whether `account` is not the user's who is logged in here, but that of one who came after.
    fn is_reborn(&self, account: &Record) -> bool {
        let state = self.state();
        let part = state.account.as_ref();
        part.is_some_and(|part| part.is_reborn(account))
    }
}

/// What waits in a session, and is there for a reader, with the rows that know it.
fn waiting_in<'r>(
    session: &'r Record,
    rows: &Rows,
    now: Timestamp,
) -> impl Iterator<Item = (&'r Arc<Slot>, &'static dyn AnyRow)> {
    let live = session.slots().iter().filter(move |slot| slot.is_live(now));
    live.filter_map(|slot| Some((slot, row_of(rows, waiting_for(slot)?)?)))
}

/// The name under which a field of the session `from` waits.
pub(super) fn waiting_name(from: impl Display, field: &FieldName) -> FieldName {
    FieldName::from(format!("{WAITING}{from}/{}", field.as_str()))
}

/// The field that a waiting slot is of.
fn waiting_for(slot: &Slot) -> Option<&str> {
    let name = slot.name().as_str().strip_prefix(WAITING)?;
    name.split_once('/').map(|(_session, field)| field)
}

/// Has these fields wait. Of several names of one it is the one that would be read.
fn set_aside<'r>(
    session: &Record,
    astray: impl Iterator<Item = &'r &'static dyn AnyRow>,
    now: Timestamp,
) -> Option<Change> {
    let mut change = Change::new(Kind::Update, now);
    for row in astray {
        let names = std::iter::once(row.name()).chain(row.aliases().iter().copied());
        let found = names.filter_map(|name| session.live_slot(name, now));
        for (at, slot) in found.enumerate() {
            change.slots.push(SlotChange::drop(Arc::clone(slot)));
            if at == 0 {
                let name = waiting_name(random_text(), slot.name());
                change
                    .slots
                    .push(SlotChange::set(None, Arc::new(slot.named(name))));
            }
        }
    }
    (!change.slots.is_empty()).then_some(change)
}

/// Takes out what waits, of what follows the user only what has been credited. What stays with the browser gets its
/// own name, unless there is something newer under that.
fn taken_in(
    session: &Record,
    rows: &Rows,
    credited: &[&FieldName],
    now: Timestamp,
) -> Option<Change> {
    let mut after = session.clone();
    let mut change = Change::new(Kind::Update, now);
    for (slot, row) in waiting_in(session, rows, now) {
        if row.follows() && !credited.contains(&slot.name()) {
            continue;
        }
        change.slots.push(SlotChange::drop(Arc::clone(slot)));
        if !row.follows() && stored_under(row.name(), row, &after, now).is_none() {
            let plain = Arc::new(slot.named(FieldName::fixed(row.name())));
            after.set(Arc::clone(&plain));
            change.slots.push(SlotChange::set(None, plain));
        }
    }
    (!change.slots.is_empty()).then_some(change)
}
