//! Whether the store answers: what its calls take and fail with, and since when it is away.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::error::{Causes, StoreError};
use crate::observe;

/// One store, as seen by the layers that have it.
pub(crate) struct Health {
    /// What logs and metrics call it.
    name: String,
    outage: Mutex<Option<Outage>>,
}

/// The store has not answered for some time.
struct Outage {
    since: Instant,
    failed: usize,
}

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Load,
    Swap,
    Sweep,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Swap => "swap",
            Self::Sweep => "sweep",
        }
    }
}

impl Health {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            outage: Mutex::default(),
        }
    }

    /// Takes note of an answer, or that none came: the first that fails is logged, and the first that does not again.
    pub(crate) fn answered<T>(&self, call: Call, begun: Instant, answer: &Result<T, StoreError>) {
        let cause = answer.as_ref().err().map(StoreError::label);
        observe::store_call(&self.name, call.name(), begun, cause);
        let mut outage = self.outage();
        match (answer, &mut *outage) {
            (Ok(_), Some(over)) => {
                let (lasted, failed) = (over.since.elapsed(), over.failed);
                *outage = None;
                drop(outage);
                observe::reachable(&self.name, lasted, failed);
            }
            (Err(error), Some(outage)) if error.is_away() => outage.failed += 1,
            (Err(error), none @ None) if error.is_away() => {
                let (since, failed) = (begun, 1);
                *none = Some(Outage { since, failed });
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
