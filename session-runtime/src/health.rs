//! Whether the store answers: what its calls take and fail with, and since when it is away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::error::Causes;
use crate::observe;
use crate::store::StoreError;

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

    /// Takes note of an answer, or that none came: the first that fails is logged, and the first that does not again.
    pub(crate) fn answered<T>(&self, call: Call, begun: Instant, answer: &Result<T, StoreError>) {
        observe::store_call(&self.name, call.name(), begun);
        self.note(call, begun, answer);
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
                let (lasted, failed) = (over.since.elapsed(), over.failed);
                *outage = None;
                self.is_away.store(false, Ordering::Relaxed);
                drop(outage);
                observe::reachable(&self.name, lasted, failed);
            }
            (Err(error), Some(outage)) if error.is_away() => outage.failed += 1,
            (Err(error), none @ None) if error.is_away() => {
                let (since, failed) = (begun, 1);
                *none = Some(Outage { since, failed });
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
