//! Typed sessions for axum and tower.

pub mod store;

mod change;
mod clock;
mod error;
#[cfg(any(feature = "sqlite", test))]
mod frame;
mod id;
mod key;
mod record;
mod signature;

#[cfg(feature = "testing")]
pub mod testing;

pub use change::{Change, CommitId, Committed, Expiry, Kind, REMEMBERED, SlotChange, SlotOp, TOMBSTONE};
pub use clock::{Clock, SweepGuard, SystemClock, Timestamp};
pub use error::{DecodeError, Error};
pub use id::SessionId;
pub use key::{Key, SessionKey, UserId};
pub use record::{Ended, FieldName, Record, Slot, State};
pub use signature::Signature;
