//! Foundation.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]

pub mod store;

mod frame;
mod record;

mod signature;

mod secret;
mod id;
mod key;
mod clock;
mod error;

#[cfg(feature = "testing")]
pub mod testing;

pub use clock::{Clock, SystemClock, Timestamp};
pub use error::{DecodeError, Error};
pub use id::SessionId;
pub use key::{Key, Selector, UserId};
pub use record::Ended;
