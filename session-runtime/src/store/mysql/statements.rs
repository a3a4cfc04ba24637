//! The statements that the store asks.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Row, Value};

use super::fault::DUPLICATE;
use crate::key;
use crate::store::KEPT_AFTER_EXPIRY;
use crate::store::names::Names;
use crate::store::rows::RowSwap;

/// How many rows one statement writes or removes beside a record, and the most that a server sets aside for it.
const CHUNK: usize = 100;

/// Finds a record's own row, by [`HEAD`](crate::store::rows::HEAD).
const IS_HEAD: &str = "name = x'ff'";

/// A record that was due for sweeping.
pub(super) struct Due {
    pub(super) key: Vec<u8>,
    /// Its head, if it has been deleted.
    pub(super) head: Option<Vec<u8>>,
}

/// All of them, with the names of one set of tables.
#[derive(Debug)]
pub(super) struct Statements {
    table: String,
    load: String,
    create: String,
    update: String,
    scan: String,
    due: String,
}

impl Statements {
    /// With `by_server`, nothing is swept before its time has come by the server's clock, too.
    pub(super) fn new(names: &Names, by_server: bool) -> Self {
        let table = names.records();
        // One machine's clock may be wrong, and what is deleted by it is gone for all.
        let cutoff = if by_server {
            let kept = KEPT_AFTER_EXPIRY.as_millis();
            format!("LEAST(?, UNIX_TIMESTAMP() * 1000 - {kept})")
        } else {
            "?".to_owned()
        };
        Self {
            // One statement sees one moment: a head and what stands beside it always fit together.
            load: format!("SELECT name, payload FROM {table} WHERE `key` = ?"),
            create: format!(
                "INSERT INTO {table} (due, expires, version, payload, `key`, name) VALUES (?, ?, ?, ?, ?, x'ff')"
            ),
            update: format!(
                "UPDATE {table} SET due = LEAST(due, ?), expires = ?, version = ?, payload = ? \
                 WHERE `key` = ? AND {IS_HEAD} AND version = ?"
            ),
            scan: format!(
                "SELECT `key` FROM {table} WHERE `key` > ? AND `key` < ? AND {IS_HEAD} ORDER BY `key` LIMIT ?"
            ),
            // What others are busy with is left for the next time.
            due: format!(
                "SELECT `key`, IF(expires <= {cutoff}, payload, NULL) FROM {table} FORCE INDEX (by_due) \
                 WHERE due <= {cutoff} ORDER BY due LIMIT ? FOR UPDATE SKIP LOCKED"
            ),
            table,
        }
    }

    /// Returns the rows of a record.
    pub(super) async fn load(&self, conn: &mut Conn, key: Vec<u8>) -> Result<Vec<Row>, Error> {
        conn.exec(self.load.as_str(), (key,)).await
    }

    /// Returns the keys of the first `limit` sessions after one.
    pub(super) async fn scan(
        &self,
        conn: &mut Conn,
        after: String,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let (_, end) = key::sessions();
        let values = (after.into_bytes(), end.as_bytes(), limit as u64);
        conn.exec(self.scan.as_str(), values).await
    }

    /// Writes a record if the version compared is there, and says whether it was.
    pub(super) async fn write(&self, conn: &mut Conn, swap: &RowSwap<'_>) -> Result<bool, Error> {
        if swap.is_head_alone() {
            return self.write_head(conn, swap).await;
        }
        conn.query_drop("START TRANSACTION").await?;
        let written = async {
            // Whoever has the head has all of the record.
            let is_written = self.write_head(conn, swap).await?;
            if is_written {
                self.write_beside(conn, swap).await?;
            }
            Ok(is_written)
        };
        let written = written.await;
        end(conn, written, |is_written| *is_written).await
    }

    async fn write_head(&self, conn: &mut Conn, swap: &RowSwap<'_>) -> Result<bool, Error> {
        let mut values = vec![
            swap.expires.into(),
            swap.expires.into(),
            swap.version.into(),
            Value::Bytes(swap.head.clone()),
            swap.key.into(),
        ];
        let Some(before) = swap.before else {
            return match conn.exec_drop(self.create.as_str(), values).await {
                Err(Error::Server(error)) if error.code == DUPLICATE => Ok(false),
                created => created.map(|()| true),
            };
        };
        values.push(before.into());
        conn.exec_drop(self.update.as_str(), values).await?;
        // Counted or changed: the version is never the one before.
        Ok(conn.affected_rows() == 1)
    }

    async fn write_beside(&self, conn: &mut Conn, swap: &RowSwap<'_>) -> Result<(), Error> {
        let table = &self.table;
        for removed in swap.removed.chunks(CHUNK) {
            let delete = format!(
                "DELETE FROM {table} WHERE `key` = ? AND name IN ({})",
                list("?", removed.len())
            );
            let mut values = vec![swap.key.into()];
            values.extend(removed.iter().map(|name| Value::from(name.as_slice())));
            conn.exec_drop(delete, values).await?;
        }
        for (names, payloads) in swap.names.chunks(CHUNK).zip(swap.payloads.chunks(CHUNK)) {
            let insert = format!(
                "INSERT INTO {table} (`key`, name, payload) VALUES {} \
                 ON DUPLICATE KEY UPDATE payload = VALUES(payload)",
                list("(?, ?, ?)", names.len())
            );
            let rows = names.iter().zip(payloads);
            let values = rows.flat_map(|(name, payload)| [swap.key, name.as_slice(), payload]);
            let values: Vec<_> = values.map(Value::from).collect();
            conn.exec_drop(insert, values).await?;
        }
        Ok(())
    }

    /// Looks at no more than `limit` records that are due, and deletes those whose time has come by `cutoff`.
    pub(super) async fn sweep(
        &self,
        conn: &mut Conn,
        cutoff: i64,
        limit: usize,
    ) -> Result<Vec<Due>, Error> {
        conn.query_drop("START TRANSACTION").await?;
        let swept = async {
            let limit = u64::try_from(limit).unwrap_or(u64::MAX);
            let rows: Vec<Row> = conn
                .exec(self.due.as_str(), (cutoff, cutoff, limit))
                .await?;
            let due: Vec<_> = rows.into_iter().filter_map(due).collect();
            let (gone, later): (Vec<&Due>, Vec<&Due>) =
                due.iter().partition(|due| due.head.is_some());
            // By the primary key, or it would wait for whatever stands between.
            let table = &self.table;
            let delete =
                format!("DELETE r FROM {table} AS r FORCE INDEX (PRIMARY) WHERE r.`key` IN");
            each(conn, &delete, &gone).await?;
            let update = format!(
                "UPDATE {table} FORCE INDEX (PRIMARY) SET due = expires WHERE {IS_HEAD} AND `key` IN"
            );
            each(conn, &update, &later).await?;
            Ok(due)
        };
        let swept = swept.await;
        end(conn, swept, |due| !due.is_empty()).await
    }
}

/// Asks a statement that ends in a list of keys.
async fn each(conn: &mut Conn, statement: &str, all: &[&Due]) -> Result<(), Error> {
    for some in all.chunks(CHUNK) {
        let statement = format!("{statement} ({})", list("?", some.len()));
        let keys: Vec<Value> = some.iter().map(|due| due.key.as_slice().into()).collect();
        conn.exec_drop(statement, keys).await?;
    }
    Ok(())
}

/// Commits what was done if there is something, and takes it back otherwise: what an error leaves of a transaction depends
/// on the error.
async fn end<T>(
    conn: &mut Conn,
    done: Result<T, Error>,
    is_something: impl FnOnce(&T) -> bool,
) -> Result<T, Error> {
    let done = match done {
        Ok(done) if is_something(&done) => conn.query_drop("COMMIT").await.map(|()| done),
        Ok(done) => {
            conn.query_drop("ROLLBACK").await?;
            return Ok(done);
        }
        error => error,
    };
    if done.as_ref().is_err_and(|error| !error.is_fatal()) {
        conn.query_drop("ROLLBACK").await?;
    }
    done
}

fn due(mut row: Row) -> Option<Due> {
    Some(Due {
        key: row.take_opt(0)?.ok()?,
        head: row.take_opt(1)?.ok()?,
    })
}

fn list(item: &str, length: usize) -> String {
    vec![item; length].join(", ")
}
