//! Making the tables, however many instances want to at once.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::Inner;
use super::schema::{self, VERSION};
use crate::store::StoreError;
use crate::store::tries::Fault;

/// How long it may take in all: others may be making the tables, and the server may have fallen silent.
const LONGEST: Duration = Duration::from_secs(60);

/// How long to wait for a table that somebody has locked. Whoever wants to write there waits behind.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s';";

pub(super) async fn migrate(store: &Inner) -> Result<(), Fault> {
    let mut busy = store.links.busy();
    let client = busy.connect().await?;
    let Ok(made) = timeout(LONGEST, make(store, client)).await else {
        return Err(Fault::Other(StoreError::timeout()));
    };
    busy.answered(&made);
    made
}

async fn make(store: &Inner, client: &mut Object) -> Result<(), Fault> {
    if is_current(store, client).await? {
        return Ok(());
    }
    // In any higher level, what is seen is as old as the beginning of the wait.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await?;
    // One makes them; the others wait, and find them made.
    let lock = "SELECT pg_advisory_xact_lock($1)";
    transaction
        .query_typed(lock, &[(&store.names.lock().cast_signed(), Type::INT8)])
        .await?;
    let sql = LOCK_TIMEOUT.to_owned() + &schema::sql(&store.names);
    transaction.batch_execute(&sql).await?;
    transaction.commit().await?;
    Ok(())
}

/// Returns `true` if this version's are there, or a later one's.
async fn is_current(store: &Inner, client: &Object) -> Result<bool, Fault> {
    let select = format!("SELECT max(version) FROM {}", store.names.versions());
    match client.query_typed(&select, &[]).await {
        Ok(rows) => {
            let version: Option<i32> = rows.first().and_then(|row| row.try_get(0).ok());
            Ok(version.is_some_and(|version| version >= VERSION))
        }
        Err(error) if is_missing(error.code()) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_missing(code: Option<&SqlState>) -> bool {
    matches!(
        code,
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME)
    )
}
