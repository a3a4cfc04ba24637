//! The statements: a small function for each, and nothing else knows the tables.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Fault;
use crate::clock::Timestamp;
use crate::frame;
use crate::key::{Key, UserId};
use crate::record::Record;
use crate::store::Swept;
use crate::store::token::Token;

/// A record as the table has it, and what is kept with it.
pub(super) struct Held {
    row: i64,
    owner: Option<UserId>,
    expires: Timestamp,
    pub(super) record: Arc<Record>,
}

impl Held {
    pub(super) fn owner(&self) -> Option<&UserId> {
        self.owner.as_ref()
    }
}

pub(super) fn record(connection: &Connection, key: &Key) -> Result<Option<Arc<Record>>, Fault> {
    let mut select = connection.prepare_cached("SELECT frame FROM records WHERE key = ?1")?;
    let frame = select
        .query_row([key.to_string()], |row| frame_of(row, 0))
        .optional()?;
    frame.map(|frame| decode(&frame)).transpose()
}

pub(super) fn held(connection: &Connection, key: &Key) -> Result<Option<Held>, Fault> {
    let mut select = connection
        .prepare_cached("SELECT rowid, owner, expires, frame FROM records WHERE key = ?1")?;
    let columns = |row: &Row<'_>| {
        let owner: Option<String> = row.get(1)?;
        Ok((row.get(0)?, owner, row.get(2)?, frame_of(row, 3)?))
    };
    let Some((row, owner, expires, frame)) =
        select.query_row([key.to_string()], columns).optional()?
    else {
        return Ok(None);
    };
    let expires = Timestamp::from_millis(expires);
    Ok(Some(Held {
        row,
        owner: owner.map(UserId::from),
        expires,
        record: decode(&frame)?,
    }))
}

fn frame_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

fn decode(frame: &Bytes) -> Result<Arc<Record>, Fault> {
    frame::decode(frame).map(Arc::new).map_err(Fault::Record)
}

/// Puts a record under `key`, in place of `held`.
pub(super) fn put(
    connection: &Connection,
    key: &Key,
    held: Option<&Held>,
    record: &Record,
    owner: Option<&UserId>,
) -> rusqlite::Result<()> {
    let frame = frame::encode(record);
    let expires = record.expires.as_millis();
    let name = owner.map(UserId::as_str);
    match held {
        None => connection
            .prepare_cached(
                "INSERT INTO records (key, owner, expires, frame) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![key.to_string(), name, expires, frame])?,
        // The indexes need not be touched.
        Some(held) if held.expires == record.expires && held.owner() == owner => connection
            .prepare_cached("UPDATE records SET frame = ?2 WHERE rowid = ?1")?
            .execute(params![held.row, frame])?,
        Some(held) => connection
            .prepare_cached(
                "UPDATE records SET owner = ?2, expires = ?3, frame = ?4 WHERE rowid = ?1",
            )?
            .execute(params![held.row, name, expires, frame])?,
    };
    Ok(())
}

pub(super) fn owned_by(connection: &Connection, owner: &UserId) -> rusqlite::Result<Vec<Key>> {
    let mut select = connection.prepare_cached("SELECT key FROM records WHERE owner = ?1")?;
    let keys = select.query_map([owner.as_str()], |row| row.get::<_, String>(0))?;
    let keys = keys
        .map(|key| key.map(|text| Key::parse(&text)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(keys.into_iter().flatten().collect())
}

/// Deletes at most `limit` records that have expired at `cutoff`, and says which.
pub(super) fn sweep(
    connection: &Connection,
    cutoff: Timestamp,
    limit: usize,
) -> rusqlite::Result<Swept> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM records WHERE rowid IN
             (SELECT rowid FROM records WHERE expires <= ?1 ORDER BY expires LIMIT ?2)
         RETURNING key, owner, substr(frame, 1, ?3)",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = delete.query(params![cutoff.as_millis(), limit, frame::STATE])?;
    let mut swept = Swept::default();
    while let Some(row) = rows.next()? {
        swept.deleted += 1;
        let (key, owner): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        let open = frame::is_open(row.get_ref(2)?.as_blob()?);
        if let Some(key) = Key::parse(&key).filter(|_| open) {
            swept.expired.push((key, owner.map(UserId::from)));
        }
    }
    Ok(swept)
}

/// Hands every commit of a batch later than `batch` to `see`, and says which batch is the last.
pub(super) fn commits_since(
    connection: &Connection,
    batch: i64,
    mut see: impl FnMut(Token),
) -> rusqlite::Result<i64> {
    let mut select = connection
        .prepare_cached("SELECT batch, tokens FROM commits WHERE batch > ?1 ORDER BY batch")?;
    let mut rows = select.query([batch])?;
    let mut last = batch;
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let tokens = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        tokens
            .as_chunks()
            .0
            .iter()
            .copied()
            .map(Token::from_bytes)
            .for_each(&mut see);
    }
    Ok(last)
}

/// Keeps the commits of a batch, and says which batch that is.
pub(super) fn keep_commits(connection: &Connection, tokens: &[Token]) -> rusqlite::Result<i64> {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_bytes()).collect();
    connection
        .prepare_cached("INSERT INTO commits (tokens) VALUES (?1)")?
        .execute([bytes])?;
    Ok(connection.last_insert_rowid())
}

/// Deletes some batches up to `batch`.
pub(super) fn forget_commits(connection: &Connection, batch: i64) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM commits WHERE batch IN
             (SELECT batch FROM commits WHERE batch <= ?1 ORDER BY batch LIMIT 32)",
    )?;
    delete.execute([batch])?;
    Ok(())
}
