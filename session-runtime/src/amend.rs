//! Amending: the one loop that writes. It plans what is to be there from what is there, swaps, and plans again where
//! something else has come in between.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Error;
use crate::health::Call;
use crate::key::Key;
use crate::observe;
use crate::plan::Plan;
use crate::queue::{Turn, jittered};
use crate::record::Record;
use crate::store::{Answer, Scanned, StoreError, Swapped};

#[cfg(all(test, feature = "memory", feature = "cookie", feature = "testing"))]
mod tests;

/// How long a swap whose outcome is unknown waits before it is asked again, give or take a half.
const AGAIN: Duration = Duration::from_millis(20);

/// How old a creation may be to be asked again. After that its record may have come, gone, and been swept.
const CREATED: Duration = Duration::from_secs(60 * 60);

/// The outcome of an amendment: the record as it is now.
pub(crate) struct Amended<T> {
    /// What is there now.
    pub(crate) record: Option<Arc<Record>>,
    /// What the plan meant by it.
    pub(crate) outcome: T,
    /// It was written.
    pub(crate) written: bool,
    /// When that was planned.
    pub(crate) at: Timestamp,
}

/// A swap that may or may not have happened: all that is needed to ask again.
#[derive(Clone)]
pub(crate) struct UnknownOutcome {
    before: Option<Arc<Record>>,
    after: Arc<Record>,
    /// When it was first known to be unknown, by the monotonic clock.
    asked: Duration,
}

/// Why a record could not be amended, and what is unknown since.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) unknown: Option<UnknownOutcome>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            unknown: None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// Puts in place of the record under `key` what `plan` makes of it, as often as it takes. `seen` is what was there when
/// somebody last looked.
pub(crate) async fn amend<T>(
    config: &Config,
    key: &Key,
    seen: Option<Arc<Record>>,
    deadline: Instant,
    mut plan: impl FnMut(Option<&Arc<Record>>, Timestamp) -> Result<Plan<T>, Error> + Send,
) -> Result<Amended<T>, Failure> {
    let mut there = seen;
    let (mut was_stale, mut was_unmoved) = (false, false);
    let queue = config.queues.of(key);
    let mut since = queue.turns();
    let mut turn: Option<Turn<'_>> = None;
    loop {
        let queues = was_stale || queue.is_contended(key, || config.clock.elapsed());
        if turn.is_none() && queues {
            let own = Box::pin(queue.turn(deadline)).await.ok_or_else(unsettled)?;
            own.last_of(key, since, &mut there);
            turn = Some(own);
        }
        if let Some(turn) = &mut turn {
            Box::pin(turn.give_way(there.as_ref(), deadline)).await;
        }
        if queues && Instant::now() >= deadline {
            return Err(unsettled().into());
        }
        let at = config.now();
        let (after, outcome) = match plan(there.as_ref(), at)? {
            Plan::Leave(outcome) => {
                return Ok(Amended {
                    record: there,
                    outcome,
                    written: false,
                    at,
                });
            }
            Plan::Write(after, outcome) => (after, outcome),
        };
        let swapped = swap(config, key, there.as_ref(), &after, deadline).await?;
        if let Some(turn) = &mut turn {
            let (written, left) = match &swapped {
                Settled::Applied(record) => (true, Some(record)),
                Settled::Stale(there) => (false, there.as_ref()),
            };
            turn.leave(key, left, written);
        }
        match swapped {
            Settled::Applied(record) => {
                return Ok(Amended {
                    record: Some(record),
                    outcome,
                    written: true,
                    at,
                });
            }
            Settled::Stale(now) => {
                // Each write has a version of its own, so nobody has written in between: the row that a user is to have, for
                // instance, is not there.
                let unmoved = same_version(now.as_ref(), there.as_ref());
                if unmoved && was_unmoved {
                    let cause =
                        "the store does not swap what it shows, though nobody has changed it";
                    return Err(Error::from(StoreError::broken(cause)).into());
                }
                (there, was_unmoved) = (now, unmoved);
            }
        }
        since = queue.turns();
        was_stale = true;
        observe::conflict();
        queue.contend(key, config.clock.elapsed());
    }
}

fn same_version(one: Option<&Arc<Record>>, other: Option<&Arc<Record>>) -> bool {
    one.map(|record| record.version()) == other.map(|record| record.version())
}

/// Others were faster until the deadline.
fn unsettled() -> Error {
    observe::unsettled();
    Error::unsettled()
}

/// Puts a new record under a key. The outcome is `false` if there is another.
pub(crate) async fn create(
    config: &Config,
    key: &Key,
    deadline: Instant,
    make: impl Fn(Timestamp) -> Result<Record, Error> + Send + Sync,
) -> Result<Amended<bool>, Failure> {
    let plan = |there: Option<&Arc<Record>>, now| {
        Ok(match there {
            None => Plan::Write(Arc::new(make(now)?), true),
            Some(_) => Plan::Leave(false),
        })
    };
    // Awaited where it is made: a future that is moved is kept twice.
    amend(config, key, None, deadline, plan).await
}

/// The certain outcome of a swap.
enum Settled {
    /// It happened. Brings what is there by now.
    Applied(Arc<Record>),
    /// It did not.
    Stale(Option<Arc<Record>>),
}

/// Swaps, and asks the same again while the outcome is unknown.
async fn swap(
    config: &Config,
    key: &Key,
    before: Option<&Arc<Record>>,
    after: &Arc<Record>,
    deadline: Instant,
) -> Result<Settled, Failure> {
    config.traffic.count_swap(before.is_none());
    let mut unknown: Option<UnknownOutcome> = None;
    loop {
        let swapped = swap_once(config, key, before, after, deadline).await;
        let error = match (swapped, &unknown) {
            (Ok(Swapped::Done), _) => return Ok(Settled::Applied(Arc::clone(after))),
            (Ok(Swapped::Stale(there)), None) => {
                return Ok(match there {
                    // What lies between has sent it again by itself, and this answers the repeat.
                    Some(there) if there.is_or_was(after.version()) => Settled::Applied(there),
                    there => Settled::Stale(there),
                });
            }
            (Ok(Swapped::Stale(there)), Some(unknown)) => return unknown.verdict(there),
            (Err(error), _) => error,
        };
        if error.is_unknown() {
            unknown.get_or_insert_with(|| UnknownOutcome {
                before: before.cloned(),
                after: Arc::clone(after),
                asked: config.clock.elapsed(),
            });
        }
        let next = Instant::now() + jittered(AGAIN);
        // Where nobody listens, only what is in doubt is asked again.
        let again = error.is_transient()
            && (unknown.is_some() || !error.is_refused())
            && config.store.at_once().is_none()
            && next < deadline
            && is_wanted(before, after, config.now());
        if !again {
            let error = error.into();
            return Err(Failure { error, unknown });
        }
        Box::pin(sleep_until(next)).await;
    }
}

/// Asks the store once.
async fn swap_once(
    config: &Config,
    key: &Key,
    before: Option<&Arc<Record>>,
    after: &Arc<Record>,
    deadline: Instant,
) -> Result<Swapped, StoreError> {
    if let Some(store) = config.store.at_once() {
        let answer = store.swap(key, before, after);
        config.health.answered_at_once(Call::Swap, &answer);
        return answer;
    }
    let asked = config.traffic.asked();
    let answer = config.store.swap(key, before, after);
    let swapped = in_time(config, Call::Swap, deadline, answer).await;
    if swapped.is_ok() {
        config.traffic.answered(&asked);
    }
    swapped
}

/// What is said of a swap of which nobody can tell any more.
const LOST: &str = "an answer was lost, and so much has been written since that nobody can tell whether the swap happened: it is not made again";

/// Returns `true` if a swap may be made again: nothing that has expired since is to come back. An end brings back nothing.
fn is_wanted(before: Option<&Arc<Record>>, after: &Record, now: Timestamp) -> bool {
    after.ended().is_some() || before.is_none_or(|before| before.is_live(now))
}

impl UnknownOutcome {
    /// Finds out what came of it: asks for the same swap again, or looks where that is not wanted any more. What is
    /// there then, and `true` if the swap happened.
    pub(crate) async fn resolve(
        &self,
        config: &Config,
        key: &Key,
        deadline: Instant,
    ) -> Result<(Option<Arc<Record>>, bool), Failure> {
        let Self {
            before,
            after,
            asked,
        } = self;
        let age = config.clock.elapsed().saturating_sub(*asked);
        let again = match before {
            Some(_) => is_wanted(before.as_ref(), after, config.now()),
            None => age < CREATED && after.is_live(config.now()),
        };
        let there = if again {
            match swap_once(config, key, before.as_ref(), after, deadline).await {
                Ok(Swapped::Done) => return Ok((Some(Arc::clone(after)), true)),
                Ok(Swapped::Stale(there)) => there,
                Err(error) => return Err(self.still(error)),
            }
        } else {
            let loaded = load(config, key, Freshness::Latest, deadline).await;
            loaded.map_err(|error| self.still(error))?
        };
        match self.verdict(there)? {
            Settled::Applied(there) => Ok((Some(there), true)),
            Settled::Stale(there) => Ok((there, false)),
        }
    }

    /// Tells from what is there now whether the swap has happened. Where that cannot be told, it stays in doubt for good:
    /// nothing that would repeat it is written.
    fn verdict(&self, there: Option<Arc<Record>>) -> Result<Settled, Failure> {
        let Self { before, after, .. } = self;
        match there {
            Some(there) if there.is_or_was(after.version()) => Ok(Settled::Applied(there)),
            Some(there) if there.remembers_all() => Ok(Settled::Stale(Some(there))),
            Some(there)
                if before
                    .as_ref()
                    .is_some_and(|before| there.is_or_was(before.version())) =>
            {
                Ok(Settled::Stale(Some(there)))
            }
            _ => {
                tracing::error!("{LOST}");
                Err(self.still(StoreError::unavailable(LOST)))
            }
        }
    }

    fn still(&self, error: StoreError) -> Failure {
        Failure {
            error: error.into(),
            unknown: Some(self.clone()),
        }
    }
}

/// The age that a look-up may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// A near cache will do.
    Near,
    /// As the store itself has it.
    Latest,
}

/// Loads what is under a key.
pub(crate) async fn load(
    config: &Config,
    key: &Key,
    freshness: Freshness,
    deadline: Instant,
) -> Result<Option<Arc<Record>>, StoreError> {
    if let Some(store) = config.store.at_once() {
        let answer = store.load(key);
        config.health.answered_at_once(Call::Load, &answer);
        return answer;
    }
    let answer = match freshness {
        Freshness::Near => config.store.load(key),
        Freshness::Latest => config.store.load_latest(key),
    };
    in_time(config, Call::Load, deadline, answer).await
}

/// Loads what is under a key for somebody who is not its client: a store need not take that for a visit.
pub(crate) async fn look(
    config: &Config,
    key: &Key,
    deadline: Instant,
) -> Result<Option<Arc<Record>>, StoreError> {
    in_time(config, Call::Load, deadline, config.store.load_latest(key)).await
}

/// Returns the keys of some sessions, and where to go on.
pub(crate) async fn scan(
    config: &Config,
    after: Option<&str>,
    limit: usize,
    deadline: Instant,
) -> Result<Scanned, StoreError> {
    in_time(
        config,
        Call::Scan,
        deadline,
        config.store.scan(after, limit),
    )
    .await
}

/// Waits for a store, until the deadline if it does not answer at once, and has it noted what came of that.
async fn in_time<T>(
    config: &Config,
    call: Call,
    deadline: Instant,
    answer: Answer<'_, T>,
) -> Result<T, StoreError> {
    if config.store.at_once().is_some() {
        let answer = answer.await;
        config.health.answered_at_once(call, &answer);
        return answer;
    }
    let begun = Instant::now();
    let answer = Box::pin(timeout_at(deadline, answer)).await;
    let answer = answer.unwrap_or_else(|_| Err(StoreError::timeout()));
    config.health.answered(call, begun, &answer);
    answer
}
