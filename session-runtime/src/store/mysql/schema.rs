//! What is in the database: the names of tables, and the text that makes them.

use crate::store::SetupError;
use crate::store::names::Names;

/// The version of [`TEXT`]. What the binary before cannot work with needs tables of a new name beside the old ones, so
/// that both run side by side during a deploy.
pub(super) const VERSION: i64 = 1;

const TEXT: &str = include_str!("schema.sql");

/// MySQL refuses longer names.
const LONGEST: usize = 64;

/// Names the tables, in the database that connections use if no other is given.
pub(super) fn names(database: Option<&str>, table: &str) -> Result<Names, SetupError> {
    let within = database.map(|name| ("database", name));
    Names::new('`', LONGEST, within, table)
}

/// Returns the text that makes all that the store needs, unless it is there.
pub(super) fn sql(names: &Names) -> String {
    let text = names.put_into(TEXT);
    match names.within() {
        Some(database) => format!("CREATE DATABASE IF NOT EXISTS {database};\n\n{text}"),
        None => text,
    }
}
