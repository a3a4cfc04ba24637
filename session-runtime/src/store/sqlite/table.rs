//! The tables and their statements. Nothing else knows them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use crate::clock::Timestamp;
use crate::frame::{self, Delta, FrameError};
use crate::key::{self, Key};
use crate::record::Record;
use crate::store::{Swapped, Swept};

/// A record's version and expiry stand in its head, too; here they are for comparing and for sweeping. Whoever deletes
/// a record, an operator included, deletes its payloads.
pub(super) const SCHEMA: &str = "
    CREATE TABLE records (
        id      INTEGER PRIMARY KEY,
        key     TEXT NOT NULL UNIQUE,
        version BLOB NOT NULL,
        expires INTEGER NOT NULL,
        head    BLOB NOT NULL
    );
    CREATE INDEX records_by_expiry ON records (expires);
    CREATE TABLE payloads (
        record  INTEGER NOT NULL,
        name    TEXT NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (record, name)
    ) WITHOUT ROWID;
    CREATE TRIGGER payloads_go_with_their_record AFTER DELETE ON records BEGIN
        DELETE FROM payloads WHERE record = old.id;
    END;
";

/// How many bytes of payloads stand in a head at most; the others are written only when they change. With what a head has
/// besides, this fills a page.
const ROOM: usize = 700;

/// Returns the record under a key. It is one statement: between two a record could change, and tear.
pub(super) fn load(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Arc<Record>>> {
    // The head for itself: beside each payload, it would be read as often.
    let mut select = connection.prepare_cached(
        "SELECT NULL, head FROM records WHERE key = ?1 UNION ALL
         SELECT name, payload FROM payloads WHERE record = (SELECT id FROM records WHERE key = ?1)",
    )?;
    let mut rows = select.query([key.to_string()])?;
    let (mut head, mut beside) = (None, HashMap::new());
    while let Some(row) = rows.next()? {
        let value = bytes(row, 1)?;
        if let Some(name) = row.get::<_, Option<String>>(0)? {
            beside.insert(name, value);
        } else {
            head = Some(value);
        }
    }
    let Some(head) = head else {
        return Ok(None);
    };
    let record = frame::unpack(&head, |name| beside.remove(name));
    record
        .map(|record| Some(Arc::new(record)))
        .map_err(unreadable)
}

/// Returns the first `limit` keys among those of sessions that come after a text.
pub(super) fn scan(
    connection: &Connection,
    after: &str,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare_cached(
        "SELECT key FROM records WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (_, end) = key::sessions();
    let keys = select.query_map(params![after, end, limit], |row| row.get(0))?;
    keys.collect()
}

fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

fn unreadable(error: FrameError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(error))
}

/// Puts `after` in place of `before`, if that is what is there.
pub(super) fn swap(
    connection: &Connection,
    key: &Key,
    before: Option<&Record>,
    after: &Record,
) -> rusqlite::Result<Swapped> {
    let delta = frame::delta(before, after, ROOM);
    let is_done = match before {
        None => insert(connection, key, after, &delta.head)?,
        Some(before) => update(connection, key, before, after, &delta.head)?,
    };
    if !is_done {
        return load(connection, key).map(Swapped::Stale);
    }
    put_payloads(connection, key, &delta)?;
    Ok(Swapped::Done)
}

fn insert(
    connection: &Connection,
    key: &Key,
    after: &Record,
    head: &[u8],
) -> rusqlite::Result<bool> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO records (key, version, expires, head) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO NOTHING",
    )?;
    let (version, expires) = (after.version().to_bytes(), after.expires().as_millis());
    let inserted = insert.execute(params![key.to_string(), version, expires, head])?;
    Ok(inserted == 1)
}

fn update(
    connection: &Connection,
    key: &Key,
    before: &Record,
    after: &Record,
    head: &[u8],
) -> rusqlite::Result<bool> {
    let (key, old, new) = (
        key.to_string(),
        before.version().to_bytes(),
        after.version().to_bytes(),
    );
    // SQLite writes an index anew even if the value stays the same.
    let updated = if before.expires() == after.expires() {
        connection
            .prepare_cached(
                "UPDATE records SET version = ?3, head = ?4 WHERE key = ?1 AND version = ?2",
            )?
            .execute(params![key, old, new, head])?
    } else {
        connection
            .prepare_cached("UPDATE records SET version = ?3, head = ?4, expires = ?5 WHERE key = ?1 AND version = ?2")?
            .execute(params![key, old, new, head, after.expires().as_millis()])?
    };
    Ok(updated == 1)
}

fn put_payloads(connection: &Connection, key: &Key, delta: &Delta<'_>) -> rusqlite::Result<()> {
    for name in &delta.removed {
        connection
            .prepare_cached("DELETE FROM payloads WHERE record = (SELECT id FROM records WHERE key = ?1) AND name = ?2")?
            .execute(params![key.to_string(), name.as_str()])?;
    }
    for slot in &delta.written {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO payloads SELECT id, ?2, ?3 FROM records WHERE key = ?1",
            )?
            .execute(params![
                key.to_string(),
                slot.name().as_str(),
                slot.payload()
            ])?;
    }
    Ok(())
}

/// Deletes at most `limit` records that had expired at `cutoff`, and says which.
pub(super) fn sweep(
    connection: &Connection,
    cutoff: Timestamp,
    limit: usize,
) -> rusqlite::Result<Swept> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM records WHERE id IN
             (SELECT id FROM records WHERE expires <= ?1 ORDER BY expires LIMIT ?2)
         RETURNING key, head",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = delete.query(params![cutoff.as_millis(), limit])?;
    let mut swept = Swept::default();
    while let Some(row) = rows.next()? {
        // Somebody may have put a number there.
        let column = |at| {
            row.get_ref(at)
                .map(|value| value.as_bytes().unwrap_or_default())
        };
        swept.add_stored(column(0)?, &Bytes::copy_from_slice(column(1)?));
    }
    Ok(swept)
}
