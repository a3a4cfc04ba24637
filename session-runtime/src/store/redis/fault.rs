//! What Redis complains of, in this library's terms.

use std::error::Error as StdError;
use std::fmt;

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use crate::store::{SetupError, StoreError};

/// What is wrong where a key holds something else than a record.
pub(super) const FOREIGN_KEY: &str =
    "a key of another program is in the way: set another prefix with `RedisOptions::prefix`";

/// Why a command has no answer that could be used.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The server, or the way to it, says so.
    Redis(RedisError),
    /// Nobody listens there: nothing was sent.
    Refused(RedisError),
    /// Nobody has answered in time.
    TimedOut,
    /// No sentinel has named a primary: nothing was sent.
    Unnamed(Unnamed),
    /// What the sentinels call the primary is a replica: nothing was sent.
    Demoted,
}

/// Says why no sentinel has named a server.
#[derive(Clone, Debug)]
pub(super) enum Unnamed {
    /// None answers. What one of them failed with.
    Away(RedisError),
    /// None lets this client in.
    Denied(RedisError),
    /// No service is called so.
    Unknown,
}

impl Unnamed {
    pub(super) fn of(error: RedisError) -> Self {
        if is_denied(&error) {
            Self::Denied(error)
        } else {
            Self::Away(error)
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl Failure {
    /// Tells apart what was never sent. Not of a Cluster, which may have sent it to another node before.
    pub(super) fn of_server(self) -> Self {
        match self {
            Self::Redis(error) if error.is_connection_refusal() => Self::Refused(error),
            other => other,
        }
    }

    /// The server has not been told the script.
    pub(super) fn is_no_script(&self) -> bool {
        matches!(self, Self::Redis(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
    }

    /// This connection will not do, however long one waits: nobody answers, or the server is no primary, or the
    /// connection was refused as it was made, which the manager takes for final.
    pub(super) fn leads_nowhere(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Refused(_) | Self::Unnamed(_) | Self::Demoted => false,
            Self::Redis(error) if error.is_io_error() => false,
            Self::Redis(error) => error.code().is_none_or(|code| {
                ["ERR", "READONLY", "NOAUTH", "NOPERM", "WRONGPASS"].contains(&code)
            }),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TimedOut => Self::timeout(),
            Failure::Refused(error) => Self::refused(error),
            Failure::Redis(error) => store_error(error),
            Failure::Unnamed(Unnamed::Away(error)) => Self::refused(Fault {
                hint: Some("no sentinel answers"),
                error,
            }),
            Failure::Unnamed(Unnamed::Denied(error)) => Self::broken(Fault {
                hint: Some(
                    "the sentinels do not accept `sentinel_username` and `sentinel_password` in the URL",
                ),
                error,
            }),
            Failure::Unnamed(Unnamed::Unknown) => {
                Self::unavailable("the sentinels know no service of that name")
            }
            Failure::Demoted => {
                Self::unavailable("what the sentinels call the primary is a replica")
            }
        }
    }
}

/// Tells what the server calls an error from an answer. Within one there are none.
pub(super) async fn extracted(
    answer: impl Future<Output = RedisResult<Value>>,
) -> RedisResult<Value> {
    match answer.await? {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

fn store_error(error: RedisError) -> StoreError {
    let Some(code) = error.code().map(str::to_owned) else {
        return match error.kind() {
            ErrorKind::AuthenticationFailed => StoreError::broken(Fault {
                hint: hint("WRONGPASS"),
                error,
            }),
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound | ErrorKind::Parse => {
                StoreError::unavailable(error)
            }
            _ => StoreError::broken(error),
        };
    };
    let fault = Fault {
        hint: hint(&code),
        error,
    };
    match code.as_str() {
        "OOM" => StoreError::full(fault),
        code if PASSING.contains(&code) => StoreError::unavailable(fault),
        _ => StoreError::broken(fault),
    }
}

/// States that pass, of a server, a primary or a Cluster. Nothing has been done.
const PASSING: [&str; 10] = [
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "ASK",
    "MOVED",
    "BUSY",
    "NOREPLICAS",
    "MISCONF",
];

/// Says what to do about an error of that code, where that can be said.
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "OOM" => "Redis is full: raise its `maxmemory`, or let it evict with `volatile-lru`",
        "MISCONF" => "Redis cannot save to its disk and refuses writes: see its log",
        "NOAUTH" | "WRONGPASS" => "Redis does not accept the name and password in the URL",
        "NOPERM" => {
            "the user in the URL may not do this: see the ACL in `docs/stores.md`, and its keys"
        }
        "WRONGTYPE" => FOREIGN_KEY,
        "MOVED" => {
            "another node of the Cluster has it: use `connect_cluster` (feature `redis-cluster`)"
        }
        _ => return None,
    })
}

/// A fault that Redis tells of, and what to do about it.
#[derive(Debug)]
struct Fault {
    hint: Option<&'static str>,
    error: RedisError,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hint.unwrap_or("Redis answers an error"))
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// Says why a URL cannot be used, which is to be like `form`. Does not keep the cause: it may quote the URL.
pub(super) fn no_url(error: &RedisError, form: &'static str) -> SetupError {
    SetupError::new(if error.to_string().contains("TLS") {
        "the URL asks for TLS: turn on the feature `redis-tls` of `session-runtime`"
    } else {
        form
    })
}

pub(super) const SERVER_URL: &str =
    "this is no URL of a Redis server: write `redis://user:password@host:6379/0`";

pub(super) const SENTINEL_URL: &str = "this is no URL of Redis sentinels: write `redis+sentinel://user:password@host:26379,host:26379/service/0`";

/// Says why the store cannot be connected: `server` is where.
pub(super) fn unconnected(server: &str, failure: Failure) -> SetupError {
    let at = format!("the Redis server at {server}");
    match failure {
        Failure::Redis(error) | Failure::Refused(error) => {
            SetupError::new(answered(&at, &error)).because(error)
        }
        Failure::TimedOut => SetupError::new(silent(&at)),
        Failure::Unnamed(Unnamed::Away(error)) => SetupError::new(format!(
            "cannot ask for the primary of {server}: check that the sentinels run and listen there"
        ))
        .because(error),
        Failure::Unnamed(Unnamed::Denied(error)) => SetupError::new(format!(
            "cannot ask for the primary of {server}: they deny access; check `sentinel_username` and `sentinel_password` behind the `?` of the URL, and the user's ACL"
        ))
        .because(error),
        Failure::Unnamed(Unnamed::Unknown) => SetupError::new(format!(
            "no service is called {server}: write the name that stands behind `sentinel monitor` in their configuration"
        )),
        Failure::Demoted => SetupError::new(format!(
            "{at} is a replica: a failover may be under way, so try again"
        )),
    }
}

/// Returns `true` if the server does not let this client in, or do this.
fn is_denied(error: &RedisError) -> bool {
    let denied = ["NOAUTH", "WRONGPASS", "NOPERM"];
    error.kind() == ErrorKind::AuthenticationFailed
        || error.code().is_some_and(|code| denied.contains(&code))
}

/// Says what the error means that the server `at` some place, or the way to it, has answered.
fn answered(at: &str, error: &RedisError) -> String {
    let cause = error.to_string();
    match error.kind() {
        _ if is_denied(error) => format!(
            "{at} denies access: check the name and password in the URL, and the user's ACL"
        ),
        _ if error.is_timeout() => silent(at),
        // What comes of TLS, as rustls has it.
        ErrorKind::Io if cause.contains("invalid peer certificate") => format!(
            "the certificate of {at} is not trusted: check that it is for this host, and hand whoever signs it to `RedisOptions::certificates`"
        ),
        ErrorKind::Io if cause.contains("CertificateRequired") => format!(
            "{at} asks for a certificate of this client's: hand it to `RedisOptions::certificates`, or set `tls-auth-clients no` there"
        ),
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => {
            format!("cannot connect to {at}: check that it runs and listens there")
        }
        ErrorKind::RESP3NotSupported => too_old(at),
        _ if error.code().is_some_and(|code| PASSING.contains(&code)) => {
            format!("{at} is not ready: it may have just started, so try again")
        }
        // What a server that does not know `#!lua` says of it.
        _ if cause.contains("compiling script") => too_old(at),
        _ => format!("{at} is of no use here"),
    }
}

fn silent(at: &str) -> String {
    format!("{at} does not answer: check that it runs and that no firewall is in between")
}

fn too_old(at: &str) -> String {
    format!("{at} is too old: 7.0 or later is needed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_still_reads_its_data_is_said_not_to_be_ready() {
        let loading = ErrorKind::Server(ServerErrorKind::BusyLoading);
        let error = RedisError::from((loading, "Redis is loading the dataset in memory"));
        let said = answered("the server", &error);
        assert!(said.starts_with("the server is not ready"), "{said}");
    }
}
