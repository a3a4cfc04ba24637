//! The URL of a database, as apps and their hosts write it.

use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode};

use super::fault::PostgresError;

/// Reads a URL, or `key=value` pairs. An error quotes names that stand below, and no value.
pub(super) fn read(url: &str) -> Result<Config, PostgresError> {
    for (name, value) in parameters(url) {
        if let Some(instead) = instead(name) {
            return Err(PostgresError::parameter(name, instead));
        }
        if name == "sslmode" && value.starts_with("verify-") {
            return Err(PostgresError::tls());
        }
    }
    // Its own error quotes what it takes for the host, and that may be a part of the password.
    let config = Config::from_str(url).map_err(|_| PostgresError::url())?;
    if config.get_ssl_mode() == SslMode::Require
        || config.get_channel_binding() == ChannelBinding::Require
    {
        return Err(PostgresError::tls());
    }
    if config.get_hosts().is_empty() {
        return Err(PostgresError::url());
    }
    Ok(config)
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

/// Returns the parameters of a URL: what is behind a `?` that is no part of the password.
fn parameters(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let server = url.split_once('@').map_or(url, |(_, server)| server);
    let query = server.split_once('?').filter(|_| is_url);
    let (_, query) = query.unwrap_or_default();
    query.split('&').filter_map(|pair| pair.split_once('='))
}

/// Returns what to write instead of a parameter that PostgreSQL does not know, and others do.
fn instead(name: &str) -> Option<&'static str> {
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
        "ssl" | "sslrootcert" | "sslcert" | "sslkey" | "sslcrl" | "sslpassword" | "sslsni"
        | "sslaccept" | "sslidentity" => {
            "`connect` makes connections without TLS: hand a pool with TLS to `PostgresOptions::pool`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::read;

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
            read(&format!("{SERVER}{parameters}")).expect(parameters);
        }
        read("host=db user=shop password=a?b=c&schema=d").expect("pairs have no parameters");
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
            (
                "sslrootcert=/ca.pem",
                "`sslrootcert`",
                "PostgresOptions::pool",
            ),
        ] {
            let said = refusal(&format!("{SERVER}?{parameters}"));
            assert!(said.contains(named) && said.contains(instead), "{said}");
        }
    }

    #[test]
    fn a_url_that_asks_for_tls_is_told_where_to_get_it() {
        for url in [
            &format!("{SERVER}?sslmode=require"),
            &format!("{SERVER}?sslmode=verify-full"),
            &format!("{SERVER}?channel_binding=require"),
            "host=db user=shop password=secret sslmode=require",
        ] {
            let said = refusal(url);
            assert!(
                said.contains("asks for TLS") && said.contains("PostgresOptions::pool"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_question_mark_in_the_password_begins_no_parameters() {
        let config = read("postgres://shop:pa?schema=secret@db/shop").expect("it is a password");
        assert_eq!(config.get_password(), Some(&b"pa?schema=secret"[..]));
        assert!(refusal(&format!("{SERVER}?nobody_knows=secret")).contains("this is no URL"));
    }
}
