//! A call on its way to a thread and back.

use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;

/// A question for a thread, what the thread makes of it, and where the answer goes.
///
/// The answer is held back until [`send`](Self::send), since a commit is answered only when the
/// transaction it is part of has reached the disk.
pub(super) struct Job<Q, A> {
    pub(super) question: Q,
    pub(super) answer: Option<Result<A, StoreError>>,
    asker: oneshot::Sender<Result<A, StoreError>>,
}

impl<Q, A> Job<Q, A> {
    /// Whether whoever asked has gone away.
    pub(super) fn is_abandoned(&self) -> bool {
        self.asker.is_closed()
    }

    /// Sends the answer, if there is one.
    pub(super) fn send(self) {
        if let Some(answer) = self.answer {
            // An error means that nobody waits for it any more.
            let _ = self.asker.send(answer);
        }
    }
}

/// Puts a question to the thread behind `queue`.
pub(super) async fn ask<J, Q, A>(
    queue: &mpsc::Sender<J>,
    kind: fn(Job<Q, A>) -> J,
    question: Q,
) -> Result<A, StoreError> {
    let (asker, answer) = oneshot::channel();
    let job = kind(Job {
        question,
        answer: None,
        asker,
    });
    queue.send(job).await.map_err(|_| ended())?;
    answer.await.map_err(|_| ended())?
}

fn ended() -> StoreError {
    StoreError::unavailable("the thread that serves the SQLite file has ended")
}
