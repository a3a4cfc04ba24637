//! All that macro output names. Not for anything else: it changes without notice.

pub use crate::canonical::Canonical;
pub use crate::error::{EncodeError, Error};
pub use crate::field::{Field, Flash};
pub use crate::merge::{Merge, Sides, field_by_field, part};
pub use crate::row::{Absent, CellEdit, Lifetime, Row, RowOf, decode_with, row, upgraded};
pub use crate::schema::{Cell, Opener, Schema, Visitor};
pub use core;

/// The rules, by their names in `#[merge(…)]`.
pub mod rules {
    pub use crate::merge::{
        Keyed, append, deep, guest, later, left_precedent, max, min, retainment_precedent,
        right_precedent, storage_precedent, sum, union, user,
    };
}
