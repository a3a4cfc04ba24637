//! Plans: what is to become of a record. Each is a pure function of the record that is there and of the time; the one
//! loop that carries them out is [`amend`](crate::amend).

pub(crate) mod brought;
pub(crate) mod claim;
pub(crate) mod confirm;
pub(crate) mod create;
pub(crate) mod edit;
pub(crate) mod end;
pub(crate) mod lifetime;
pub(crate) mod open;
pub(crate) mod place;
pub(crate) mod save;
pub(crate) mod undo;

use std::sync::Arc;

use crate::record::Record;

/// A decision about the record that is there, and its meaning to whoever asked.
pub(crate) enum Plan<T> {
    /// Put this record in its place.
    Write(Arc<Record>, T),
    /// Leave it as it is.
    Leave(T),
}
