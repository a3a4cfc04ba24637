//! URLs of servers that let in only who comes over TLS, as hosts hand them out.

use session_runtime::store::{MysqlStore, SetupError};
use session_tests::{MYSQL_PASSWORD, MysqlServer, PATIENCE};

use crate::records::{self, is_served};

/// The URL by way of that name for this machine.
fn url(server: &MysqlServer, host: &str, parameters: &str) -> String {
    let port = server.port();
    format!("mysql://shop:{MYSQL_PASSWORD}@{host}:{port}/test?{parameters}")
}

async fn open(url: &str) -> Result<MysqlStore, SetupError> {
    let store = MysqlStore::options().wait(PATIENCE).connect(url)?;
    store.migrate().await?;
    Ok(store)
}

async fn refusal(url: &str) -> String {
    records::refusal(url, open(url).await, MYSQL_PASSWORD)
}

#[tokio::test]
async fn a_url_that_asks_for_tls_is_served_over_tls_and_checks_what_it_says() {
    let Some(server) = MysqlServer::start_with_tls() else {
        return;
    };
    let file = server.authority().display().to_string();
    let authority = format!("ssl-ca={}", file.replace('/', "%2F"));
    for (host, parameters) in [
        ("127.0.0.1", "ssl-mode=REQUIRED"),
        ("127.0.0.1", "ssl-mode=required&tcp_keepalive=60000"),
        ("127.0.0.1", "require_ssl=true&verify_ca=false"),
        (
            "localhost",
            &format!("{authority}&ssl-mode=VERIFY_IDENTITY"),
        ),
    ] {
        let store = open(&url(&server, host, parameters)).await;
        let store = store.unwrap_or_else(|error| panic!("{host} {parameters}: {error:?}"));
        is_served(&store, 0).await;
    }
    let no_certificate = format!(
        "ssl-mode=VERIFY_IDENTITY&ssl-ca={}",
        file.replace(".crt", ".key")
    );
    for (host, parameters, says) in [
        ("127.0.0.1", "", "`mysql-tls`"),
        ("127.0.0.1", "ssl-mode=DISABLED", "`mysql-tls`"),
        (
            "127.0.0.1",
            &format!("ssl-mode=VERIFY_IDENTITY&{authority}"),
            "not valid for name",
        ),
        ("localhost", "ssl-mode=VERIFY_IDENTITY", "certificate"),
        ("localhost", "require_ssl=true", "certificate"),
        (
            "localhost",
            "ssl-mode=VERIFY_IDENTITY&ssl-ca=/no/such.pem",
            "/no/such.pem",
        ),
        (
            "localhost",
            &no_certificate,
            "there is no certificate in it",
        ),
    ] {
        let said = refusal(&url(&server, host, parameters)).await;
        assert!(said.contains(says), "{parameters}: {said}");
    }
}

#[tokio::test]
async fn what_a_url_says_of_tls_otherwise_is_told_what_to_write() {
    for (parameters, says) in [
        ("ssl-mode=VERIFY_CA", "`VERIFY_IDENTITY`"),
        ("ssl-mode=PREFERRED", "`VERIFY_IDENTITY`"),
        ("ssl-mode=verify-full", "`VERIFY_IDENTITY`"),
        ("ssl-ca=%2Fdev%2Fnull&ssl-mode=VERIFY_IDENTITY", "/dev/null"),
        ("sslmode=require", "`ssl-mode=VERIFY_IDENTITY`"),
        ("sslrootcert=/ca.pem", "`ssl-ca=`"),
        ("ssl-cert=/own.pem", "`MysqlOptions::pool`"),
    ] {
        let said = refusal(&format!(
            "mysql://shop:{MYSQL_PASSWORD}@127.0.0.1/shop?{parameters}"
        ))
        .await;
        assert!(said.contains(says), "{parameters}: {said}");
    }
}

#[tokio::test]
async fn authorities_without_a_mode_that_asks_them_are_refused() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\n").expect("a file");
    for mode in ["", "ssl-mode=REQUIRED&", "ssl-mode=DISABLED&"] {
        let parameters = format!("{mode}ssl-ca={}", file.path().display());
        let said = refusal(&url(server, "127.0.0.1", &parameters)).await;
        assert!(said.contains("`ssl-mode=VERIFY_IDENTITY`"), "{said}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_the_url_asks_for_it() {
    let Some(server) = MysqlServer::shared() else {
        return;
    };
    for parameters in ["ssl-mode=REQUIRED", "ssl-mode=VERIFY_IDENTITY"] {
        let said = refusal(&url(server, "127.0.0.1", parameters)).await;
        assert!(said.to_lowercase().contains("ssl"), "{said}");
    }
}

/// Ends on the server what is given up, also where the connection is encrypted.
#[tokio::test]
async fn a_call_that_is_given_up_over_tls_leaves_a_store_that_works() {
    let Some(server) = MysqlServer::start_with_tls() else {
        return;
    };
    let url = url(&server, "127.0.0.1", "ssl-mode=REQUIRED");
    let options = MysqlStore::options().wait(PATIENCE).pool_size(1);
    let store = options.connect(&url).expect("the URL is fine");
    MysqlServer::make_tables(&store).await;
    is_served(&store, 20).await;
}
