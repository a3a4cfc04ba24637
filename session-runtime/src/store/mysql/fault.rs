//! What MySQL complains of, in this library's terms.

use std::error::Error as StdError;
use std::fmt;

use mysql_async::{DriverError, Error, IoError, ServerError, UrlError};

use crate::error::{Causes, StoreError, is_refusal};
use crate::store::tries::Fault;

/// A row has the key that a new one was to have.
pub(super) const DUPLICATE: u16 = 1062;

/// Returns `true` if what is asked for is not there.
pub(super) fn is_missing(error: &ServerError) -> bool {
    // A database, a table.
    matches!(error.code, 1049 | 1146)
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(refusal) => refused(&refusal),
            Error::Driver(DriverError::PoolDisconnected) => {
                Self::Other(StoreError::broken("the pool is disconnected"))
            }
            Error::Url(_) => Self::Other(StoreError::broken("the URL cannot be used")),
            // Its packets and rows are not quoted: there are keys in them.
            Error::Driver(DriverError::UnexpectedPacket { .. }) => {
                Self::Lost(StoreError::unavailable("an unexpected packet"))
            }
            error => Self::Lost(StoreError::unavailable(error.to_string())),
        }
    }
}

/// Reads what the server says no to.
fn refused(error: &ServerError) -> Fault {
    let ServerError { code, message, .. } = error;
    let text = match *code {
        // Its message quotes the key.
        DUPLICATE => format!("error {code}"),
        _ => format!("{message} (error {code})"),
    };
    let hinted = |hint: &str| Fault::Other(StoreError::broken(format!("{text}: {hint}")));
    match *code {
        // The record changed since the transaction began, a lock was waited for too long or never would be had, a
        // statement has to be prepared anew.
        1020 | 1205 | 1213 | 1615 => Fault::Undone(StoreError::contended(text)),
        1021 | 1114 => Fault::Other(StoreError::full(text)),
        // What the operating system says, as a number: that the disk is full.
        1030 if message.contains("error 28") => Fault::Other(StoreError::full(text)),
        1046 => hinted("name a database, in the URL or by `database`"),
        1049 | 1054 | 1146 => hinted(
            "call `MysqlStore::migrate`, or run the text of `schema_sql`, before the app serves",
        ),
        1044 | 1142 | 1143 | 1227 => hinted(
            "grant the app's user `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the tables, and `CREATE` for `migrate`",
        ),
        1153 => hinted("raise the server's `max_allowed_packet`"),
        // A server that is no longer the primary, that shuts down, that was told to end the connection or the statement,
        // that does not know the statement, or a node that has left its cluster.
        1047 | 1053 | 1243 | 1290 | 1317 | 1792 | 1836 | 1927 | 3169 | 4031 => {
            Fault::Lost(StoreError::unavailable(text))
        }
        _ if is_transient(*code) => Fault::Other(StoreError::unavailable(text)),
        _ => Fault::Other(StoreError::broken(text)),
    }
}

/// Returns `true` if the server may say otherwise before long.
fn is_transient(code: u16) -> bool {
    matches!(
        code,
        // Connections and memory: too many, too little.
        1037 | 1038 | 1040 | 1041 | 1203 | 1206 | 1226 | 1461
        // The network.
        | 1158
            ..=1161
        // Input and output, and a commit that failed.
        | 1026 | 1030 | 1180
        // A statement that took too long for an operator's liking.
        | 1028 | 1969 | 3024
    )
}

/// Says why there is no connection. Nothing was asked yet.
pub(super) fn unconnected(error: Error) -> Fault {
    if let Error::Io(IoError::Io(io)) = &error
        && is_refusal(io)
    {
        return Fault::Other(StoreError::refused(error.to_string()));
    }
    match Fault::from(error) {
        Fault::Lost(error) | Fault::Undone(error) | Fault::Other(error) => Fault::Other(error),
    }
}

/// Says why a [`MysqlStore`](super::MysqlStore) could not be set up. Its message says what to do, and never
/// quotes the URL.
///
/// ```
/// use session_runtime::store::MysqlStore;
///
/// let error = MysqlStore::connect("postgres://shop:secret@db/shop").unwrap_err();
/// assert!(!error.to_string().contains("secret"));
/// ```
pub struct MysqlError(Kind);

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
    Tls,
    Database,
    PoolSize,
    Migration(StoreError),
}

impl MysqlError {
    pub(super) fn name(what: &'static str, name: &str, longest: usize) -> Self {
        Self(Kind::Name {
            what,
            name: name.to_owned(),
            longest,
        })
    }

    /// Says why a URL cannot be used. It quotes names that stand below, and no value: either may be a part of the
    /// password.
    pub(super) fn url(error: UrlError) -> Self {
        match error {
            UrlError::FeatureRequired { .. } => Self::tls(),
            UrlError::UnknownParameter { param } => match instead(&param) {
                Some(instead) => Self(Kind::Parameter {
                    name: param,
                    instead,
                }),
                None if param.starts_with("ssl") => Self::tls(),
                None => Self::no_url(),
            },
            _ => Self::no_url(),
        }
    }

    pub(super) fn tls() -> Self {
        Self(Kind::Tls)
    }

    pub(super) fn no_url() -> Self {
        Self(Kind::Url)
    }

    pub(super) fn database() -> Self {
        Self(Kind::Database)
    }

    pub(super) fn pool_size() -> Self {
        Self(Kind::PoolSize)
    }

    pub(super) fn migration(fault: Fault) -> Self {
        Self(Kind::Migration(fault.into()))
    }
}

/// Returns what to write instead of a parameter that only others know.
fn instead(name: &str) -> Option<&'static str> {
    Some(match name {
        "charset" | "collation" | "characterEncoding" | "useUnicode" | "timezone"
        | "serverTimezone" | "parseTime" | "loc" => {
            "leave it out: keys and values are bytes, and times are numbers"
        }
        "connection_limit" | "connectionLimit" | "pool_size" | "max_connections" => {
            "leave it out, and limit connections by `MysqlOptions::pool_size`"
        }
        "pool_timeout" | "connect_timeout" | "timeout" => {
            "leave it out, and limit the wait by `MysqlOptions::wait`"
        }
        _ => return None,
    })
}

impl fmt::Display for MysqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Name { what, name, longest } => write!(
                f,
                "`{name}` cannot be the name of a {what}: use 1 to {longest} letters, digits, `_` and `-`"
            ),
            Kind::Url => f.write_str(
                "this is no URL of a MySQL or MariaDB database: write `mysql://user:password@host/database`, for MariaDB too, with `%40` for an `@` in the password, and the like",
            ),
            Kind::Parameter { name, instead } => {
                write!(f, "the URL has a parameter `{name}`: {instead}")
            }
            Kind::Tls => f.write_str(
                "the URL asks for TLS, and `connect` makes connections without: depend on `mysql_async` with its feature `rustls-tls-ring` or `native-tls-tls`, and hand a pool with TLS to `MysqlOptions::pool`",
            ),
            Kind::Database => f.write_str(
                "no database is named: write `mysql://host/database`, or call `MysqlOptions::database`",
            ),
            Kind::PoolSize => f.write_str("a pool of no connections serves nobody: set `pool_size`"),
            Kind::Migration(_) => f.write_str("the tables could not be made or brought up to date"),
        }
    }
}

impl fmt::Debug for MysqlError {
    /// As `Display`, and what it came from: a `main` that returns it shows this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Causes(self))
    }
}

impl StdError for MysqlError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Kind::Migration(error) => Some(error),
            _ => None,
        }
    }
}
