//! Slots that wait: what a guest had gathered under schemas that the login did not know, another crate's or a
//! newer version's, travels with the user's session until a schema that knows it comes by.

use std::sync::Arc;

use tokio::time::Instant;

use super::Request;
use super::account::{change_of, is_credited, mark_of};
use super::credit::credit_slot;
use super::gathered::WAITING;
use crate::commit::{self, Pending};
use crate::error::Error;
use crate::key::Key;
use crate::record::{FieldName, Record, Slot};
use crate::schema::{AnyRow, RowOf, Rows, row_of};

impl Request {
    /// Whether slots wait in the session for a schema that knows them, and `rows` do.
    pub(crate) fn knows_waiting(&self, rows: &[RowOf]) -> bool {
        let state = self.state();
        let mut waiting = state.session.slots().iter().filter_map(waiting_for);
        state.account.is_some() && waiting.any(|name| rows.iter().any(|row| row.0.knows(name)))
    }

    /// Takes in slots that have waited since the login for a schema that knows them, each once.
    pub(crate) async fn adopt(&self, rows: &Rows) -> Result<(), Error> {
        let _gate = self.gate().await?;
        let (stored, user) = {
            let state = self.state();
            let user = state
                .account
                .as_ref()
                .and_then(|account| account.key.clone());
            (state.session.stored.clone(), user)
        };
        let (Some(record), Some(user)) = (stored, user) else {
            return Ok(());
        };
        for slot in record.slots() {
            if let Some(row) = waiting_for(slot).and_then(|name| row_of(rows, name)) {
                self.adopt_slot(&user, row, slot).await?;
            }
        }
        self.write(None).await.map(drop)
    }

    async fn adopt_slot(
        &self,
        user: &Key,
        row: &'static dyn AnyRow,
        slot: &Arc<Slot>,
    ) -> Result<(), Error> {
        if row.follows() && self.config.migrate {
            self.credit_waiting(user, row, slot).await?;
        }
        let mut state = self.state();
        let drop = Pending::raw(slot.name().clone(), Some(Arc::clone(slot)), None);
        state.session.replace(drop);
        if !row.follows() && state.session.stored_slot(row.name()).is_none() {
            let plain = Arc::new(slot.named(FieldName::fixed(row.name())));
            state
                .session
                .replace(Pending::raw(plain.name().clone(), None, Some(plain)));
        }
        Ok(())
    }

    /// Credits one slot that waited, together with a mark that says so.
    async fn credit_waiting(
        &self,
        user: &Key,
        row: &'static dyn AnyRow,
        slot: &Arc<Slot>,
    ) -> Result<(), Error> {
        let Some(account) = commit::look_up(&self.config, user).await? else {
            return Ok(());
        };
        let mark = mark_of(slot.name().as_str());
        let plan = |account: &Record| {
            if is_credited(account, &mark) || self.is_reborn(account) {
                return Ok(None);
            }
            let now = self.config.now();
            let mut credits = credit_slot(row, account, slot, now)?;
            credits.push(self.mark(mark.clone(), now));
            Ok(Some(change_of(account, &credits, now)))
        };
        let deadline = Instant::now() + self.config.deadline;
        let stored = self.amend(user, account, deadline, plan).await?;
        let stored = stored.filter(|record| !self.is_reborn(record));
        if let (Some(account), Some(record)) = (&mut self.state().account, stored) {
            account.refreshed(user.clone(), record, self.config.now())?;
        }
        Ok(())
    }

    /// Whether `account` is not the user's who is logged in here, but that of one who came after.
    fn is_reborn(&self, account: &Record) -> bool {
        let state = self.state();
        let part = state.account.as_ref();
        part.is_some_and(|part| part.is_reborn(account))
    }
}

/// The field that a waiting slot is of.
fn waiting_for(slot: &Arc<Slot>) -> Option<&str> {
    let name = slot.name().as_str().strip_prefix(WAITING)?;
    name.split_once('/').map(|(_session, field)| field)
}
