//! Connections: lent by the pool, and given back only when nothing is under way on them.

use std::time::Duration;

use deadpool_postgres::{Object, Pool, Timeouts};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::fault::{Fault, unconnected};
use super::statements::Statement;

/// How long what nobody waits for any more may take, before its connection is given up.
const SETTLE: Duration = Duration::from_millis(500);

pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A pool, and how it is used.
pub(super) struct Links {
    pub(super) pool: Pool,
    pub(super) prepare: bool,
    /// How long to wait until a connection is free, and for a new one until it is there.
    pub(super) wait: Duration,
}

impl Links {
    pub(super) async fn get(&self) -> Result<Object, Fault> {
        let each = Some(self.wait);
        let limits = Timeouts {
            wait: each,
            create: each,
            recycle: each,
        };
        let got = self.pool.timeout_get(&limits).await;
        got.map_err(|error| unconnected(error, self.wait))
    }

    /// The rows that the statement returns: one round trip, once the connection knows the statement.
    pub(super) async fn query(
        &self,
        statement: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Fault> {
        let mut busy = Busy(None);
        let object = busy.0.insert(self.get().await?);
        let answer = if self.prepare {
            prepared(object, statement, parameters).await
        } else {
            unprepared(object, statement, parameters).await
        };
        let answer = answer.map_err(Fault::from);
        busy.answered(matches!(answer, Err(Fault::Lost(_))));
        answer
    }
}

async fn prepared(
    object: &Object,
    statement: &Statement,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let prepared = object
        .prepare_typed_cached(&statement.sql, statement.types)
        .await?;
    object.query(&prepared, parameters).await
}

async fn unprepared(
    object: &Object,
    statement: &Statement,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = parameters
        .iter()
        .copied()
        .zip(statement.types.iter().cloned())
        .collect();
    object.query_typed(&statement.sql, &typed).await
}

/// A connection on which something is under way.
///
/// Whoever waits for it may go away: a client that disconnects, a deadline. Then the answer is awaited in the
/// background, so that the next request does not queue up behind it; and only if it does not come soon is the
/// connection closed. Closing it at once would cost a new one for each client that disconnects.
struct Busy(Option<Object>);

impl Busy {
    fn answered(mut self, is_useless: bool) {
        let object = self.0.take();
        if is_useless {
            drop(object.map(Object::take));
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(object) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(settle(object));
        }
    }
}

/// Gives the connection back once it is quiet.
async fn settle(object: Object) {
    // Answers come in order, so after this one nothing is left of what was asked before.
    let quiet = timeout(SETTLE, object.simple_query("")).await;
    if !matches!(quiet, Ok(Ok(_))) {
        drop(Object::take(object));
    }
}
