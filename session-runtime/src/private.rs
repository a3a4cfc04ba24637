//! All that macro output names. Not for anything else: it changes without notice.

pub use crate::error::Error;
pub use crate::field::{Field, Flash};
pub use crate::schema::{Cell, Harvest, Lifetime, Opener, Row, Schema, Visitor, decode_or_upgrade};
pub use core;

/// The rules, by their names in `#[merge(…)]`.
pub mod rules {
    pub use crate::merge::{append, deep, guest, max, min, sum, union, user};
}
