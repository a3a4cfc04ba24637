//! Making the tables and functions, however many instances want to at once.

use deadpool_postgres::Object;
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::Inner;
use super::fault::Fault;
use super::schema::VERSION;

pub(super) async fn migrate(store: &Inner) -> Result<(), Fault> {
    let mut client = store.links.get().await?;
    if is_current(store, &client).await? {
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
        .query_typed(lock, &[(&store.names.lock(), Type::INT8)])
        .await?;
    transaction.batch_execute(&store.names.sql()).await?;
    transaction.commit().await?;
    Ok(())
}

/// Whether this version's are there, or a later one's.
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
