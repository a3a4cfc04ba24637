//! Calls of a database that others are busy with: how often each is made.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::record::Record;
use crate::store::{StoreError, Swapped, SweepGuard, Swept};

/// How often a call is made if transactions are in each other's way.
const TRIES: u32 = 3;

/// How many records a sweep looks at in one transaction, so that requests in between need not wait long.
const SWEEP: usize = 100;

/// Why a call was not answered.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another transaction was in the way. Nothing was done, and doing it again may well succeed.
    Undone(StoreError),
    /// The connection is of no more use. What was asked may or may not have been done.
    Lost(StoreError),
    /// Doing it again at once would not help.
    Other(StoreError),
}

impl Fault {
    /// Says that whoever asked has waited for so long that others give back a connection.
    pub(super) fn all_in_use(wait: Duration) -> Self {
        Self::Other(StoreError::contended(format!(
            "all connections were in use for {wait:?}: raise `pool_size`, or the size of the pool that the store was given, or see what holds up the server"
        )))
    }

    /// Says the same of what came before anything was asked.
    pub(super) fn before_asking(self) -> Self {
        Self::Other(self.into())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Undone(error) | Fault::Lost(error) | Fault::Other(error) => error,
        }
    }
}

/// Returns `true` if nobody listens there, at an address or a socket.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

/// Asks until no other transaction is in the way, three times at most.
pub(super) async fn ask<T, F>(mut call: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut tries = 1;
    loop {
        match call().await {
            Err(Fault::Undone(_)) if tries < TRIES => pause(tries).await,
            answer => return answer,
        }
        tries += 1;
    }
}

/// Asks what changes nothing: also again if the connection breaks, which may have been broken for long.
pub(super) async fn read<T, F>(mut call: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut tries = 1;
    loop {
        match ask(&mut call).await {
            Err(Fault::Lost(_)) if tries < TRIES => tries += 1,
            answer => return answer,
        }
    }
}

/// Swaps: `write` says whether it found `before`'s version there. If not, `load` says what is there: by a second
/// statement, since what the first one saw may be older than what stood in its way.
pub(super) async fn swap<W, L>(
    before: Option<&Record>,
    mut write: impl FnMut() -> W,
    mut load: impl FnMut() -> L,
) -> Result<Swapped, StoreError>
where
    W: Future<Output = Result<bool, Fault>>,
    L: Future<Output = Result<Option<Arc<Record>>, StoreError>>,
{
    for _ in 0..TRIES {
        if ask(&mut write).await? {
            return Ok(Swapped::Done);
        }
        let there = load().await?;
        if there.as_deref().map(Record::version) != before.map(Record::version) {
            return Ok(Swapped::Stale(there));
        }
        // It became what was compared between the two.
    }
    Err(StoreError::contended("the record changed with every look"))
}

/// Sweeps up to `limit` records, some at a time. `batch` is told when they have to have expired and at how many to look, and
/// says at how many it has.
pub(super) async fn sweep<B>(
    guard: &SweepGuard,
    limit: usize,
    mut batch: impl FnMut(Timestamp, usize) -> B,
) -> Result<Swept, StoreError>
where
    B: Future<Output = Result<(usize, Swept), StoreError>>,
{
    let mut swept = Swept::default();
    let Some(cutoff) = guard.cutoff() else {
        return Ok(swept);
    };
    while swept.deleted < limit {
        let size = SWEEP.min(limit - swept.deleted);
        match batch(cutoff, size).await {
            Ok((looked_at, mut more)) => {
                swept.deleted += more.deleted;
                swept.expired.append(&mut more.expired);
                if looked_at < size {
                    break;
                }
            }
            // What has been deleted by now is told all the same; the next sweep fails too, if need be.
            Err(_) if swept.deleted > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

/// Waits for a random time that grows with the tries.
async fn pause(tries: u32) {
    let longest = Duration::from_millis(10) * tries;
    tokio::time::sleep(longest.mul_f64(rand::random())).await;
}
