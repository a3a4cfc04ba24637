//! URLs of servers that let in only who comes over TLS, as hosts hand them out.

use session_runtime::store::{PostgresStore, SetupError};
use session_tests::{PATIENCE, POSTGRES_PASSWORD, PostgresServer};

use crate::records::{self, is_served};

/// The URL by way of that name for this machine.
fn url(server: &PostgresServer, host: &str, parameters: &str) -> String {
    let port = server.port();
    format!("postgres://postgres:{POSTGRES_PASSWORD}@{host}:{port}/postgres?{parameters}")
}

async fn open(url: &str) -> Result<PostgresStore, SetupError> {
    let store = PostgresStore::options().wait(PATIENCE).connect(url)?;
    store.migrate().await?;
    Ok(store)
}

async fn refusal(url: &str) -> String {
    records::refusal(url, open(url).await, POSTGRES_PASSWORD)
}

#[tokio::test]
async fn a_url_that_asks_for_tls_is_served_over_tls_and_checks_what_it_says() {
    let Some(server) = PostgresServer::start_with_tls() else {
        return;
    };
    let file = server.authority().display().to_string();
    let authority = format!("sslrootcert={}", file.replace('/', "%2F"));
    for (host, parameters) in [
        ("127.0.0.1", ""),
        ("127.0.0.1", "sslmode=prefer"),
        ("127.0.0.1", "sslmode=require"),
        ("127.0.0.1", "sslmode=require&channel_binding=require"),
        ("127.0.0.1", &format!("sslmode=require&{authority}")),
        ("127.0.0.1", &format!("sslmode=verify-ca&{authority}")),
        ("localhost", &format!("{authority}&sslmode=verify-full")),
        (
            "localhost",
            &format!("sslmode=verify-full&channel_binding=require&{authority}"),
        ),
        (
            "127.0.0.1",
            "sslmode=require&options=-c%20search_path%3Dshop",
        ),
    ] {
        let store = open(&url(&server, host, parameters)).await;
        let store = store.unwrap_or_else(|error| panic!("{host} {parameters}: {error:?}"));
        is_served(&store, 0).await;
    }
    for (host, parameters, says) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), "no encryption"),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&{authority}"),
            "not valid for name",
        ),
        ("localhost", "sslmode=verify-full".to_owned(), "certificate"),
        ("localhost", "sslmode=verify-ca".to_owned(), "certificate"),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=/no/such.pem".to_owned(),
            "/no/such.pem",
        ),
        (
            "localhost",
            format!(
                "sslmode=verify-full&sslrootcert={}",
                file.replace("authority.crt", "PG_VERSION")
            ),
            "there is no certificate in it",
        ),
    ] {
        let said = refusal(&url(&server, host, &parameters)).await;
        assert!(said.contains(says), "{parameters}: {said}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_the_url_asks_for_it() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    for parameters in ["sslmode=require", "sslmode=verify-full"] {
        let said = refusal(&url(server, "127.0.0.1", parameters)).await;
        let wanted = ["does not support TLS", "this system has none"];
        assert!(wanted.iter().any(|wanted| said.contains(wanted)), "{said}");
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_over_tls_leaves_a_store_that_works() {
    let Some(server) = PostgresServer::start_with_tls() else {
        return;
    };
    let url = url(&server, "127.0.0.1", "sslmode=require");
    let options = PostgresStore::options().wait(PATIENCE).pool_size(1);
    let store = options.connect(&url).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    is_served(&store, 20).await;
}
