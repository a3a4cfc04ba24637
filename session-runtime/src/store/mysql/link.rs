//! Connections: lent by the pool, and given back only when nothing is under way on them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, Pool};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::fault::unconnected;
use crate::store::StoreError;
use crate::store::tries::Fault;

/// How long what nobody waits for any more may take, before its connection is given up.
const SETTLE: Duration = Duration::from_millis(500);

/// How long the server may take to end a connection.
const STOP: Duration = Duration::from_secs(2);

/// What each connection is told before it is used: whatever the server's defaults, a statement is a transaction, sees what
/// is committed, and locks no gaps.
pub(super) const SETUP: &str = "SET autocommit = 1, completion_type = NO_CHAIN; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Work on a connection.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'c>>;

/// A pool, and how it is used.
pub(super) struct Links {
    pub(super) pool: Pool,
    /// One for each connection of a pool of its own. Whoever waits for one leaves the queue without waking the wrong one, as
    /// the pool would; and it is known that no connection was free.
    permits: Option<Arc<Semaphore>>,
    /// How long to wait until a connection is free, and for a new one until it is there.
    wait: Duration,
}

impl Links {
    /// Uses the app's pool.
    pub(super) fn shared(pool: Pool, wait: Duration) -> Self {
        Self {
            pool,
            permits: None,
            wait,
        }
    }

    /// Uses a pool of its own, of so many connections.
    pub(super) fn own(pool: Pool, size: usize, wait: Duration) -> Self {
        Self {
            permits: Some(Arc::new(Semaphore::new(size))),
            ..Self::shared(pool, wait)
        }
    }

    /// Does what is to be done on a connection. Whoever waits for it may go away: a client that disconnects, a deadline.
    /// Then it is ended in the background.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Conn) -> Work<'c, T> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = self.permit().await?;
        let mut conn = self.get().await?;
        let call = Call {
            connection: conn.id(),
            opts: conn.opts().clone(),
        };
        let is_set_up = is_set_up(&call.opts);
        let running = async move {
            let _permit = permit;
            let answer = async {
                if !is_set_up {
                    conn.query_drop(SETUP).await?;
                }
                // If this ends amid the work, nobody knows of the transaction that is open.
                conn.reset_connection(true);
                work(&mut conn).await
            };
            let answer = answer.await.map_err(Fault::from);
            if matches!(answer, Err(Fault::Lost(_))) {
                drop(conn.disconnect().await);
            } else if is_set_up {
                // It is left as it was, with the statements that it knows.
                conn.reset_connection(false);
            }
            answer
        };
        Busy {
            running: Some(Box::pin(running)),
            call,
        }
        .await
    }

    async fn permit(&self) -> Result<Option<OwnedSemaphorePermit>, Fault> {
        let Some(permits) = &self.permits else {
            return Ok(None);
        };
        match timeout(self.wait, Arc::clone(permits).acquire_owned()).await {
            // It is never closed.
            Ok(permit) => Ok(permit.ok()),
            Err(_) => Err(Fault::all_in_use(self.wait)),
        }
    }

    async fn get(&self) -> Result<Conn, Fault> {
        match timeout(self.wait, self.pool.get_conn()).await {
            Ok(got) => got.map_err(unconnected),
            Err(_) => Err(Fault::Other(StoreError::unavailable(format!(
                "the pool gave no connection within {:?}: see whether the server can be reached, and the pool is large enough",
                self.wait
            )))),
        }
    }
}

/// Returns `true` if the pool has connections set up as this needs them: its own does, the app's may.
fn is_set_up(opts: &Opts) -> bool {
    opts.setup().iter().any(|setup| setup == SETUP)
}

type Running<T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send>>;

/// Something that is under way on a connection.
struct Busy<T: Send + 'static> {
    running: Option<Running<T>>,
    call: Call,
}

/// The connection on which a call is under way.
#[derive(Clone)]
struct Call {
    connection: u32,
    opts: Opts,
}

impl<T: Send + 'static> Future for Busy<T> {
    type Output = Result<T, Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        let answer = ready!(running.as_mut().poll(context));
        self.running = None;
        Poll::Ready(answer)
    }
}

impl<T: Send + 'static> Drop for Busy<T> {
    /// Has it end in the background, so that the next request does not queue up behind it. Closing the connection at once
    /// would cost a new one for each client that disconnects.
    fn drop(&mut self) {
        if let Some(running) = self.running.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(settle(running, self.call.clone()));
        }
    }
}

/// Waits until it is done, or else puts an end to it.
async fn settle<T>(mut running: Running<T>, call: Call) {
    if timeout(SETTLE, &mut running).await.is_ok() {
        return;
    }
    // A server that waits for a lock does not notice that a connection is closed.
    let told = timeout(STOP, end(call)).await;
    if matches!(told, Ok(Ok(()))) {
        let _ = timeout(STOP, running).await;
    }
    // Who is told and does not answer, or knows nothing of it, is not at the other end: the connection is closed.
}

/// Tells the server to end the connection, and what is under way on it.
async fn end(call: Call) -> Result<(), Error> {
    let mut conn = Conn::new(call.opts).await?;
    conn.query_drop(format!("KILL {}", call.connection)).await?;
    conn.disconnect().await
}
