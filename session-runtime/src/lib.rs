#![doc = include_str!("../README.md")]

#[cfg(doctest)]
#[doc = include_str!("../docs/users.md")]
struct Users;

#[cfg(all(
    doctest,
    feature = "postgres",
    feature = "redis",
    feature = "sqlite",
    feature = "tower-sessions"
))]
#[doc = include_str!("../docs/stores.md")]
struct Stores;

mod layer;
mod service;
mod sweep;

mod extract;
mod session;
mod sessions;

mod field;
mod schema;

mod request;

mod devices;

mod commit;
mod config;
mod event;
mod merge;
mod observe;
mod task;

pub mod transport;

pub mod store;

mod change;
mod record;

mod canonical;
mod signature;

mod clock;
mod error;
mod frame;
mod id;
mod key;

#[doc(hidden)]
pub mod private;

#[cfg(feature = "testing")]
pub mod testing;

pub use change::{
    Change, CommitId, Committed, Expiry, Kind, REMEMBERED, SlotChange, SlotOp, TOMBSTONE,
};
pub use clock::{Clock, SweepGuard, SystemClock, Timestamp};
pub use config::WhenFull;
pub use devices::Device;
pub use error::{DecodeError, Error};
pub use event::{Event, EventKind};
pub use field::{Field, Flash};
pub use id::SessionId;
pub use key::{Key, SessionKey, UserId};
pub use layer::SessionLayer;
pub use merge::{Append, Merge, Occasion, Sides, Sum, Union};
pub use record::{Ended, FieldName, Record, Slot, State};
pub use request::Saved;
pub use schema::Schema;
pub use service::{ResponseFuture, SessionService};
pub use session::{PassiveSession, Session};
pub use sessions::Sessions;
pub use signature::Signature;

/// Turns a struct into a typed session. See the crate's front page.
#[cfg(feature = "derive")]
pub use session_macros::Session;

/// Merges a struct field by field. See the crate's front page.
#[cfg(feature = "derive")]
pub use session_macros::Merge;
