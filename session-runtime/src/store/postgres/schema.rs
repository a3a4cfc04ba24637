//! What is in the database: the names of tables, and the text that makes them.

use super::fault::PostgresError;
use crate::key::fnv_1a;
use crate::store::rows;

/// The version of [`TEXT`]. What the binary before cannot work with needs tables of a new name beside the old ones, so
/// that both run side by side during a deploy.
pub(super) const VERSION: i32 = 1;

const TEXT: &str = include_str!("schema.sql");

/// PostgreSQL cuts longer names, and then two of them may be one.
const LONGEST: usize = 63;

/// The longest of what is put behind the table's name.
const LONGEST_SUFFIX: usize = "_versions".len();

/// The names in the database.
#[derive(Clone, Debug)]
pub(super) struct Names {
    schema: String,
    table: String,
}

impl Names {
    pub(super) fn new(schema: &str, table: &str) -> Result<Self, PostgresError> {
        check("schema", schema, LONGEST)?;
        check("table", table, LONGEST - LONGEST_SUFFIX)?;
        Ok(Self {
            schema: quoted(schema),
            table: table.to_owned(),
        })
    }

    pub(super) fn records(&self) -> String {
        self.of("")
    }

    pub(super) fn versions(&self) -> String {
        self.of("_versions")
    }

    /// Returns the name in full, such as `"public"."sessions_versions"`.
    fn of(&self, suffix: &str) -> String {
        format!("{}.{}", self.schema, self.bare(suffix))
    }

    fn bare(&self, suffix: &str) -> String {
        quoted(&format!("{}{suffix}", self.table))
    }

    /// Returns the text that makes all that the store needs, unless it is there.
    pub(super) fn sql(&self) -> String {
        [
            ("{schema}", self.schema.clone()),
            ("{records}", self.records()),
            ("{records_by_due}", self.bare("_by_due")),
            ("{versions}", self.versions()),
        ]
        .iter()
        .fold(TEXT.to_owned(), |text, (place, name)| {
            text.replace(place, name)
        })
    }

    /// Returns the number of the lock under which these are made: the same in every process and version.
    pub(super) fn lock(&self) -> i64 {
        fnv_1a(&self.records()).cast_signed()
    }
}

fn check(what: &'static str, name: &str, longest: usize) -> Result<(), PostgresError> {
    if rows::is_plain(name, longest) {
        return Ok(());
    }
    Err(PostgresError::name(what, name, longest))
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}
