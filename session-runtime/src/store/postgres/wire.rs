//! Records as parameters, and rows as records.

use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::statements::WRITE_HEAD;
use crate::record::Record;
use crate::store::rows::{self, RowSwap};
use crate::store::{StoreError, Swept};

/// Returns the parameters of the statement that a swap takes.
pub(super) fn parameters<'a>(swap: &'a RowSwap<'_>) -> Vec<&'a (dyn ToSql + Sync)> {
    let mut all: Vec<&(dyn ToSql + Sync)> = vec![
        &swap.key,
        &swap.version,
        &swap.expires,
        &swap.head,
        &swap.before,
        &swap.removed,
        &swap.names,
        &swap.payloads,
    ];
    if swap.is_head_alone() {
        all.truncate(WRITE_HEAD);
    }
    all
}

/// Reads a record from its rows.
pub(super) fn record(rows: &[Row]) -> Result<Option<Arc<Record>>, StoreError> {
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        parts.push((column::<&[u8]>(row, 0)?, column::<&[u8]>(row, 1)?));
    }
    rows::record(parts, |payload| Bytes::copy_from_slice(payload))
}

/// Reads the keys that a scan has found.
pub(super) fn keys(rows: &[Row]) -> Result<Vec<Vec<u8>>, StoreError> {
    rows.iter().map(|row| column(row, 0)).collect()
}

/// Reads what a batch of sweeping has deleted.
pub(super) fn swept(rows: &[Row]) -> Result<Swept, StoreError> {
    let mut swept = Swept::default();
    for row in rows {
        if let Some(key) = column::<Option<&[u8]>>(row, 0)? {
            let head = Bytes::copy_from_slice(column(row, 1)?);
            swept.add_stored(key, &head);
        }
    }
    Ok(swept)
}

fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, StoreError> {
    let value = row.try_get(at);
    value.map_err(|_| StoreError::broken("a stored record has a column of another type"))
}
