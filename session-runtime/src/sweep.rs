//! Sweeping: the task that deletes expired records in the background.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::config::Config;
use crate::error::Causes;
use crate::store::AnyStore;

/// At most so many records go in one call, so that requests get their turn.
const BATCH: usize = 1000;

/// How long requests have the store to themselves between two batches.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts the sweeping task with the first request, when a runtime is sure to be there. The task ends with
/// the last layer that has the store.
pub(crate) fn start(config: &Config) {
    let Some(period) = config
        .sweep_every
        .filter(|_| !config.sweeping.is_completed())
    else {
        return;
    };
    let store = Arc::downgrade(&config.store);
    config
        .sweeping
        .call_once(|| drop(tokio::spawn(run(store, period))));
}

async fn run(store: Weak<dyn AnyStore>, period: Duration) {
    loop {
        // Many instances that start together should not sweep together.
        tokio::time::sleep(period.mul_f64(0.5 + rand::random::<f64>())).await;
        let Some(store) = store.upgrade() else { return };
        sweep(&*store).await;
    }
}

async fn sweep(store: &dyn AnyStore) {
    loop {
        match store.sweep(BATCH).await {
            Ok(swept) if swept >= BATCH => tokio::time::sleep(PAUSE).await,
            Ok(swept) => {
                tracing::debug!(swept, "expired sessions are swept");
                return;
            }
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "expired sessions could not be swept");
                return;
            }
        }
    }
}
