//! Making the tables, however many instances want to at once.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use tokio::time::timeout;

use super::Inner;
use super::fault::is_missing;
use super::schema::{self, VERSION};
use crate::store::StoreError;
use crate::store::names::Names;
use crate::store::tries::Fault;

/// How long it may take in all: others may be making the tables, and the server may have fallen silent.
const LONGEST: Duration = Duration::from_secs(60);

/// How long to wait for a table that somebody has locked: in seconds. Whoever wants to write there waits behind.
const LOCK_TIMEOUT: u32 = 5;

pub(super) async fn migrate(store: &Inner) -> Result<(), Fault> {
    let names = store.names.clone();
    let made = store
        .links
        .run(move |conn| Box::pin(async move { make(&names, conn).await }));
    let made = timeout(LONGEST, made).await;
    made.unwrap_or_else(|_| Err(Fault::Other(StoreError::timeout())))
}

async fn make(names: &Names, conn: &mut Conn) -> Result<(), Error> {
    conn.query_drop(format!(
        "SET SESSION lock_wait_timeout = {LOCK_TIMEOUT}, innodb_lock_wait_timeout = {LOCK_TIMEOUT}"
    ))
    .await?;
    let made = make_tables(names, conn).await;
    // Both go with the connection at the latest.
    let lock = lock(names);
    let left = conn.query_drop(format!(
        "DO RELEASE_LOCK('{lock}'); SET SESSION lock_wait_timeout = DEFAULT, innodb_lock_wait_timeout = DEFAULT"
    ));
    made.and(left.await)
}

async fn make_tables(names: &Names, conn: &mut Conn) -> Result<(), Error> {
    if is_current(names, conn).await? {
        return Ok(());
    }
    // One makes them; the others wait, and find them made.
    let (lock, wait) = (lock(names), LONGEST.as_secs());
    conn.query_drop(format!("DO GET_LOCK('{lock}', {wait})"))
        .await?;
    conn.query_drop(schema::sql(names)).await
}

/// Returns the name of the lock under which the tables are made.
fn lock(names: &Names) -> String {
    format!("session-runtime {:x}", names.lock())
}

/// Returns `true` if this version's are there, or a later one's.
async fn is_current(names: &Names, conn: &mut Conn) -> Result<bool, Error> {
    let select = format!(
        "SELECT CAST(max(version) AS SIGNED) FROM {}",
        names.versions()
    );
    match conn.query_first::<Option<i64>, _>(select).await {
        Ok(version) => Ok(version.flatten().is_some_and(|version| version >= VERSION)),
        Err(Error::Server(error)) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
