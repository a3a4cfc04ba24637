//! What PostgreSQL complains of, in this library's terms.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::Error as PgError;
use tokio_postgres::error::{DbError, SqlState};

use crate::store::StoreError;
use crate::store::tries::{Fault, is_refusal};

impl From<PgError> for Fault {
    fn from(error: PgError) -> Self {
        match error.as_db_error() {
            Some(refusal) => refused(refusal),
            None => Self::Lost(StoreError::unavailable(cause(&error))),
        }
    }
}

/// Reads what the server says no to. Its detail and context are left out: they may quote keys.
fn refused(error: &DbError) -> Fault {
    let code = error.code();
    let text = format!("{} (SQLSTATE {})", error.message(), code.code());
    let hinted = |hint: &str| Fault::Other(StoreError::broken(format!("{text}: {hint}")));
    match *code {
        SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::LOCK_NOT_AVAILABLE => Fault::Undone(StoreError::contended(text)),
        SqlState::DISK_FULL => Fault::Other(StoreError::full(text)),
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN | SqlState::INVALID_SCHEMA_NAME => {
            hinted(
                "call `PostgresStore::migrate`, or run the text of `schema_sql`, before the app serves",
            )
        }
        SqlState::INSUFFICIENT_PRIVILEGE => hinted(
            "grant the app's role the use of the schema, and of what `schema_sql` makes in it",
        ),
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => hinted(
            "between app and server is a pooler that knows no prepared statements: set `prepare(false)`",
        ),
        // A plan made before the tables were changed; a server that is no longer the primary.
        SqlState::FEATURE_NOT_SUPPORTED | SqlState::READ_ONLY_SQL_TRANSACTION => {
            Fault::Lost(StoreError::unavailable(text))
        }
        _ if is_transient(code) => Fault::Other(StoreError::unavailable(text)),
        _ => Fault::Other(StoreError::broken(text)),
    }
}

/// Returns `true` if the server may say otherwise before long.
fn is_transient(code: &SqlState) -> bool {
    // Connections, what the server itself does not know the outcome of, resources, an operator's doings, and the system's.
    const CLASSES: [&str; 5] = ["08", "40003", "53", "57", "58"];
    CLASSES.iter().any(|class| code.code().starts_with(class))
}

/// Returns `true` if nobody listens there, at the address or socket.
fn is_refused(error: &PgError) -> bool {
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(is_refusal)
}

/// Joins an error's text and that of what it came from. None of them has the password.
fn cause(error: &PgError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Says why the pool has no connection to give, after `wait`. Nothing was asked yet.
pub(super) fn unconnected(error: PoolError, wait: Duration) -> Fault {
    let unavailable = |text: String| Fault::Other(StoreError::unavailable(text));
    match error {
        PoolError::Backend(error) if is_refused(&error) => {
            Fault::Other(StoreError::refused(cause(&error)))
        }
        PoolError::Backend(error) => Fault::from(error).before_asking(),
        PoolError::Timeout(TimeoutType::Wait) => Fault::all_in_use(wait),
        PoolError::Timeout(_) => unavailable(format!(
            "the server did not answer a new connection within {wait:?}: see whether it can be reached"
        )),
        PoolError::NoRuntimeSpecified => Fault::Other(StoreError::broken(
            "the pool cannot measure time: build it with `Runtime::Tokio1`",
        )),
        error => Fault::Other(StoreError::broken(error.to_string())),
    }
}
