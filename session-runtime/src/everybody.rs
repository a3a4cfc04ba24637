//! The sessions of everybody: walking through them, and ending them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use crate::amend::{amend, look, scan};
use crate::config::Config;
use crate::error::Error;
use crate::event::EventKind;
use crate::key::{Key, Selector};
use crate::plan::end;
use crate::record::{Ended, Record};
use crate::revoke::OfUser;
use crate::task::all;

/// How many sessions are looked at together.
const TOGETHER: usize = 100;

/// Some sessions that are live, and where to go on.
pub(crate) struct Found {
    pub(crate) sessions: Vec<(Selector, Arc<Record>)>,
    pub(crate) next: Option<String>,
}

/// Finds some of all sessions: one call that lists them, and one for each, all at once.
pub(crate) async fn find(config: &Config, after: Option<&str>) -> Result<Found, Error> {
    let deadline = Instant::now() + config.deadline;
    let scanned = scan(config, after, TOGETHER, deadline).await?;
    let selectors = scanned.keys.into_iter().filter_map(|key| match key {
        Key::Session(selector) => Some(selector),
        Key::User(_) => None,
    });
    let look_up = async |selector: Selector| {
        let record = look(config, &Key::from(selector), deadline).await?;
        Ok::<_, Error>(record.map(|record| (selector, record)))
    };
    let found = all(selectors.map(look_up)).await;
    let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    let now = config.now();
    let is_live = |record: &Record| record.ended().is_none() && record.is_live(now);
    let sessions = found.into_iter().flatten();
    Ok(Found {
        sessions: sessions.filter(|(_, record)| is_live(record)).collect(),
        next: scanned.next,
    })
}

/// Ends some of all sessions, and returns how many that were, and where to go on. Of each user who has one of them it ends
/// all, so that logins that are under way fail, too.
pub(crate) async fn end_some(
    config: &Arc<Config>,
    after: Option<&str>,
) -> Result<(usize, Option<String>), Error> {
    let Found { sessions, next } = find(config, after).await?;
    let users: BTreeSet<_> = sessions
        .iter()
        .filter_map(|(_, there)| there.user())
        .collect();
    let mut ended = 0;
    for user in users {
        ended += OfUser::new(config, user)?.revoke_all(None).await?;
    }
    // Guests, and what is in no user's list.
    let deadline = Instant::now() + config.deadline;
    let end = async |(selector, seen): (Selector, Arc<Record>)| {
        end_one(config, selector, seen, deadline).await
    };
    let others = all(sessions.into_iter().map(end)).await;
    let others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
    ended += others.into_iter().filter(|ended| *ended).count();
    Ok((ended, next))
}

async fn end_one(
    config: &Config,
    selector: Selector,
    seen: Arc<Record>,
    deadline: Instant,
) -> Result<bool, Error> {
    let key = Key::from(selector);
    let ended = amend(config, &key, Some(seen), deadline, |there, now| {
        Ok(end::of_anybody(there, now))
    });
    let ended = ended.await?.outcome;
    if let Some(record) = &ended {
        config.emit(EventKind::Ended(Ended::Revoked), &key, record.user());
    }
    Ok(ended.is_some())
}
