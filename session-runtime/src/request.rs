//! The request's own state: what the client presented, what was loaded for it, and what its handles changed.
//!
//! Every handle is a small transaction over it. Loading and writing go one at a time, behind `gate`; what
//! handles fold in when they drop only takes the lock on the state, for a moment.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode, response};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Error;
use crate::id::SessionId;
use crate::key::UserId;
use crate::observe;
use crate::record::{Ended, Record};
use crate::row::Lifetime;
use crate::transport::Notice;

mod client;
mod end;
mod fold;
mod load;
mod log_in;
mod state;
mod tracked;
mod write;

pub(crate) use fold::{View, count_panics};
pub use write::Saved;

use state::{CookieAction, Phase, State, WriteBlock};

/// One request's session.
pub(crate) struct Request {
    pub(crate) config: Arc<Config>,
    /// Has one permit: to load and write.
    gate: Semaphore,
    /// Set once what the client presented was looked up.
    loaded: AtomicBool,
    state: Mutex<State>,
    /// A flash was read.
    reads_flash: AtomicBool,
    /// How many handles are open whose cells were borrowed mutably.
    open_changes: AtomicU32,
}

/// The right to load and write, and until when the store may take its time.
struct Gate<'a> {
    _permit: SemaphorePermit<'a>,
    deadline: Instant,
}

impl Request {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            gate: Semaphore::new(1),
            loaded: AtomicBool::new(false),
            state: Mutex::default(),
            reads_flash: AtomicBool::new(false),
            open_changes: AtomicU32::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if what the client presented was looked up.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Returns until when the store may take its time for what somebody begins to wait for now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.deadline
    }

    async fn gate(&self) -> Result<Gate<'_>, Error> {
        self.gate_by(self.deadline()).await
    }

    /// Waits for the right to load and write. A handler may have begun a save and left it at that: nobody waits for it
    /// longer than for a store.
    async fn gate_by(&self, deadline: Instant) -> Result<Gate<'_>, Error> {
        let permit = if let Ok(permit) = self.gate.try_acquire() {
            permit
        } else {
            let waited = tokio::time::timeout_at(deadline, self.gate.acquire());
            let permit = Box::pin(waited).await.map_err(|_| Error::timeout())?;
            permit.expect("nobody closes the gate")
        };
        Ok(Gate {
            _permit: permit,
            deadline,
        })
    }

    /// Takes note that a schema with these lifetimes is in use; `touch` if that counts as use of the session.
    ///
    /// # Errors
    ///
    /// If no browser keeps a cookie for as long as the schema says.
    pub(crate) fn uses(&self, lifetime: Lifetime, touch: bool) -> Result<(), Error> {
        let mut state = self.state();
        if let (Some(longest), Some(client)) = (lifetime.absolute, &state.client) {
            let checked = client.transport(&self.config).check_lifetime(longest);
            checked.map_err(Error::lifetime)?;
        }
        let lifetimes = self.config.lifetimes(lifetime);
        let asked = Lifetime {
            ttl: Some(lifetimes.ttl),
            absolute: Some(lifetimes.absolute),
        };
        state.lifetime = state.lifetime.longest(asked);
        state.touch |= touch;
        Ok(())
    }

    /// Takes note that the store has failed to answer: nobody waits for it once more only to extend the session.
    pub(crate) fn spare_the_store(&self) {
        self.state().spares_the_store = true;
    }

    /// Takes note that a flash was read: handles that changed nothing have to tell of that.
    pub(crate) fn reads_flash(&self) {
        self.reads_flash.store(true, Ordering::Relaxed);
    }

    /// A handle's cells are borrowed mutably.
    pub(crate) fn opens_changes(&self) {
        self.open_changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a handle is closed, and what it changed is folded in.
    pub(crate) fn closes_changes(&self) {
        self.open_changes.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns `true` if some handle may hold changes that no other sees.
    pub(crate) fn has_open_changes(&self) -> bool {
        self.open_changes.load(Ordering::Relaxed) > 0
    }

    /// Returns `true` if any was.
    pub(crate) fn has_read_flashes(&self) -> bool {
        self.reads_flash.load(Ordering::Relaxed)
    }

    /// Asks for another idle lifetime for this one session.
    pub(crate) fn set_ttl(&self, ttl: Duration) {
        self.state().facts.ttl = Some(ttl);
    }

    /// Asks for the session to end then, if not before.
    pub(crate) fn set_end(&self, at: Timestamp) {
        self.state().facts.ends = Some(at);
    }

    /// Asks the browser to keep the cookie when it is closed, or not to.
    pub(crate) fn remember(&self, wanted: bool) {
        self.state().facts.kept = Some(wanted);
    }

    /// Returns `true` if something was changed that is not written yet.
    pub(crate) fn is_changed(&self) -> bool {
        self.state().is_changed()
    }

    /// Forgets what was changed and is not written yet.
    pub(crate) fn forget_changes(&self) {
        self.state().forget_changes();
    }

    /// Lifts the binding to address and user agent.
    pub(crate) fn unbind(&self) {
        self.state().facts.unbound = true;
    }

    pub(crate) fn facts(&self) -> Facts {
        let state = self.state();
        let record = state.session.stored.as_deref();
        let head = record.map(|record| &record.head);
        Facts {
            id: state.id.filter(|_| record.is_some()).map(|by| by.id),
            is_stored: record.is_some(),
            ended: state.ended.clone(),
            created: head.map(|head| head.created),
            updated: record.map(|record| record.updated),
            user: head.and_then(|head| head.user.clone()),
            authenticated: head.and_then(|head| head.authenticated),
        }
    }

    /// Returns when the session expires if nothing more happens, this request included.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        let state = self.state();
        let record = state.session.stored.as_deref()?;
        let lifetimes = state.lifetimes(&self.config);
        if state.facts.is_of_time() {
            let mut wanted = Record::clone(record);
            if state.facts.apply(&mut wanted) {
                let now = self.config.now();
                let used = if record.is_live(now) { now } else { state.at };
                return Some(lifetimes.extended(&wanted.head, used));
            }
        }
        let touches = state.touch && state.block.is_none();
        let extends = touches
            && lifetimes.is_due(record, state.at)
            && self.config.watch.is_steady(self.config.now());
        Some(if extends {
            lifetimes.extended(&record.head, state.at)
        } else {
            record.expires()
        })
    }

    /// Decides what of the handler's work is written: this is the end of the request.
    pub(crate) fn close(&self, response: &response::Parts) -> Closing {
        if !self.is_loaded() {
            self.state().phase = Phase::Closed;
            return Closing::Done;
        }
        match self.decide(response) {
            Closing::Done if self.is_busy() => Closing::Waits(None),
            Closing::Failed(error) if self.is_busy() => Closing::Waits(Some(error)),
            closing => closing,
        }
    }

    /// Returns `true` if a handler has begun something and left it at that: a login say, whose id this response is to tell.
    fn is_busy(&self) -> bool {
        self.gate.available_permits() == 0
    }

    /// Waits until what was begun is done, for as long as for a store. Fails then, if it is told to.
    pub(crate) async fn idle(self: Arc<Self>, failure: Option<Error>) -> Result<(), Error> {
        drop(self.gate().await);
        failure.map_or(Ok(()), Err)
    }

    fn decide(&self, response: &response::Parts) -> Closing {
        let is_wanted = self.is_wanted(response);
        let mut state = self.state();
        state.phase = Phase::Closed;
        let fails = state.failure.is_some() || !is_wanted || shows_nothing(response.status);
        if let Some(client) = &mut state.client {
            client.looks &= !fails;
        }
        if let Some(failure) = state.failure.take() {
            state.drop_edits();
            return Closing::Failed(failure);
        }
        if state.block == Some(WriteBlock::CrossSite) && state.session.has_edits() {
            self.config.hints.cross_site();
        }
        let panicked = state.block == Some(WriteBlock::Panicked)
            || state.caught && response.status.is_server_error();
        if panicked || !is_wanted {
            state.drop_edits();
            return Closing::Done;
        }
        if !state.is_shown() {
            state.session.edits.retain(|edit| !edit.used_up);
        }
        if state.has_changes() {
            return if state.only_slides() {
                Closing::Touches
            } else {
                Closing::Writes
            };
        }
        if state.block.is_some() || state.session.stored.is_none() || state.spares_the_store {
            state.drop_edits();
            return Closing::Done;
        }
        if self.is_due(&state) {
            Closing::Touches
        } else {
            Closing::Done
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

    /// Returns what the response is to tell the client, and `true` if it depends on what the request presented.
    pub(crate) fn notice(&self) -> (Option<Notice>, bool) {
        if !self.is_loaded() {
            return (None, false);
        }
        let state = self.state();
        let notice = state.cookie.map(|cookie| match cookie {
            CookieAction::Issue(id) => Notice::Issue {
                id,
                longest: state.lifetimes(&self.config).absolute,
                kept: state.keeps_cookie(),
            },
            CookieAction::Remove => Notice::Remove,
        });
        let refuses = state.client.as_ref().is_some_and(|client| client.refuses);
        if refuses && matches!(notice, Some(Notice::Issue { .. })) {
            self.config.hints.refused();
        }
        (notice, true)
    }

    /// Writes what the client is to be told into a response's headers.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, notice: Notice) {
        let state = self.state();
        match &state.client {
            Some(client) => client
                .transport(&self.config)
                .write(headers, notice, client.port),
            None => self.config.transport.write(headers, notice, None),
        }
    }
}

/// Returns `true` if nobody sees a page by such a response: what it would have shown once is shown by the next.
fn shows_nothing(status: StatusCode) -> bool {
    status == StatusCode::NOT_MODIFIED || status.is_server_error()
}

/// The session's own facts, as a request knows them.
pub(crate) struct Facts {
    pub(crate) id: Option<SessionId>,
    pub(crate) is_stored: bool,
    pub(crate) ended: Option<Ended>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) updated: Option<Timestamp>,
    pub(crate) user: Option<UserId>,
    pub(crate) authenticated: Option<Timestamp>,
}

/// The work that is left when the handler has finished.
pub(crate) enum Closing {
    /// Nothing.
    Done,
    /// Nothing but to wait for what was begun and not waited for; and to fail then, if what else it changed cannot be written.
    Waits(Option<Error>),
    /// What it changed is to be written; the response waits for it, and fails with it.
    Writes,
    /// Only the use of the session is to be noted; the response waits, but does not fail with it.
    Touches,
    /// What it changed cannot be written.
    Failed(Error),
}

impl Drop for Request {
    /// Tells of what was folded in after the response, and not saved: it is lost.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.phase == Phase::Closed && state.block.is_none() {
            let edits = state.edits().filter(|edit| edit.is_asked_for()).count();
            observe::unsaved(edits + usize::from(state.facts.is_any()));
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
    use crate::task::boxed_if_it_waits;
    use crate::transport::CookieTransport;

    /// What allocators hand out without ado: glibc's limit, which is the lowest.
    const QUICK: usize = 1032;

    #[tokio::test]
    async fn a_deadline_may_be_as_long_as_a_duration_can_be() {
        let layer = crate::SessionLayer::new(MemoryStore::new()).deadline(Duration::MAX);
        assert_eq!(layer.sessions().count().await.unwrap(), 0);
    }

    /// Futures grow unseen. What is rarely waited for has a box of its own instead.
    #[test]
    fn what_is_set_aside_for_each_request_is_small() {
        let store = Arc::new(MemoryStore::new());
        let config = Config::new(store, CookieTransport::new().into());
        let request = Arc::new(Request::new(Arc::new(config)));
        let (parts, ()) = http::Request::new(()).into_parts();
        assert!(size_of::<Request>() < QUICK);
        let load = || request.load(&parts, request.deadline());
        assert!(size_of_val(&load()) < QUICK); // has a box where it waits
        assert!(size_of_val(&boxed_if_it_waits(true, load)) < QUICK / 8); // a part of the handler's
        // One allocation, and only before a round trip: all that a write awaits is in it.
        assert!(size_of_val(&Arc::clone(&request).finish()) < QUICK * 5 / 4);
    }
}
