//! Sweeping: the task that deletes expired records in the background.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::config::Config;
use crate::error::{Causes, StoreError};
use crate::event::{EventKind, EventSink};
use crate::record::Ended;
use crate::store::{AnyStore, Swept};

/// At most so many records go in one call: no request waits for more than that.
const BATCH: usize = 5;

/// How long a call may take, whatever else the store tidies up in it: this is for one that has fallen silent.
const LONGEST: Duration = Duration::from_secs(120);

/// How long requests have the store to themselves between two batches, in batches: a store that is slow since it has
/// much to do is swept the more slowly.
const PAUSE: u32 = 40;

/// Starts the sweeping task with the first request, when a runtime is sure to be there. The task ends with
/// the last layer that has the store.
pub(crate) fn start(config: &Config) {
    let Some(period) = config
        .sweep_every
        .filter(|_| !config.sweeping.is_completed())
    else {
        return;
    };
    let sweeper = Sweeper {
        store: Arc::downgrade(&config.store),
        events: config.events.clone(),
    };
    config
        .sweeping
        .call_once(|| drop(tokio::spawn(sweeper.run(period))));
}

struct Sweeper {
    store: Weak<dyn AnyStore>,
    events: EventSink,
}

impl Sweeper {
    async fn run(self, period: Duration) {
        loop {
            // Many instances that start together should not sweep together.
            tokio::time::sleep(period.mul_f64(0.5 + rand::random::<f64>())).await;
            let Some(store) = self.store.upgrade() else {
                return;
            };
            self.sweep(&*store).await;
        }
    }

    async fn sweep(&self, store: &dyn AnyStore) {
        loop {
            let begun = Instant::now();
            let swept = timeout(LONGEST, store.sweep(BATCH)).await;
            match swept.unwrap_or_else(|_| Err(StoreError::timeout())) {
                Ok(swept) => {
                    self.emit(&swept);
                    tracing::debug!(swept = swept.deleted, "expired sessions are swept");
                    if swept.deleted < BATCH {
                        return;
                    }
                    tokio::time::sleep(PAUSE * begun.elapsed()).await;
                }
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "expired sessions could not be swept");
                    return;
                }
            }
        }
    }

    fn emit(&self, swept: &Swept) {
        for (key, user) in &swept.expired {
            let kind = EventKind::Ended(Ended::Expired);
            self.events.emit_to_all(&kind, key, user.as_ref());
        }
    }
}
