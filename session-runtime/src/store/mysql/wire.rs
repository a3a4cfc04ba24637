//! Rows as records.

use std::sync::Arc;

use bytes::Bytes;
use mysql_async::Row;

use super::statements::Due;
use crate::record::Record;
use crate::store::rows;
use crate::store::{StoreError, Swept};

/// Reads a record from its rows.
pub(super) fn record(rows: Vec<Row>) -> Result<Option<Arc<Record>>, StoreError> {
    let mut parts = Vec::with_capacity(rows.len());
    for mut row in rows {
        parts.push((column(&mut row, 0)?, Bytes::from(column(&mut row, 1)?)));
    }
    rows::record(parts, Bytes::clone)
}

fn column(row: &mut Row, at: usize) -> Result<Vec<u8>, StoreError> {
    let value = row.take_opt(at).and_then(Result::ok);
    value.ok_or_else(|| StoreError::broken("a stored record has a column of another type"))
}

/// Reads what a batch of sweeping has deleted.
pub(super) fn swept(due: Vec<Due>) -> Swept {
    let mut swept = Swept::default();
    for Due { key, head } in due {
        if let Some(head) = head {
            swept.add_stored(&key, &Bytes::from(head));
        }
    }
    swept
}
