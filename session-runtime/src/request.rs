//! The request's own state: what the client presented, what was loaded for it, and what its handles changed.
//!
//! Every handle is a small transaction over it. Loading and committing go one at a time, behind `gate`; what
//! handles fold in when they drop only takes the lock on the state, for a moment.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request::Parts;
use http::{StatusCode, response};

use crate::clock::Timestamp;
use crate::commit::{self, Commit, Found, Pending, fact};
use crate::config::Config;
use crate::error::Error;
use crate::id::SessionId;
use crate::key::{Key, UserId};
use crate::observe;
use crate::record::{Ended, Record, Slot};
use crate::schema::{Deed, Harvest, Lifetime, facts};
use crate::task::to_its_end;
use crate::transport::{Notice, Presented};

mod account;
mod client;
mod credit;
mod fold;
mod gathered;
mod login;
mod part;
mod seat;
mod state;
mod waiting;
mod write;

use account::{account_of, owner_of};
use client::Client;
use state::{Barred, Phase, State, Taken, Told};

/// One request's session.
pub(crate) struct Request {
    pub(crate) config: Arc<Config>,
    gate: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// What came of [`Session::save`](crate::Session::save).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// What was changed is in the store.
    Written,
    /// There was nothing to write.
    Unchanged,
    /// The session was ended while the request was running. The changes are dropped; nothing brings it back.
    Ended,
}

impl Saved {
    fn written(written: bool) -> Self {
        if written {
            Self::Written
        } else {
            Self::Unchanged
        }
    }

    /// This, unless it is that nothing was written; then `other`.
    fn or(self, other: Self) -> Self {
        if self == Self::Unchanged { other } else { self }
    }
}

impl Request {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            gate: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to load and commit. A handler may have begun a save and left it at that: nobody waits for it
    /// longer than for a store.
    async fn gate(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Error> {
        if let Ok(gate) = self.gate.try_lock() {
            return Ok(gate);
        }
        let gate = tokio::time::timeout(self.config.deadline, self.gate.lock());
        Box::pin(gate).await.map_err(|_| Error::timeout())
    }

    /// Loads what the client presented, once per request.
    pub(crate) async fn load(&self, parts: &Parts) -> Result<(), Error> {
        if self.state().client.is_some() {
            return Ok(());
        }
        let _gate = self.gate().await?;
        if self.state().client.is_some() {
            return Ok(());
        }
        let client = Client::of(parts, &self.config);
        match self.config.transport.read(&parts.headers) {
            Presented::Nothing => {}
            Presented::Malformed(why) => {
                observe::malformed(why);
                self.state().ended = Some(Ended::Malformed);
            }
            Presented::Id(id) => self.open(id, &client).await?,
        }
        self.state().client = Some(client);
        Ok(())
    }

    async fn open(&self, id: SessionId, client: &Client) -> Result<(), Error> {
        let presented = Key::from(&id);
        match self.find(presented.clone()).await? {
            Found::Live(key, record) => match client.differs(&record, &self.config) {
                None => {
                    let mut state = self.state();
                    state.presents = key == presented;
                    state.id = Some(id);
                    state.account = account_of(&record);
                    state.session.found(key, record);
                }
                Some(reason) => Box::pin(self.evict(key, &record, reason)).await,
            },
            Found::Superseded(reason) => {
                let mut state = self.state();
                state.ended = Some(reason);
                state.barred = Some(Barred::Superseded);
            }
            Found::Claimed(key, record) => {
                let mut state = self.state();
                state.ended = Some(Ended::LoggedIn);
                state.barred = Some(Barred::Superseded);
                state.frozen = Some((key, record));
            }
            Found::Ended(reason) => self.state().ended = Some(reason),
            Found::Abandoned { .. } => self.state().ended = Some(Ended::LoggedIn),
        }
        Ok(())
    }

    /// Ends a session that someone else than its owner seems to hold.
    async fn evict(&self, key: Key, record: &Record, reason: Ended) {
        let owner = owner_of(record);
        tracing::warn!(session = ?key, ?reason, "a session is ended: it is presented by another client than it is bound to");
        let removed = commit::end(&self.config, key, reason.clone(), owner.as_ref()).await;
        let mut state = self.state();
        state.ended = Some(reason);
        match removed {
            Ok(true) => state.notice = Some(Told::Removed),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "it could not be ended in the store; this request does not see it");
            }
        }
    }

    /// Takes note that a schema with these lifetimes is in use; `touch` if that counts as use of the session.
    pub(crate) fn uses(&self, lifetime: Lifetime, touch: bool) {
        let mut state = self.state();
        let (ttl, absolute) = self.config.lifetimes(lifetime);
        let asked = Lifetime {
            ttl: Some(ttl),
            absolute: Some(absolute),
        };
        state.lifetime = state.lifetime.longest(asked);
        state.touch |= touch;
    }

    /// Whether another request changed the session is looked up now, and changes go on top of that.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let _gate = self.gate().await?;
        let _ = self.settle_doubt().await?;
        let (session, account) = {
            let state = self.state();
            let account = state
                .account
                .as_ref()
                .and_then(|account| account.key.clone());
            (state.session.key.clone(), account)
        };
        let Some(session) = session else {
            return Ok(());
        };
        let found = self.find(session).await?;
        let account = match account {
            Some(key) => commit::look_up(&self.config, &key)
                .await?
                .map(|record| (key, record)),
            None => None,
        };
        self.state().refreshed(found, account, self.config.now())
    }

    /// Writes what is pending.
    pub(crate) async fn save(self: Arc<Self>) -> Result<Saved, Error> {
        to_its_end(async move {
            let _gate = self.gate().await?;
            self.check_in_time()?;
            self.write(None).await
        })
        .await
    }

    /// A new id can only be sent by a response that has not left yet.
    fn check_in_time(&self) -> Result<(), Error> {
        let state = self.state();
        let creates = state.session.key.is_none() && state.has_changes();
        if state.phase != Phase::Running && creates {
            Err(Error::too_late())
        } else {
            Ok(())
        }
    }

    /// Writes what is pending when the handler has finished.
    pub(crate) async fn finish(self: Arc<Self>) -> Result<(), Error> {
        let written = match self.gate().await {
            Ok(_gate) => self.write(None).await,
            Err(error) => Err(error),
        };
        if written.is_err() {
            self.state().drop_changes(); // the client is told
        }
        written.map(drop)
    }

    /// Writes what is pending and moves the session to a new id. A session that is not stored yet gets its
    /// id when it is.
    pub(crate) async fn rotate(self: Arc<Self>) -> Result<(), Error> {
        to_its_end(async move {
            let _gate = self.gate().await?;
            let (current, phase) = {
                let state = self.state();
                (
                    state.id.filter(|_| state.session.key.is_some()),
                    state.phase,
                )
            };
            let Some(current) = current else {
                return Ok(());
            };
            if phase != Phase::Running {
                return Err(Error::too_late());
            }
            self.write(Some(&current.successor()?)).await.map(drop)
        })
        .await
    }

    /// Ends the session, here and in the store.
    pub(crate) async fn delete(self: Arc<Self>, reason: String) -> Result<(), Error> {
        to_its_end(async move {
            let _gate = self.gate().await?;
            self.end(Ended::Deleted(reason)).await
        })
        .await
    }

    /// Ends the session, be it frozen for a login: that may have been broken off. Whoever calls it holds the gate.
    async fn end(&self, reason: Ended) -> Result<(), Error> {
        let Some((key, record)) = self.state().presented() else {
            self.state().forget();
            return Ok(());
        };
        let user = owner_of(&record);
        let removed = commit::end(&self.config, key, reason.clone(), user.as_ref()).await?;
        let mut state = self.state();
        state.forget();
        if removed {
            state.notice = Some(Told::Removed);
            // It was frozen at most: what comes now may begin anew.
            state.barred = state.barred.filter(|barred| *barred == Barred::Panicked);
        }
        if state.barred.is_none() {
            state.ended = Some(reason);
        }
        Ok(())
    }

    /// Takes a flash out of the store. See [`Flash::claim`](crate::Flash::claim).
    pub(crate) async fn claim(
        self: Arc<Self>,
        name: &'static str,
        seen: Arc<Slot>,
    ) -> Result<Option<Arc<Slot>>, Error> {
        to_its_end(async move {
            let _gate = self.gate().await?;
            let stored = match self.state().take_passing(name) {
                Taken::Ours(slot) => return Ok(slot),
                Taken::Stored(key) => key,
            };
            let Some(key) = stored else { return Ok(None) };
            let claimed = commit::take_out(&self.config, key, &seen).await?;
            self.state().session.forget_slot(seen.name());
            Ok(claimed)
        })
        .await
    }

    /// Asks for another idle lifetime for this one session.
    pub(crate) fn set_ttl(&self, ttl: Duration) {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut state = self.state();
        let base = state.session.stored_slot(facts::TTL.name());
        state
            .session
            .replace(Pending::fact(&facts::TTL, base, Some(&millis)));
    }

    /// Lifts the binding to address and user agent.
    pub(crate) fn unbind(&self) {
        let mut state = self.state();
        if let Some(client) = &mut state.client {
            client.unbound = true;
        }
        let unbound = client::unbound(state.session.stored.as_deref());
        state.session.replace(unbound);
    }

    pub(crate) fn facts(&self) -> Facts {
        let state = self.state();
        let record = state.session.stored.as_deref();
        Facts {
            id: state.id.filter(|_| state.session.key.is_some()),
            is_stored: record.is_some(),
            ended: state.ended.clone(),
            created: record
                .and_then(|record| fact(record, &facts::CREATED))
                .map(Timestamp::from_millis),
            updated: record.map(|record| record.updated),
            expires: record.map(|record| record.expires),
            user: record.and_then(owner_of),
            device: record.and_then(|record| fact(record, &facts::DEVICE)),
            authenticated: record
                .and_then(|record| fact(record, &facts::AUTHENTICATED))
                .map(Timestamp::from_millis),
        }
    }

    /// Decides what of the handler's work is committed: this is the end of the request.
    pub(crate) fn close(&self, response: &response::Parts) -> Closing {
        let mut state = self.state();
        state.phase = Phase::Closed;
        if let Some(failure) = state.failure.take() {
            state.drop_changes();
            return Closing::Failed(failure);
        }
        if state.barred == Some(Barred::Panicked) || !self.is_wanted(response) {
            state.drop_changes();
            return Closing::Settled;
        }
        if state.has_changes() {
            return Closing::Writes;
        }
        let stored = state.session.key.clone().zip(state.session.stored.clone());
        let Some((key, record)) = stored.filter(|_| state.barred.is_none()) else {
            state.drop_changes();
            return Closing::Settled;
        };
        let (policy, presented) = (state.policy(&self.config), state.presents);
        drop(state);
        let commit = Commit {
            config: &self.config,
            policy,
            key,
            record,
            pending: Vec::new(),
            successor: None,
            presented,
            asked: None,
        };
        if commit.is_due(self.config.now()) {
            Closing::Touches
        } else {
            Closing::Settled
        }
    }

    fn is_wanted(&self, response: &response::Parts) -> bool {
        let timed_out =
            [StatusCode::REQUEST_TIMEOUT, StatusCode::GATEWAY_TIMEOUT].contains(&response.status);
        !timed_out
            && self
                .config
                .commit_if
                .as_ref()
                .is_none_or(|commit_if| commit_if(response))
    }

    /// What the response is to tell the client, and whether it depends on what the request presented.
    pub(crate) fn notice(&self) -> (Option<Notice>, bool) {
        let state = self.state();
        let notice = state.notice.map(|told| match told {
            Told::Issued(id) => Notice::Issue(id, state.policy(&self.config).absolute),
            Told::Removed => Notice::Remove,
        });
        (notice, state.client.is_some())
    }
}

/// The session's own facts, as a request knows them.
pub(crate) struct Facts {
    pub(crate) id: Option<SessionId>,
    pub(crate) is_stored: bool,
    pub(crate) ended: Option<Ended>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) updated: Option<Timestamp>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) user: Option<UserId>,
    pub(crate) device: Option<String>,
    pub(crate) authenticated: Option<Timestamp>,
}

/// What is left to do when the handler has finished.
pub(crate) enum Closing {
    /// Nothing.
    Settled,
    /// What it changed is to be written; the response waits for it, and fails with it.
    Writes,
    /// Only the lifetime is to be extended; the response waits, but does not fail with it.
    Touches,
    /// What it changed cannot be written.
    Failed(Error),
}

/// Logs what a handle did that nothing will come of.
fn unsaved(harvest: &[Harvest]) {
    let lost = |harvest: &&Harvest| matches!(harvest.deed, Deed::Changed | Deed::UsedUp);
    observe::unsaved(harvest.iter().filter(lost).count());
}

impl Drop for Request {
    /// What was folded in after the response, and not saved, is lost.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.phase == Phase::Closed {
            let (session, account) = state.pending();
            let pending = session.iter().chain(account.iter().flatten());
            observe::unsaved(pending.filter(|pending| pending.is_change()).count());
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "memory", feature = "cookie"))]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use crate::transport::CookieTransport;

    /// What allocators hand out without ado: glibc's limit, which is the lowest.
    const QUICK: usize = 1032;

    /// Futures grow unseen. What is rarely waited for has a box of its own instead.
    #[test]
    fn what_is_set_aside_for_each_request_is_small() {
        let store = Arc::new(MemoryStore::new());
        let config = Config::new(store, CookieTransport::new().into());
        let request = Arc::new(Request::new(Arc::new(config)));
        let (parts, ()) = http::Request::new(()).into_parts();
        assert!(size_of::<Request>() < QUICK);
        assert!(size_of_val(&request.load(&parts)) < QUICK * 2 / 3); // a part of the handler's
        assert!(size_of_val(&Arc::clone(&request).finish()) < QUICK);
    }
}
