//! Reads the TLS of a URL, in the words of MySQL's own client
//! ([6.3.1](https://dev.mysql.com/doc/refman/8.4/en/using-encrypted-connections.html)).

use std::fs;

use mysql_async::{Opts, OptsBuilder, SslOpts};
use rustls::crypto::ring;

use crate::store::SetupError;

/// Tells what a URL says of TLS from the rest, which is the driver's to read.
pub(super) fn read(url: &str) -> Result<(String, Option<SslOpts>), SetupError> {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut authorities, mut others) = (None, None, Vec::new());
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("ssl-mode", value)) => mode = Some(value.to_ascii_uppercase()),
            Some(("ssl-ca", value)) => authorities = Some(read_authorities(value)?),
            _ => others.push(pair),
        }
    }
    Ok((
        format!("{server}?{}", others.join("&")),
        options(mode.as_deref(), authorities)?,
    ))
}

/// Has connections encrypted by `ssl`, or as the driver has read it from the URL.
pub(super) fn encrypted(opts: Opts, ssl: Option<SslOpts>) -> Opts {
    let ssl = ssl.or_else(|| opts.ssl_opts().cloned());
    if ssl.is_some() {
        // What the app has chosen stays.
        drop(ring::default_provider().install_default());
    }
    OptsBuilder::from_opts(opts).ssl_opts(ssl).into()
}

fn options(mode: Option<&str>, pem: Option<Vec<u8>>) -> Result<Option<SslOpts>, SetupError> {
    let options = SslOpts::default();
    Ok(match (mode, pem) {
        (Some("VERIFY_IDENTITY"), None) => Some(options),
        (Some("VERIFY_IDENTITY"), Some(pem)) => {
            let options = options.with_root_certs(vec![pem.into()]);
            Some(options.with_disable_built_in_roots(true))
        }
        (_, Some(_)) => {
            let instead = "it goes with `ssl-mode=VERIFY_IDENTITY`, which checks the server by it";
            return Err(SetupError::parameter("ssl-ca", instead));
        }
        (Some("REQUIRED"), None) => Some(options.with_danger_accept_invalid_certs(true)),
        (Some("DISABLED") | None, None) => None,
        // The driver checks the name whenever it checks the authority, also when it is told otherwise.
        (Some(_), None) => {
            let instead = "it is one of `DISABLED`, `REQUIRED` and `VERIFY_IDENTITY`";
            return Err(SetupError::parameter("ssl-mode", instead));
        }
    })
}

/// Reads the file with the certificates of authorities, whose path is encoded for a URL.
fn read_authorities(path: &str) -> Result<Vec<u8>, SetupError> {
    // The driver knows how to decode a path.
    let socket = Opts::from_url(&format!("mysql://host?socket={path}")).ok();
    let path = socket.as_ref().and_then(Opts::socket).unwrap_or(path);
    let unreadable = |why: &str| SetupError::authorities(format_args!("{path}: {why}"));
    let pem = fs::read(path).map_err(|error| unreadable(&error.to_string()))?;
    let begins = |line: &[u8]| line.starts_with(b"-----BEGIN CERTIFICATE-----");
    if !pem.split(|byte| *byte == b'\n').any(begins) {
        return Err(unreadable("there is no certificate in it"));
    }
    Ok(pem)
}
