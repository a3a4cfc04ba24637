//! Claiming: one request takes a flash out of the session, and has its value to itself.

use std::sync::Arc;

use super::{Plan, edit};
use crate::clock::Timestamp;
use crate::record::{Record, Slot};
use crate::row::AnyRow;

/// Takes a slot out, be it newer than the one that was seen.
pub(crate) fn take_out(
    there: &Record,
    row: &dyn AnyRow,
    now: Timestamp,
) -> Plan<Option<Arc<Slot>>> {
    let Some(slot) = edit::stored_under(row, there, now) else {
        return Plan::Leave(None);
    };
    let mut after = there.next();
    edit::replace(row, &mut after, None);
    after.note_write(now);
    Plan::Write(Arc::new(after), Some(Arc::clone(slot)))
}
