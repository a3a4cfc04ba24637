//! The app's own table of users, with two columns for what follows each of them: a record, and its version.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use session_runtime::UserId;
use session_runtime::store::{StoreError, UserStore, Version};

/// The table, behind a connection that its calls take turns with.
#[derive(Clone, Debug)]
pub(crate) struct Members(Arc<Mutex<Connection>>);

impl Members {
    /// Opens the file, and creates the table if it is not there.
    pub(crate) fn open(path: impl AsRef<Path>) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE IF NOT EXISTS members (
                 name TEXT PRIMARY KEY,
                 session BLOB,
                 session_version BLOB
             ) STRICT;",
        )?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Makes somebody a member. `false` if they are one.
    pub(crate) async fn join(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.call(move |connection| {
            let insert = "INSERT OR IGNORE INTO members (name) VALUES (?1)";
            Ok(connection.execute(insert, [name])? == 1)
        })
        .await
    }

    /// Strikes a member off, and what follows them.
    pub(crate) async fn leave(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.call(move |connection| {
            Ok(connection.execute("DELETE FROM members WHERE name = ?1", [name])? == 1)
        })
        .await
    }

    /// Calls SQLite where it may block.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.0);
        let called = tokio::task::spawn_blocking(move || {
            let connection = connection
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            call(&connection)
        });
        let called = called.await.map_err(StoreError::unavailable)?;
        called.map_err(|error| match error.sqlite_error_code() {
            // Another process was writing all the while, and this has not.
            Some(ErrorCode::DatabaseBusy) => StoreError::contended(error),
            _ => StoreError::unavailable(error),
        })
    }
}

impl UserStore for Members {
    async fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
        let name = user.as_str().to_owned();
        self.call(move |connection| {
            let select = "SELECT session FROM members WHERE name = ?1";
            let column = connection.query_row(select, [name], |row| row.get(0));
            Ok(column.optional()?.flatten())
        })
        .await
    }

    async fn replace(
        &self,
        user: &UserId,
        before: Option<Version>,
        after: Version,
        record: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let name = user.as_str().to_owned();
        let (before, after) = (before.map(Version::to_bytes), after.to_bytes());
        self.call(move |connection| {
            let update = "UPDATE members SET session = ?2, session_version = ?3
                          WHERE name = ?1 AND session_version IS ?4";
            Ok(connection.execute(update, params![name, record, after, before])? == 1)
        })
        .await
    }
}
