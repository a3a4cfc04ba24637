//! The URL of a database, as apps and their hosts write it.

use std::str::FromStr;

use tokio_postgres::Config;
#[cfg(not(feature = "postgres-tls"))]
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::config::{Host, TargetSessionAttrs};

#[cfg(feature = "postgres-tls")]
use super::tls::{Check, Tls};
use crate::store::SetupError;

/// A database, and how it is reached.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) config: Config,
    #[cfg(feature = "postgres-tls")]
    pub(super) tls: Tls,
}

/// Reads a URL, or `key=value` pairs. An error quotes names that stand below, and no value.
pub(super) fn read(url: &str) -> Result<Database, SetupError> {
    for (name, value) in parameters(url) {
        if let Some(instead) = instead(name, value) {
            return Err(SetupError::parameter(name, instead));
        }
    }
    #[cfg(feature = "postgres-tls")]
    let (url, tls) = (&*without_tls(url), tls(url)?);
    // Its own error quotes what it takes for the host, and that may be a part of the password.
    let mut config = Config::from_str(url).map_err(|_| no_url())?;
    #[cfg(not(feature = "postgres-tls"))]
    if config.get_ssl_mode() == SslMode::Require
        || config.get_channel_binding() == ChannelBinding::Require
    {
        return Err(SetupError::new(
            "the URL asks for TLS, and `connect` makes connections without: turn on the feature `postgres-tls`, hand a pool with TLS to `PostgresOptions::pool`, or write `sslmode=disable` where the network can be trusted",
        ));
    }
    match config.get_hosts().len() {
        0 => return Err(no_url()),
        1 => {}
        // A standby would answer a load with what was. Where one was asked for, that is an error with the first swap.
        _ if config.get_target_session_attrs() == TargetSessionAttrs::Any => {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        _ => {}
    }
    Ok(Database {
        config,
        #[cfg(feature = "postgres-tls")]
        tls,
    })
}

fn no_url() -> SetupError {
    SetupError::new(
        "this is no URL of a PostgreSQL database: write `postgres://user:password@host/database`, with `%40` for an `@` in the password, and the like",
    )
}

/// Returns what a URL says of the server's certificate.
#[cfg(feature = "postgres-tls")]
fn tls(url: &str) -> Result<Tls, SetupError> {
    let value =
        |wanted| parameters(url).find_map(|(name, value)| (name == wanted).then_some(value));
    let mode = value("sslmode").unwrap_or("prefer");
    let (roots, is_file) = match value("sslrootcert") {
        None => (None, false),
        Some("system") if mode == "verify-full" => (None, false),
        Some("system") => return Err(SetupError::parameter("sslrootcert", FULL)),
        Some(path) => (Some(plain(path)?.into()), true),
    };
    let check = match mode {
        "verify-full" => Check::Name,
        "verify-ca" => Check::Authority,
        "require" if is_file => Check::Authority,
        _ if is_file => return Err(SetupError::parameter("sslrootcert", FULL)),
        _ => Check::Nothing,
    };
    Ok(Tls { check, roots })
}

/// Where authorities are named, they are to be asked.
#[cfg(feature = "postgres-tls")]
const FULL: &str = "it goes with `sslmode=verify-full`, which checks the server by it";

/// Returns a URL without what [`tls`] reads, as the driver knows it.
#[cfg(feature = "postgres-tls")]
fn without_tls(url: &str) -> String {
    let (server, query) = split(url);
    let known = query.split('&').filter_map(|pair| match pair {
        "sslmode=verify-ca" | "sslmode=verify-full" => Some("sslmode=require"),
        "" => None,
        pair => (!pair.starts_with("sslrootcert=")).then_some(pair),
    });
    let known: Vec<_> = known.collect();
    if known.is_empty() {
        return server.to_owned();
    }
    format!("{server}?{}", known.join("&"))
}

/// Returns a parameter's value as it was before it was encoded for the URL. The driver knows how.
#[cfg(feature = "postgres-tls")]
fn plain(value: &str) -> Result<String, SetupError> {
    let decoded = Config::from_str(&format!("postgres://host?application_name={value}"));
    let decoded = decoded.map_err(|_| no_url())?;
    Ok(decoded
        .get_application_name()
        .unwrap_or_default()
        .to_owned())
}

/// Returns where the server is, for logs: not who asks it.
pub(super) fn server(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let ports = config.get_ports();
    let at = |(n, host): (usize, String)| match ports.get(n).or(ports.first()) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let servers: Vec<_> = hosts.enumerate().map(at).collect();
    format!("at {}", servers.join(", "))
}

/// Splits a URL where its parameters begin: at a `?` that is no part of the password.
fn split(url: &str) -> (&str, &str) {
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let server = url.find('@').filter(|_| is_url).unwrap_or(0);
    match url[server..].find('?').filter(|_| is_url) {
        Some(at) => (&url[..server + at], &url[server + at + 1..]),
        None => (url, ""),
    }
}

/// Returns the parameters of a URL.
fn parameters(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let (_, query) = split(url);
    query.split('&').filter_map(|pair| pair.split_once('='))
}

/// Returns what to write instead of a parameter that PostgreSQL does not know, and others do.
fn instead(name: &str, value: &str) -> Option<&'static str> {
    const TLS: bool = cfg!(feature = "postgres-tls");
    const MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];
    Some(match name {
        "schema" | "currentSchema" | "search_path" => {
            "leave it out, and name the schema by `PostgresOptions::schema`"
        }
        "pgbouncer" | "statement_cache_size" | "statement-cache-capacity" | "prepareThreshold" => {
            "leave it out; behind a pooler that knows no prepared statements, set `PostgresOptions::prepare(false)`"
        }
        "connection_limit" | "pool_size" | "pool" | "max_connections" => {
            "leave it out, and limit connections by `PostgresOptions::pool_size`"
        }
        "pool_timeout" => "leave it out, and limit the wait by `PostgresOptions::wait`",
        "sslmode" if !MODES.contains(&value) => {
            "it is one of `disable`, `prefer`, `require`, `verify-ca` and `verify-full`"
        }
        "sslmode" if value.starts_with("verify-") && !TLS => WITHOUT,
        "sslrootcert" if !TLS => WITHOUT,
        "ssl" | "sslaccept" | "sslsni" if TLS => {
            "leave it out, and write `sslmode=verify-full` or another `sslmode`"
        }
        "sslcert" | "sslkey" | "sslcrl" | "sslpassword" | "sslidentity" if TLS => {
            "a client that has a certificate hands a pool with it to `PostgresOptions::pool`"
        }
        "ssl" | "sslaccept" | "sslsni" | "sslcert" | "sslkey" | "sslcrl" | "sslpassword"
        | "sslidentity" => WITHOUT,
        _ => return None,
    })
}

/// Says what to do about TLS without the feature.
const WITHOUT: &str = "it asks for TLS, and `connect` makes connections without: turn on the feature `postgres-tls`, or hand a pool with TLS to `PostgresOptions::pool`";

#[cfg(test)]
mod tests {
    use super::read;

    const TLS: bool = cfg!(feature = "postgres-tls");
    const SERVER: &str = "postgres://shop:secret@db.example.org:5432/shop";

    fn refusal(url: &str) -> String {
        let refused = read(url).expect_err(url);
        let said = format!("{refused} {refused:?}");
        assert!(!said.contains("secret"), "{said}");
        said
    }

    #[test]
    fn what_postgresql_knows_is_taken() {
        for parameters in [
            "",
            "?sslmode=disable",
            "?sslmode=prefer&connect_timeout=5",
            "?keepalives_idle=60&target_session_attrs=read-write",
            "?options=-c%20search_path%3Dshop",
        ] {
            drop(read(&format!("{SERVER}{parameters}")).expect(parameters));
        }
        drop(read("host=db user=shop password=a?b=c&schema=d").expect("pairs have no parameters"));
    }

    #[test]
    fn a_parameter_that_is_not_for_this_store_is_named_with_what_to_write() {
        for (parameters, named, instead) in [
            ("schema=shop", "`schema`", "PostgresOptions::schema"),
            (
                "a=b&currentSchema=shop",
                "`currentSchema`",
                "PostgresOptions::schema",
            ),
            ("pgbouncer=true", "`pgbouncer`", "prepare(false)"),
            (
                "statement_cache_size=0",
                "`statement_cache_size`",
                "prepare(false)",
            ),
            ("connection_limit=5", "`connection_limit`", "pool_size"),
            ("pool_timeout=5", "`pool_timeout`", "PostgresOptions::wait"),
            ("sslcert=/own.pem", "`sslcert`", "PostgresOptions::pool"),
            ("sslmode=allow", "`sslmode`", "`verify-full`"),
            (
                "ssl=true",
                "`ssl`",
                if TLS { "sslmode=" } else { "postgres-tls" },
            ),
        ] {
            let said = refusal(&format!("{SERVER}?{parameters}"));
            assert!(said.contains(named) && said.contains(instead), "{said}");
        }
    }

    #[cfg(not(feature = "postgres-tls"))]
    #[test]
    fn a_url_that_asks_for_tls_is_told_where_to_get_it() {
        for url in [
            &format!("{SERVER}?sslmode=require"),
            &format!("{SERVER}?sslmode=verify-full"),
            &format!("{SERVER}?sslrootcert=/ca.pem"),
            &format!("{SERVER}?channel_binding=require"),
            "host=db user=shop password=secret sslmode=require",
        ] {
            let said = refusal(url);
            assert!(
                said.contains("asks for TLS") && said.contains("the feature `postgres-tls`"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_question_mark_in_the_password_begins_no_parameters() {
        let database = read("postgres://shop:pa?schema=secret@db/shop").expect("it is a password");
        assert_eq!(
            database.config.get_password(),
            Some(&b"pa?schema=secret"[..])
        );
        assert!(refusal(&format!("{SERVER}?nobody_knows=secret")).contains("this is no URL"));
    }

    #[cfg(feature = "postgres-tls")]
    #[test]
    fn what_a_url_says_of_tls_means_what_it_means_to_postgresql() {
        use super::Check::{Authority, Name, Nothing};
        use super::Tls;
        use tokio_postgres::config::SslMode::{Disable, Prefer, Require};
        for (parameters, mode, check, roots) in [
            ("", Prefer, Nothing, ""),
            ("sslmode=disable", Disable, Nothing, ""),
            ("sslmode=require", Require, Nothing, ""),
            (
                "sslmode=require&channel_binding=require",
                Require,
                Nothing,
                "",
            ),
            (
                "sslrootcert=%2Fa%20b&sslmode=require",
                Require,
                Authority,
                "/a b",
            ),
            ("sslmode=verify-ca", Require, Authority, ""),
            ("sslmode=verify-full&sslrootcert=system", Require, Name, ""),
            (
                "keepalives=1&sslmode=verify-full&sslrootcert=/ca",
                Require,
                Name,
                "/ca",
            ),
        ] {
            let roots = (!roots.is_empty()).then(|| roots.into());
            let database = read(&format!("{SERVER}?{parameters}")).expect(parameters);
            assert_eq!(database.config.get_ssl_mode(), mode, "{parameters}");
            assert_eq!(database.tls, Tls { check, roots }, "{parameters}");
        }
        for parameters in [
            "sslrootcert=/ca.pem",
            "sslmode=prefer&sslrootcert=/ca.pem",
            "sslmode=require&sslrootcert=system",
        ] {
            let said = refusal(&format!("{SERVER}?{parameters}"));
            assert!(said.contains("`sslmode=verify-full`"), "{said}");
        }
    }
}
