//! Connections: lent by the pool, and given back only when nothing is under way on them.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use deadpool_postgres::{Object, Pool, Timeouts};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{CancelToken, Client, Error, Row, Socket};

use super::fault::unconnected;
use super::statements::Statement;
use crate::store::tries::Fault;

/// How long what nobody waits for any more may take, before its connection is given up.
const SETTLE: Duration = Duration::from_millis(500);

/// How long the server may take to stop a call.
const STOP: Duration = Duration::from_secs(10);

pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Tells the server to stop what is under way on a connection.
pub(super) type Cancel = Arc<dyn Fn(CancelToken) -> Cancelled + Send + Sync>;

type Cancelled = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Returns what tells the server so over a connection with such TLS: a URL that requires TLS requires it here, too.
pub(super) fn cancel_over<T>(tls: T) -> Cancel
where
    T: MakeTlsConnect<Socket, Stream: Send, TlsConnect: Send> + Clone + Send + Sync + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    Arc::new(move |token| {
        let tls = tls.clone();
        Box::pin(async move { token.cancel_query(tls).await })
    })
}

/// A pool, and how it is used.
pub(super) struct Links {
    pub(super) pool: Pool,
    cancel: Cancel,
    /// Whether connections can keep statements.
    prepare: bool,
    /// How long to wait until a connection is free, and for a new one until it is there.
    wait: Duration,
    /// For each connection that may be given up and not ended yet: as many as the pool has.
    given_up: Arc<Semaphore>,
}

impl Links {
    pub(super) fn new(pool: Pool, cancel: Cancel, prepare: bool, wait: Duration) -> Self {
        Self {
            given_up: Arc::new(Semaphore::new(pool.status().max_size)),
            pool,
            cancel,
            prepare,
            wait,
        }
    }

    async fn get(&self) -> Result<Object, Fault> {
        let each = Some(self.wait);
        let limits = Timeouts {
            wait: each,
            create: each,
            recycle: each,
        };
        let got = self.pool.timeout_get(&limits).await;
        got.map_err(|error| unconnected(error, self.wait))
    }

    /// Makes room for a connection, for whatever it takes.
    pub(super) fn busy(&self) -> Busy<'_> {
        Busy {
            object: None,
            links: self,
        }
    }

    /// Asks for the rows that the statement returns: one round trip, once the connection knows the statement.
    pub(super) async fn query(
        &self,
        statement: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Fault> {
        let mut busy = self.busy();
        let object = busy.connect().await?;
        let answer = if self.prepare && statement.keep {
            prepared(object, statement, parameters).await
        } else {
            unprepared(object, statement, parameters).await
        };
        let answer = answer.map_err(Fault::from);
        busy.answered(&answer);
        answer
    }
}

async fn prepared(
    object: &Object,
    statement: &Statement,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, Error> {
    let prepared = object
        .prepare_typed_cached(&statement.sql, statement.types)
        .await?;
    let unseen: Vec<_> = parameters.iter().copied().map(Unseen).collect();
    let unseen: Vec<_> = unseen.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
    object.query(&prepared, &unseen).await
}

/// A parameter that is not shown: the client has all parameters of a prepared statement logged, by `Debug`, where an app logs on
/// that level, and among them are keys, names of users and values.
struct Unseen<'a>(&'a (dyn ToSql + Sync));

impl ToSql for Unseen<'_> {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.0.to_sql_checked(of, out)
    }

    fn accepts(_: &Type) -> bool {
        true // what is in it refuses by itself
    }

    to_sql_checked!();
}

impl fmt::Debug for Unseen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

async fn unprepared(
    object: &Object,
    statement: &Statement,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, Error> {
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
/// connection given up. Closing it at once would cost a new one for each client that disconnects.
pub(super) struct Busy<'a> {
    object: Option<Object>,
    links: &'a Links,
}

impl Busy<'_> {
    pub(super) async fn connect(&mut self) -> Result<&mut Object, Fault> {
        let object = self.links.get().await?;
        Ok(self.object.insert(object))
    }

    /// Gives the connection back, on which nothing is under way any more, unless it is of no more use.
    pub(super) fn answered<T>(mut self, answer: &Result<T, Fault>) {
        let object = self.object.take();
        if matches!(answer, Err(Fault::Lost(_))) {
            drop(object.map(Object::take));
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(runtime) => {
                let given_up = Arc::clone(&self.links.given_up);
                let cancel = Arc::clone(&self.links.cancel);
                runtime.spawn(settle(object, given_up, cancel));
            }
            Err(_) => drop(Object::take(object)),
        }
    }
}

/// Gives the connection back once it is quiet, or else puts an end to it.
async fn settle(object: Object, given_up: Arc<Semaphore>, cancel: Cancel) {
    if let Some(is_sound) = quiet(&object, SETTLE).await {
        if !is_sound {
            drop(Object::take(object));
        }
        return;
    }
    // A server that waits for a lock does not notice that the connection is closed. So the pool gets another in its
    // place only while few are given up: else each call that waits for the lock would cost the server one more.
    if let Ok(_permit) = given_up.try_acquire_owned() {
        end(&Object::take(object), &cancel).await;
    } else {
        end(&object, &cancel).await;
        drop(Object::take(object));
    }
}

/// Waits until nothing is under way, and returns `true` if the connection is sound then; `None` if it takes longer than
/// `longest`.
async fn quiet(client: &Client, longest: Duration) -> Option<bool> {
    // Answers come in order, so after this one nothing is left of what was asked before.
    let quiet = timeout(longest, client.simple_query("")).await;
    quiet.ok().map(|answer| answer.is_ok())
}

/// Tells the server to stop what is under way, and waits until it has.
async fn end(client: &Client, cancel: &Cancel) {
    loop {
        let told = timeout(STOP, cancel(client.cancel_token())).await;
        // Who is told and does not answer is no longer at the other end of this connection.
        if quiet(client, STOP).await.is_some() || matches!(told, Ok(Ok(()))) {
            return;
        }
    }
}
