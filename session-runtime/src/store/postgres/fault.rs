//! What PostgreSQL complains of, in this library's terms.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::Error as PgError;
use tokio_postgres::error::{DbError, SqlState};

use crate::error::{Causes, StoreError, is_refusal};
use crate::store::tries::Fault;

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
    // Connections, resources, an operator's doings, and the system's.
    const CLASSES: [&str; 4] = ["08", "53", "57", "58"];
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
        PoolError::Backend(error) => match Fault::from(error) {
            Fault::Lost(error) | Fault::Undone(error) | Fault::Other(error) => Fault::Other(error),
        },
        PoolError::Timeout(TimeoutType::Wait) => Fault::Other(StoreError::contended(format!(
            "all connections were in use for {wait:?}: raise `pool_size`, or see what holds up the server"
        ))),
        PoolError::Timeout(_) => unavailable(format!(
            "the server did not answer a new connection within {wait:?}: see whether it can be reached"
        )),
        PoolError::NoRuntimeSpecified => Fault::Other(StoreError::broken(
            "the pool cannot measure time: build it with `Runtime::Tokio1`",
        )),
        error => Fault::Other(StoreError::broken(error.to_string())),
    }
}

/// Says why a [`PostgresStore`](super::PostgresStore) could not be set up. Its message says what to do, and never
/// quotes the URL.
///
/// ```
/// use session_runtime::store::PostgresStore;
///
/// let error = PostgresStore::connect("mysql://shop:secret@db/shop").unwrap_err();
/// assert!(!error.to_string().contains("secret"));
/// ```
pub struct PostgresError(Kind);

enum Kind {
    Name {
        what: &'static str,
        name: String,
        longest: usize,
    },
    Url,
    Parameter {
        name: String,
        instead: &'static str,
    },
    #[cfg(not(feature = "postgres-tls"))]
    Tls,
    #[cfg(feature = "postgres-tls")]
    Authorities(String),
    Pool(String),
    Migration(StoreError),
}

impl PostgresError {
    pub(super) fn name(what: &'static str, name: &str, longest: usize) -> Self {
        Self(Kind::Name {
            what,
            name: name.to_owned(),
            longest,
        })
    }

    pub(super) fn url() -> Self {
        Self(Kind::Url)
    }

    pub(super) fn parameter(name: &str, instead: &'static str) -> Self {
        let name = name.to_owned();
        Self(Kind::Parameter { name, instead })
    }

    #[cfg(not(feature = "postgres-tls"))]
    pub(super) fn tls() -> Self {
        Self(Kind::Tls)
    }

    #[cfg(feature = "postgres-tls")]
    pub(super) fn authorities(why: impl fmt::Display) -> Self {
        Self(Kind::Authorities(why.to_string()))
    }

    pub(super) fn pool(error: impl fmt::Display) -> Self {
        Self(Kind::Pool(error.to_string()))
    }

    pub(super) fn migration(fault: Fault) -> Self {
        Self(Kind::Migration(fault.into()))
    }
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Name { what, name, longest } => write!(
                f,
                "`{name}` cannot be the name of a {what}: use 1 to {longest} letters, digits, `_` and `-`"
            ),
            Kind::Url => f.write_str(
                "this is no URL of a PostgreSQL database: write `postgres://user:password@host/database`, with `%40` for an `@` in the password, and the like",
            ),
            Kind::Parameter { name, instead } => {
                write!(f, "the URL has a parameter `{name}`: {instead}")
            }
            #[cfg(not(feature = "postgres-tls"))]
            Kind::Tls => f.write_str(
                "the URL asks for TLS, and `connect` makes connections without: turn on the feature `postgres-tls`, hand a pool with TLS to `PostgresOptions::pool`, or write `sslmode=disable` where the network can be trusted",
            ),
            #[cfg(feature = "postgres-tls")]
            Kind::Authorities(why) => write!(
                f,
                "the certificates of the authorities that the URL goes by cannot be read: {why}"
            ),
            Kind::Pool(why) => write!(f, "the pool of connections cannot be made: {why}"),
            Kind::Migration(_) => f.write_str("the tables could not be made or brought up to date"),
        }
    }
}

impl fmt::Debug for PostgresError {
    /// As `Display`, and what it came from: a `main` that returns it shows this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Causes(self))
    }
}

impl StdError for PostgresError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Kind::Migration(error) => Some(error),
            _ => None,
        }
    }
}
