//! What handles see of a request's state, and how what they changed is folded into it.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use super::state::{Barred, Phase, State};
use super::{Request, unsaved};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::observe;
use crate::record::{Record, Slot};
use crate::schema::{Deed, Harvest};

thread_local! {
    /// The request whose handler this thread is running.
    static RUNNING: Cell<*const Request> = const { Cell::new(ptr::null()) };
}

/// While it lives, its thread runs a handler. It remembers which one the thread ran before.
pub(crate) struct Running(*const Request);

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

impl Request {
    /// Calls `open` with the slots as the request sees them now: those of the browser's session and, if somebody is
    /// logged in, of the user. Says which generation that is.
    pub(crate) fn view<T>(
        &self,
        now: Timestamp,
        open: impl FnOnce(&[Arc<Slot>], Option<&[Arc<Slot>]>) -> T,
    ) -> (T, u32) {
        let state = self.state();
        let account = state.account.as_ref();
        let session_seen = state.session.seen_by_handles(&state.passing, now);
        let account_seen = account.and_then(|account| account.seen_by_handles(&[], now));
        let session = session_seen
            .as_ref()
            .map_or(state.session.slots(), Record::slots);
        let account =
            account.map(|account| account_seen.as_ref().map_or(account.slots(), Record::slots));
        (open(session, account), state.generation)
    }

    /// Refuses fields that are too large for any commit.
    pub(crate) fn check_fields(&self, harvest: &[Harvest]) -> Result<(), Error> {
        let limit = self.config.max_field;
        let too_large = |slot: &&Arc<Slot>| slot.payload().len() > limit;
        match harvest
            .iter()
            .filter_map(|harvest| harvest.ours.as_ref())
            .find(too_large)
        {
            Some(slot) => Err(Error::field_too_large(slot, limit)),
            None => Ok(()),
        }
    }

    /// Folds in what a handle did. Refuses where another handle of this request changed the same field, and
    /// its rule is to refuse: then nothing is folded in. `false` if the handle is of a session that has been
    /// ended or replaced meanwhile, and what it did is dropped.
    pub(crate) fn fold(
        &self,
        generation: u32,
        harvest: &[Harvest],
        now: Timestamp,
    ) -> Result<bool, Error> {
        self.fold_into(&mut self.state(), generation, harvest, now)
    }

    fn fold_into(
        &self,
        state: &mut State,
        generation: u32,
        harvest: &[Harvest],
        now: Timestamp,
    ) -> Result<bool, Error> {
        if generation != state.generation {
            if !harvest.is_empty() {
                observe::outdated(harvest.len());
            }
            return Ok(false);
        }
        let before = (!harvest.is_empty()).then(|| state.pending());
        let believed =
            |harvest: &&Harvest| harvest.deed != Deed::Slid || self.config.watch.is_steady();
        let folded = harvest
            .iter()
            .filter(believed)
            .try_for_each(|harvest| state.fold(harvest, now));
        if let (Err(_), Some(before)) = (&folded, before) {
            state.restore(before);
        }
        folded.map(|()| true)
    }

    /// The same for a handle that is dropped, which can tell nobody: an error fails the response, and after
    /// that has left, the log.
    pub(crate) fn fold_dropped(
        &self,
        generation: u32,
        harvest: Result<Vec<Harvest>, Error>,
        now: Timestamp,
    ) {
        let mut state = self.state();
        let folded = match harvest {
            Ok(harvest) => match state.phase {
                Phase::Running => self
                    .fold_into(&mut state, generation, &harvest, now)
                    .map(drop),
                Phase::Closed => return unsaved(&harvest),
                Phase::Cancelled => return,
            },
            Err(error) => Err(error),
        };
        if let Err(error) = folded {
            tracing::error!(error = %crate::error::Causes(&error), "a session handle could not be folded in");
            state.failure.get_or_insert(error);
        }
    }

    /// Marks this thread as running the handler, until what it returns is dropped.
    pub(crate) fn run(&self) -> Running {
        Running(RUNNING.replace(self))
    }

    /// A handle was dropped while panicking. If that was the handler, nothing is written. What panics in a task
    /// beside it is its own affair: the handler may well have an answer to it.
    pub(crate) fn panicked(&self) {
        if ptr::eq(RUNNING.get(), self) {
            self.state().barred = Some(Barred::Panicked);
        }
    }

    /// The service dropped the request before there was a response.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        if state.phase == Phase::Running {
            state.phase = Phase::Cancelled;
        }
    }
}
