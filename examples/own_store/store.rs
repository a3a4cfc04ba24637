//! The store: a table, and an update that compares the version.
//!
//! Copy it, and put your database in the place of SQLite: whatever has a conditional write will do. A store never
//! decides anything but whether the version that is there is the one it was given.

use std::sync::Arc;

use rusqlite::{Connection, Error, ErrorCode, OptionalExtension};
use session_runtime::store::{Record, Scanned, Store, StoreError, Swapped, SweepGuard, Swept};
use session_runtime::{Clock, Key, Timestamp};
use tokio::sync::Mutex;

const TABLE: &str = include_str!("table.sql");
const LOAD: &str = "SELECT record FROM sessions WHERE key = ?1";
const CREATE: &str = "INSERT INTO sessions VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
const SWAP: &str = "UPDATE sessions SET version = ?2, expires = ?3, record = ?4
    WHERE key = ?1 AND version = ?5";
const SCAN: &str =
    "SELECT key FROM sessions WHERE key > ?1 AND key GLOB 'session:*' ORDER BY key LIMIT ?2";
const SWEEP: &str = "DELETE FROM sessions WHERE key IN
    (SELECT key FROM sessions WHERE expires <= ?1 LIMIT ?2) RETURNING key, record";

/// Keeps each record in a row.
///
/// It blocks its thread while SQLite works. Where that is long, on a slow disk say, put the calls into
/// `tokio::task::spawn_blocking`; where the database is elsewhere, await its client.
pub(crate) struct OwnStore {
    connection: Mutex<Connection>,
    guard: SweepGuard,
}

impl OwnStore {
    /// Makes the table if it is not there. The store sweeps by `clock`.
    pub(crate) fn new(connection: Connection, clock: impl Clock) -> Result<Self, Error> {
        connection.execute_batch(TABLE)?;
        let (connection, guard) = (Mutex::new(connection), SweepGuard::new(clock));
        Ok(Self { connection, guard })
    }
}

impl Store for OwnStore {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let connection = self.connection.lock().await;
        let row = connection.query_row(LOAD, [key.to_string()], |row| row.get::<_, Vec<u8>>(0));
        let bytes = row.optional().map_err(failed)?;
        let record = bytes.map(|bytes| Record::from_bytes(&bytes.into()));
        Ok(record.transpose()?.map(Arc::new))
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        // A record carries the app's time, which sweeping has to agree with.
        self.guard.observe_swap(before.map(AsRef::as_ref), after);
        let (name, version) = (key.to_string(), after.version().to_bytes());
        let (expires, record) = (after.expires().as_millis(), after.to_bytes());
        let connection = self.connection.lock().await;
        let written = match before.map(|before| before.version().to_bytes()) {
            None => connection.execute(CREATE, (name, version, expires, record)),
            Some(before) => connection.execute(SWAP, (name, version, expires, record, before)),
        };
        drop(connection);
        match written.map_err(failed)? {
            // By a statement of its own, which sees what kept the other from writing.
            0 => Ok(Swapped::Stale(self.load(key).await?)),
            _ => Ok(Swapped::Done),
        }
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        let (after, limit) = (Scanned::begins_after(after)?, limit.max(1));
        let count = i64::try_from(limit).unwrap_or(i64::MAX);
        let connection = self.connection.lock().await;
        let mut scan = connection.prepare(SCAN).map_err(failed)?;
        let keys = scan.query_map((after, count), |row| row.get::<_, String>(0));
        let keys = keys.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        Ok(Scanned::ordered(keys.map_err(failed)?, limit))
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        // While the clocks cannot be trusted there is no time to go by: nothing is before `NULL`.
        let expired = self.guard.cutoff().map(Timestamp::as_millis);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let connection = self.connection.lock().await;
        let mut sweep = connection.prepare(SWEEP).map_err(failed)?;
        let mut rows = sweep.query((expired, limit)).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let (key, record) = <(String, Vec<u8>)>::try_from(row).map_err(failed)?;
            let key = Key::parse(&key).ok_or_else(|| StoreError::broken("a key of nobody's"))?;
            swept.add(key, &Record::from_bytes(&record.into())?);
        }
        Ok(swept)
    }
}

/// Says whether it is known that nothing was written, and whether asking again may help.
fn failed(error: Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => StoreError::contended(error),
        // Maybe amid a commit: nobody knows whether it counts, and the same swap is asked again.
        Some(ErrorCode::SystemIoFailure) => StoreError::unavailable(error),
        _ => StoreError::broken(error),
    }
}
