//! The names of a store's tables.

use crate::key::fnv_1a;
use crate::store::SetupError;

/// Keeps the number of the version that the tables have.
const VERSIONS: &str = "_versions";

/// The longest of what is put behind the table's name.
const LONGEST_SUFFIX: usize = VERSIONS.len();

/// The names in the database.
#[derive(Clone, Debug)]
pub(super) struct Names {
    quote: char,
    /// The schema or database that the tables are in, quoted; by default that of the connection.
    within: Option<String>,
    table: String,
}

impl Names {
    /// Makes the names for a database that has `quote` around them and `longest` bytes for each. `within` says what kind of thing
    /// the tables are in, and its name.
    pub(super) fn new(
        quote: char,
        longest: usize,
        within: Option<(&str, &str)>,
        table: &str,
    ) -> Result<Self, SetupError> {
        if let Some((kind, name)) = within {
            check(kind, name, longest)?;
        }
        check("table", table, longest - LONGEST_SUFFIX)?;
        Ok(Self {
            quote,
            within: within.map(|(_, name)| format!("{quote}{name}{quote}")),
            table: table.to_owned(),
        })
    }

    /// Returns the name in full, such as `"public"."sessions"`.
    pub(super) fn records(&self) -> String {
        self.full("")
    }

    pub(super) fn versions(&self) -> String {
        self.full(VERSIONS)
    }

    pub(super) fn within(&self) -> Option<&str> {
        self.within.as_deref()
    }

    /// Returns `text` with the names in the places that it has for them.
    pub(super) fn put_into(&self, text: &str) -> String {
        text.replace("{within}", self.within().unwrap_or_default())
            .replace("{records}", &self.records())
            .replace("{records_by_due}", &self.bare("_by_due"))
            .replace("{versions}", &self.versions())
    }

    /// Returns the number of the lock under which the tables are made: the same in every process and version.
    pub(super) fn lock(&self) -> u64 {
        fnv_1a(&self.records())
    }

    fn full(&self, suffix: &str) -> String {
        let name = self.bare(suffix);
        match &self.within {
            Some(within) => format!("{within}.{name}"),
            None => name,
        }
    }

    fn bare(&self, suffix: &str) -> String {
        let Self { quote, table, .. } = self;
        format!("{quote}{table}{suffix}{quote}")
    }
}

/// Lets names of letters, digits, `_` and `-` pass: nothing that quoting could trip over.
fn check(kind: &str, name: &str, longest: usize) -> Result<(), SetupError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=longest).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(SetupError::new(format!(
        "`{name}` cannot be the name of a {kind}: use 1 to {longest} letters, digits, `_` and `-`"
    )))
}
