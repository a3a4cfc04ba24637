//! Records as parameters, and rows as records.

use std::str;
use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::statements::{HEAD, Statement, Statements, WRITE_HEAD};
use crate::error::StoreError;
use crate::frame::{self, Delta};
use crate::key::{Key, UserId};
use crate::record::{Record, Version};
use crate::store::Swept;

/// How many bytes of small payloads stand in the record's own row.
const ROOM: usize = 2 << 10;

/// Names go into indexes, whose entries PostgreSQL limits.
const LONGEST_NAME: usize = 1024;

/// A swap, as its statements take it.
pub(super) struct Ask<'a> {
    key: &'a [u8],
    version: i64,
    expires: i64,
    head: Vec<u8>,
    before: Option<i64>,
    removed: Vec<&'a [u8]>,
    names: Vec<&'a [u8]>,
    payloads: Vec<&'a [u8]>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(key: &'a [u8], before: Option<&'a Record>, after: &'a Record) -> Self {
        let Delta {
            head,
            written,
            removed,
        } = frame::delta(before, after, ROOM);
        let names = written.iter().map(|slot| slot.name().as_str().as_bytes());
        let removed = removed.iter().map(|name| name.as_str().as_bytes());
        Self {
            key,
            version: number(after.version()),
            expires: after.expires().as_millis(),
            head,
            before: before.map(|before| number(before.version())),
            removed: removed.collect(),
            names: names.collect(),
            payloads: written.iter().map(|slot| slot.payload().as_ref()).collect(),
        }
    }

    /// Picks the statement that writes no more than has to be.
    pub(super) fn statement<'s>(&self, statements: &'s Statements) -> &'s Statement {
        let write = match self.before {
            None => &statements.create,
            Some(_) => &statements.update,
        };
        if self.is_head_alone() {
            &write.head
        } else {
            &write.all
        }
    }

    fn is_head_alone(&self) -> bool {
        self.removed.is_empty() && self.names.is_empty()
    }

    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![
            &self.key,
            &self.version,
            &self.expires,
            &self.head,
            &self.before,
            &self.removed,
            &self.names,
            &self.payloads,
        ];
        if self.is_head_alone() {
            all.truncate(WRITE_HEAD);
        }
        all
    }
}

/// Returns the version as a number that the server compares.
fn number(version: Version) -> i64 {
    i64::from_le_bytes(version.to_bytes())
}

/// Returns the key as the tables have it.
pub(super) fn key_bytes(key: &Key) -> Result<Vec<u8>, StoreError> {
    if let Key::User(user) = key {
        check(user)?;
    }
    Ok(key.to_string().into_bytes())
}

fn check(user: &UserId) -> Result<(), StoreError> {
    let size = user.as_str().len();
    if size > LONGEST_NAME {
        return Err(StoreError::broken(format!(
            "a user's name of {size} bytes: PostgresStore takes {LONGEST_NAME} at most"
        )));
    }
    Ok(())
}

/// Reads a record from its rows: that of its head, and those beside it.
pub(super) fn record(rows: &[Row]) -> Result<Option<Arc<Record>>, StoreError> {
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        parts.push((column::<&[u8]>(row, 0)?, column::<&[u8]>(row, 1)?));
    }
    // There may be thousands.
    parts.sort_unstable_by_key(|(name, _)| *name);
    let find = |name: &[u8]| {
        let at = parts.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(Bytes::copy_from_slice(parts[at].1))
    };
    let Some(head) = find(HEAD) else {
        return Ok(None);
    };
    let record = frame::unpack(&head, |name| find(name.as_bytes()))?;
    Ok(Some(Arc::new(record)))
}

/// Adds what a batch of sweeping has deleted. What cannot be read has gone all the same.
pub(super) fn add_swept(swept: &mut Swept, rows: &[Row]) -> Result<(), StoreError> {
    for row in rows {
        let Some(key) = column::<Option<&[u8]>>(row, 0)? else {
            continue;
        };
        let key = str::from_utf8(key).ok().and_then(Key::parse);
        let head = frame::unpack_head(&Bytes::copy_from_slice(column(row, 1)?));
        match (key, head) {
            (Some(key), Ok(record)) => swept.add(key, &record),
            _ => swept.deleted += 1,
        }
    }
    Ok(())
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
) -> Result<T, StoreError> {
    let value = row.try_get(at);
    value.map_err(|_| StoreError::broken("a stored record has a column of another type"))
}
