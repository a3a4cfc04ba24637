//! Crediting a user with what a session has set apart since its login, or discarding it.

use std::sync::Arc;

use tokio::time::Instant;

use crate::amend::amend;
use crate::config::Config;
use crate::error::Error;
use crate::event::EventKind;
use crate::key::{Key, UserId};
use crate::plan::confirm::{Credit, Fate};
use crate::record::Record;

/// Merges what a session has set apart into its user's record, each number once; or notes there that it is not wanted.
/// `seen` is that record as it was looked up. Returns it as it is now.
pub(crate) async fn credit(
    config: &Config,
    user: &UserId,
    seen: Option<Arc<Record>>,
    credit: &Credit<'_>,
    deadline: Instant,
) -> Result<Option<Arc<Record>>, Error> {
    let key = Key::User(user.clone());
    let amended = amend(config, &key, seen, deadline, |there, now| {
        Ok(credit.plan(there, now))
    });
    let amended = amended.await?;
    if amended.outcome && credit.fate == Fate::Credited {
        config.emit(EventKind::Merged, &Key::from(credit.selector), Some(user));
    }
    Ok(amended.record)
}
