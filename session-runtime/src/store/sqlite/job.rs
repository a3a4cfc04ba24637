//! A call on its way to a thread and back.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::store_error;
use crate::store::StoreError;

/// How many jobs may wait for each kind of thread. A caller beyond that waits to be let in, and its deadline runs.
pub(super) const QUEUE: usize = 1_024;

pub(super) type Jobs = mpsc::Sender<Box<dyn Job>>;
pub(super) type WaitingJobs = mpsc::Receiver<Box<dyn Job>>;

/// Something that a thread does on its connection for a caller who waits.
///
/// Running it and answering are two steps, since a write is answered only when the transaction that it is part of has
/// reached the disk. Until then it may have to be run again.
pub(super) trait Job: Send {
    /// Returns `true` if the caller has gone away.
    fn is_abandoned(&self) -> bool;
    /// Returns `true` if a file that is full has room for it.
    fn relieves(&self) -> bool;
    /// Does the work and keeps the answer.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// Makes this error the answer.
    fn fail(&mut self, error: &rusqlite::Error);
    /// Sends the answer that is kept.
    fn answer(self: Box<Self>);
}

/// Queues work for a thread and waits for what comes of it.
pub(super) async fn ask<A: Send + 'static>(
    jobs: &Jobs,
    work: impl FnMut(&Connection) -> rusqlite::Result<A> + Send + 'static,
) -> Result<A, StoreError> {
    ask_for_swap(jobs, false, work).await
}

/// The same for what a file that is full has room for, if it `relieves` it.
pub(super) async fn ask_for_swap<A: Send + 'static>(
    jobs: &Jobs,
    relieves: bool,
    work: impl FnMut(&Connection) -> rusqlite::Result<A> + Send + 'static,
) -> Result<A, StoreError> {
    let (caller, answer) = oneshot::channel();
    let call = Call {
        work,
        outcome: None,
        caller,
        relieves,
    };
    let ended = || StoreError::unavailable("the thread that serves the SQLite file has ended");
    jobs.send(Box::new(call)).await.map_err(|_| ended())?;
    answer.await.map_err(|_| ended())?
}

struct Call<W, A> {
    work: W,
    outcome: Option<Result<A, StoreError>>,
    caller: oneshot::Sender<Result<A, StoreError>>,
    relieves: bool,
}

impl<W, A> Job for Call<W, A>
where
    W: FnMut(&Connection) -> rusqlite::Result<A> + Send,
    A: Send,
{
    fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    fn relieves(&self) -> bool {
        self.relieves
    }

    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.outcome = Some(Ok((self.work)(connection)?));
        Ok(())
    }

    fn fail(&mut self, error: &rusqlite::Error) {
        self.outcome = Some(Err(store_error(error)));
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // An error means that the caller has gone away.
            let _ = self.caller.send(outcome);
        }
    }
}
