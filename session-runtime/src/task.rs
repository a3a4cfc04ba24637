//! Work that runs to its end once it has begun, whoever stops waiting for it.

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::Error;

/// Work that has begun.
pub(crate) enum Begun<T> {
    Done(Result<T, Error>),
    Task(JoinHandle<Result<T, Error>>),
}

/// Counts the tasks that work to their end, so that a process can wait for them before it stops.
#[derive(Clone, Default)]
pub(crate) struct Underway(watch::Sender<usize>);

impl Underway {
    /// Waits until no task is under way.
    pub(crate) async fn idle(&self) {
        // The sender is here, so the channel is open.
        drop(self.0.subscribe().wait_for(|tasks| *tasks == 0).await);
    }

    fn enter(&self) -> UnderwayTask {
        self.0.send_modify(|tasks| *tasks += 1);
        UnderwayTask(self.clone())
    }
}

/// One task that is counted until it is dropped: also if it panics, or its runtime goes.
struct UnderwayTask(Underway);

impl Drop for UnderwayTask {
    fn drop(&mut self) {
        self.0.0.send_modify(|tasks| *tasks -= 1);
    }
}

/// Begins `work` as [`begin`] does. Where that seldom waits, since the store answers at once, it is tried without a box
/// first. `work` may be dropped wherever it waits, and made anew: it goes on from what it has done.
pub(crate) fn begin_at_once<T: Send + 'static, W>(
    underway: &Underway,
    work: impl Fn() -> W,
    context: &mut Context<'_>,
) -> Begun<T>
where
    W: Future<Output = Result<T, Error>> + Send + 'static,
{
    match pin!(work()).poll(context) {
        Poll::Ready(done) => Begun::Done(done),
        Poll::Pending => begin(underway, work(), context),
    }
}

/// Begins `work`. What need not wait is done here and now; what has to gets a task of its own, which `underway` counts.
pub(crate) fn begin<T: Send + 'static>(
    underway: &Underway,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
    context: &mut Context<'_>,
) -> Begun<T> {
    let mut work = Box::pin(work);
    match work.as_mut().poll(context) {
        Poll::Ready(done) => Begun::Done(done),
        Poll::Pending => {
            let counted = underway.enter();
            Begun::Task(tokio::spawn(async move {
                let _counted = counted;
                work.await
            }))
        }
    }
}

/// Does what `make` makes. Where that seldom waits, and so is as good as done `at_once`, it is tried without a box first; what
/// waits has one, so that whoever awaits this sets little aside for it. `make` is called as [`begin_at_once`] calls its work.
pub(crate) async fn boxed_if_it_waits<W: Future>(at_once: bool, make: impl Fn() -> W) -> W::Output {
    let mut boxed = None;
    poll_fn(|context| {
        if at_once
            && boxed.is_none()
            && let done @ Poll::Ready(_) = pin!(make()).poll(context)
        {
            return done;
        }
        let work = boxed.get_or_insert_with(|| Box::pin(make()));
        work.as_mut().poll(context)
    })
    .await
}

/// Does `work`. A caller who stops waiting, in a `select!` or because the client has gone, leaves nothing half
/// done.
pub(crate) async fn to_its_end<T: Send + 'static>(
    underway: Underway,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let mut work = Some(work);
    let begun = poll_fn(|context| match work.take() {
        Some(work) => Poll::Ready(begin(&underway, work, context)),
        None => Poll::Pending,
    });
    match begun.await {
        Begun::Done(done) => done,
        Begun::Task(task) => match task.await {
            Ok(done) => done,
            Err(lost) if lost.is_panic() => resume_unwind(lost.into_panic()),
            Err(lost) => Err(Error::lost(lost)),
        },
    }
}

/// Does all of `work` at once, and returns what came of each, in their order.
pub(crate) async fn all<T>(work: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = work
        .into_iter()
        .map(|work| (Box::pin(work), None))
        .collect();
    poll_fn(|context| {
        let mut waits = false;
        for (work, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            match work.as_mut().poll(context) {
                Poll::Ready(result) => *done = Some(result),
                Poll::Pending => waits = true,
            }
        }
        if waits {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}
