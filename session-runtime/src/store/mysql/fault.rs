//! What MySQL complains of, in this library's terms.

use mysql_async::{DriverError, Error, IoError, ServerError, UrlError};

use crate::store::tries::{Fault, is_refusal};
use crate::store::{SetupError, StoreError};

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
            error => {
                let text = error.to_string();
                // The client has not sent it. What was written before it goes with the connection.
                Self::Lost(if text.contains("larger than max_allowed_packet") {
                    StoreError::broken(format!("{text}: {PACKET}"))
                } else {
                    StoreError::unavailable(text)
                })
            }
        }
    }
}

const PACKET: &str = "raise the server's `max_allowed_packet`";

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
        // The record changed since the transaction began, or on another node of a group; a lock was waited for too long or
        // never would be had; a statement has to be prepared anew.
        1020 | 1205 | 1213 | 1615 | 3101 => Fault::Undone(StoreError::contended(text)),
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
        // MariaDB says the first to who comes without TLS and should not, too.
        1045 | 3159 => hinted(
            "see that the name and password in the URL are right, and put `?ssl-mode=VERIFY_IDENTITY` behind it (feature `mysql-tls`) where the server lets in only who comes over TLS",
        ),
        1153 => hinted(PACKET),
        1665 => hinted("set `binlog_format` to `ROW` or `MIXED` on the server"),
        // A server that is no longer the primary, that shuts down, that was told to end the connection or the statement,
        // that does not know the statement, or a node that has left its cluster or group.
        1047 | 1053 | 1243 | 1290 | 1317 | 1792 | 1836 | 1927 | 3100 | 3169 | 4031 => {
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
    Fault::from(error).before_asking()
}

/// Says why a URL cannot be used. It quotes names that stand below, and no value: either may be a part of the
/// password.
pub(super) fn url(error: UrlError) -> SetupError {
    match error {
        #[cfg(not(feature = "mysql-tls"))]
        UrlError::FeatureRequired { .. } => tls(),
        UrlError::UnknownParameter { param } => match instead(&param) {
            Some(instead) => SetupError::parameter(&param, instead),
            #[cfg(not(feature = "mysql-tls"))]
            None if param.starts_with("ssl") || param == "useSSL" || param == "tls" => tls(),
            None => no_url(),
        },
        _ => no_url(),
    }
}

pub(super) fn no_url() -> SetupError {
    SetupError::new(
        "this is no URL of a MySQL or MariaDB database: write `mysql://user:password@host/database`, for MariaDB too, with `%40` for an `@` in the password, and the like",
    )
}

#[cfg(not(feature = "mysql-tls"))]
pub(super) fn tls() -> SetupError {
    SetupError::new(
        "the URL asks for TLS, and `connect` makes connections without: turn on the feature `mysql-tls`, or hand a pool with TLS to `MysqlOptions::pool`",
    )
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
        "ssl" | "sslmode" | "ssl_mode" | "sslMode" | "sslaccept" | "useSSL" | "tls"
            if cfg!(feature = "mysql-tls") =>
        {
            "leave it out, and write `ssl-mode=VERIFY_IDENTITY` or another `ssl-mode`"
        }
        "sslca" | "ssl_ca" | "sslrootcert" if cfg!(feature = "mysql-tls") => {
            "write `ssl-ca=` and the file's path"
        }
        "ssl-cert" | "ssl-key" | "sslcert" | "sslkey" if cfg!(feature = "mysql-tls") => {
            "a client that has a certificate hands a pool with it to `MysqlOptions::pool`"
        }
        _ => return None,
    })
}

#[cfg(all(test, not(feature = "mysql-tls")))]
mod tests {
    use crate::store::MysqlStore;

    #[test]
    fn a_url_that_asks_for_tls_is_told_where_to_get_it() {
        for parameter in [
            "require_ssl=true",
            "ssl-mode=REQUIRED",
            "ssl-ca=/ca.pem",
            "useSSL=true",
            "tls=true",
        ] {
            let url = format!("mysql://shop:secret@db/shop?{parameter}");
            let said = MysqlStore::connect(&url).expect_err("no TLS").to_string();
            assert!(said.contains("the feature `mysql-tls`"), "{said}");
        }
    }
}
