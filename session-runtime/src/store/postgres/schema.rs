//! What is in the database: the names of tables, and the text that makes them.

use crate::store::SetupError;
use crate::store::names::Names;

/// The version of [`TEXT`]. What the binary before cannot work with needs tables of a new name beside the old ones, so
/// that both run side by side during a deploy.
pub(super) const VERSION: i32 = 1;

const TEXT: &str = include_str!("schema.sql");

/// PostgreSQL cuts longer names, and then two of them may be one.
const LONGEST: usize = 63;

pub(super) fn names(schema: &str, table: &str) -> Result<Names, SetupError> {
    Names::new('"', LONGEST, Some(("schema", schema)), table)
}

/// Returns the text that makes all that the store needs, unless it is there.
pub(super) fn sql(names: &Names) -> String {
    names.put_into(TEXT)
}
