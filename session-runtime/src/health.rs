//! Whether the store answers: what its calls take and fail with, and since when it is away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Causes;
use crate::observe;
use crate::store::StoreError;

/// An outage is over once the store has answered, and nothing has failed, for so long. Where some calls are answered and others are not, since
/// one node of a Cluster is away say, it goes on.
const STEADY: Duration = Duration::from_secs(5);

/// One store, as seen by the layers that have it.
pub(crate) struct Health {
    /// What logs and metrics call it.
    name: String,
    outage: Mutex<Option<Outage>>,
    /// Is `true` in an outage: a store that answers at once has no time to ask for more.
    is_away: AtomicBool,
}

/// The store has not answered for some time.
struct Outage {
    since: Instant,
    failed: usize,
    /// Since when it has answered again.
    back: Option<Instant>,
}

impl Outage {
    fn fails(&mut self) {
        self.failed += 1;
        self.back = None;
    }

    /// Takes note of an answer. Returns how long the outage was, if it is over.
    fn answers(&mut self) -> Option<Duration> {
        let back = *self.back.get_or_insert_with(Instant::now);
        (back.elapsed() >= STEADY).then(|| back.duration_since(self.since))
    }
}

/// A kind of call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Load,
    Swap,
    Scan,
    Sweep,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Swap => "swap",
            Self::Scan => "scan",
            Self::Sweep => "sweep",
        }
    }
}

impl Health {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            outage: Mutex::default(),
            is_away: AtomicBool::new(false),
        }
    }

    /// Takes note of an answer, or that none came: the first that fails is logged, and that none does any more.
    pub(crate) fn answered<T>(&self, call: Call, begun: Instant, answer: &Result<T, StoreError>) {
        self.took(call, begun);
        self.note(call, begun, answer);
    }

    /// Takes note of what a call took, which tells nothing else.
    pub(crate) fn took(&self, call: Call, begun: Instant) {
        observe::store_call(&self.name, call.name(), begun);
    }

    /// Does the same for a store that answers at once: it costs nothing while all is well, so nothing is measured.
    pub(crate) fn answered_at_once<T>(&self, call: Call, answer: &Result<T, StoreError>) {
        if answer.is_err() || self.is_away.load(Ordering::Relaxed) {
            self.note(call, Instant::now(), answer);
        }
    }

    fn note<T>(&self, call: Call, begun: Instant, answer: &Result<T, StoreError>) {
        if let Err(error) = answer {
            observe::store_error(&self.name, call.name(), error.label());
        }
        let mut outage = self.outage();
        match (answer, &mut *outage) {
            (Ok(_), Some(over)) => {
                let Some(lasted) = over.answers() else {
                    return;
                };
                let failed = over.failed;
                *outage = None;
                self.is_away.store(false, Ordering::Relaxed);
                drop(outage);
                observe::reachable(&self.name, lasted, failed);
            }
            (Err(error), Some(outage)) if error.is_away() => outage.fails(),
            (Err(error), none @ None) if error.is_away() => {
                *none = Some(Outage {
                    since: begun,
                    failed: 1,
                    back: None,
                });
                self.is_away.store(true, Ordering::Relaxed);
                drop(outage);
                observe::unreachable(&self.name, Causes(error));
            }
            _ => {}
        }
    }

    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
