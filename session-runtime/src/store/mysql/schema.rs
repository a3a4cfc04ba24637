//! What is in the database: the names of tables, and the text that makes them.

use super::fault::MysqlError;
use crate::key::fnv_1a;
use crate::store::rows;

/// The version of [`TEXT`]. What the binary before cannot work with needs tables of a new name beside the old ones, so
/// that both run side by side during a deploy.
pub(super) const VERSION: i64 = 1;

const TEXT: &str = include_str!("schema.sql");

/// MySQL refuses longer names.
const LONGEST: usize = 64;

/// The longest of what is put behind the table's name.
const LONGEST_SUFFIX: usize = "_versions".len();

/// The names in the database.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// If it is not the one that connections use anyway.
    database: Option<String>,
    table: String,
}

impl Names {
    pub(super) fn new(database: Option<&str>, table: &str) -> Result<Self, MysqlError> {
        if let Some(database) = database {
            check("database", database, LONGEST)?;
        }
        check("table", table, LONGEST - LONGEST_SUFFIX)?;
        Ok(Self {
            database: database.map(quoted),
            table: table.to_owned(),
        })
    }

    pub(super) fn records(&self) -> String {
        self.of("")
    }

    pub(super) fn versions(&self) -> String {
        self.of("_versions")
    }

    /// Returns the name in full, such as `` `shop`.`sessions_versions` ``.
    fn of(&self, suffix: &str) -> String {
        let table = quoted(&format!("{}{suffix}", self.table));
        match &self.database {
            Some(database) => format!("{database}.{table}"),
            None => table,
        }
    }

    /// Returns the text that makes all that the store needs, unless it is there.
    pub(super) fn sql(&self) -> String {
        let text = TEXT.replace("{records}", &self.records());
        let text = text.replace("{versions}", &self.versions());
        match &self.database {
            Some(database) => format!("CREATE DATABASE IF NOT EXISTS {database};\n\n{text}"),
            None => text,
        }
    }

    /// Returns the name of the lock under which these are made.
    pub(super) fn lock(&self) -> String {
        format!("session-runtime {:x}", fnv_1a(&self.records()))
    }
}

fn check(what: &'static str, name: &str, longest: usize) -> Result<(), MysqlError> {
    if rows::is_plain(name, longest) {
        return Ok(());
    }
    Err(MysqlError::name(what, name, longest))
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}
