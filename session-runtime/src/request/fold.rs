//! What handles see of a request's state, and how what they changed is folded into it.

use std::cell::Cell;
use std::sync::Once;
use std::{panic, ptr, thread};

use super::Request;
use super::state::{Phase, State, WriteBlock};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::observe;
use crate::plan::brought;
use crate::plan::place::Place;
use crate::record::Record;
use crate::row::{CellEdit, EditKind, Rows};

thread_local! {
    /// The request whose handler this thread is running.
    static RUNNING: Cell<*const Request> = const { Cell::new(ptr::null()) };

    /// How many panics have begun on this thread.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the panics of each thread from now on. A panic that is caught inside the layer leaves no other trace, unless
/// there is a handle that it drops. The hook that was there is called as before.
pub(crate) fn count_panics() {
    static COUNTING: Once = Once::new();
    if thread::panicking() {
        return; // a hook cannot be set just now
    }
    COUNTING.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let _ = PANICS.try_with(|panics| panics.set(panics.get() + 1));
            before(panic);
        }));
    });
}

/// While it lives, its thread runs a handler. It remembers which one the thread ran before.
pub(crate) struct Running<'a> {
    request: &'a Request,
    before: *const Request,
    /// How many panics there had been.
    panics: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        RUNNING.set(self.before);
        if self.panics < PANICS.get() {
            self.request.state().caught = true;
        }
    }
}

/// The records of a request as its handles see them.
pub(crate) struct View<'a> {
    pub(crate) session: Option<&'a Record>,
    pub(crate) user: Option<&'a Record>,
    /// Somebody is logged in: what follows the user is the user's, be it not there.
    pub(crate) has_user: bool,
    /// What of the session is set apart for the user, if anything is: all but what the place says is credited.
    pub(crate) apart: Option<(&'a Record, Option<Place>)>,
}

/// Counts what a handle has changed: not what it has read, be it that reading counts.
fn asked_for(edits: &[CellEdit]) -> usize {
    let is_change = |edit: &&CellEdit| edit.kind == EditKind::Changed;
    edits.iter().filter(is_change).count()
}

impl Request {
    /// Calls `open` with the records as the request sees them now. Returns what it returns, and which generation that
    /// is.
    pub(crate) fn view<T>(&self, now: Timestamp, open: impl FnOnce(View<'_>) -> T) -> (T, u32) {
        let state = self.state();
        let user = state.user.as_ref().map(|user| &user.record);
        let session_seen = state.session.seen_by_handles(&state.flashes.passing, now);
        let user_seen = user.and_then(|user| user.seen_by_handles(&[], now));
        let stored = state.session.stored.as_deref();
        let apart = stored.filter(|session| user.is_some() && brought::is_any(session));
        let view = View {
            apart: apart.map(|session| (session, state.place())),
            session: session_seen.as_ref().or(state.session.stored.as_deref()),
            user: user.and_then(|user| user_seen.as_ref().or(user.stored.as_deref())),
            has_user: user.is_some(),
        };
        (open(view), state.generation)
    }

    /// Refuses fields that are too large to be written.
    pub(crate) fn check_fields(&self, edits: &[CellEdit]) -> Result<(), Error> {
        let mut slots = edits.iter().filter_map(|edit| edit.ours.as_ref());
        slots.try_for_each(|slot| self.config.caps.check_field(slot))
    }

    /// Folds in what a handle did. Refuses where another handle of this request changed the same field, and
    /// its rule is to refuse: then nothing is folded in. `false` if the handle is of a session that has been
    /// ended or replaced meanwhile, and what it did is dropped.
    pub(crate) fn fold(
        &self,
        generation: u32,
        edits: Vec<CellEdit>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        Self::fold_into(&mut self.state(), generation, edits, now)
    }

    fn fold_into(
        state: &mut State,
        generation: u32,
        edits: Vec<CellEdit>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        if generation != state.generation {
            observe::outdated(asked_for(&edits));
            return Ok(false);
        }
        state.fold(edits, now).map(|()| true)
    }

    /// The same for a handle that is dropped, which can tell nobody: an error fails the response, and after
    /// that has left, the log.
    pub(crate) fn fold_dropped(
        &self,
        generation: u32,
        edits: Result<Vec<CellEdit>, Error>,
        now: Timestamp,
    ) {
        let mut state = self.state();
        match (state.phase, edits) {
            (Phase::Closed, Ok(edits)) => observe::unsaved(asked_for(&edits)),
            (Phase::Cancelled, Ok(_)) => {}
            (_, edits) => drop(Self::fold_or_fail(&mut state, generation, edits, now)),
        }
    }

    /// Folds in what a handle did, or else fails the response. Returns `None` then, and as [`fold`](Self::fold) otherwise.
    fn fold_or_fail(
        state: &mut State,
        generation: u32,
        edits: Result<Vec<CellEdit>, Error>,
        now: Timestamp,
    ) -> Option<bool> {
        let folded = edits.and_then(|edits| Self::fold_into(state, generation, edits, now));
        match folded {
            Ok(folded) => Some(folded),
            Err(error) => {
                tracing::error!(error = %crate::error::Causes(&error), "a session handle could not be folded in");
                state.failure.get_or_insert(error);
                None
            }
        }
    }

    /// Folds in what a handle did, and removes the flashes of these rows, unless the handle is of a session that has been ended
    /// or replaced meanwhile. Returns `false` if it could not be folded in: then the handle keeps what it has.
    pub(crate) fn clear_flashes(
        &self,
        generation: u32,
        edits: Result<Vec<CellEdit>, Error>,
        rows: &Rows,
        now: Timestamp,
    ) -> bool {
        let mut state = self.state();
        let folded = Self::fold_or_fail(&mut state, generation, edits, now);
        if folded == Some(true) {
            state.clear_flashes(rows, now);
        }
        folded.is_some()
    }

    /// Marks this thread as running the handler, until what it returns is dropped.
    pub(crate) fn run(&self) -> Running<'_> {
        Running {
            request: self,
            before: RUNNING.replace(self),
            panics: PANICS.get(),
        }
    }

    /// A handle was dropped while panicking. If that was the handler, nothing is written. What panics in a task
    /// beside it is its own affair: the handler may well have an answer to it.
    pub(crate) fn panicked(&self) {
        if ptr::eq(RUNNING.get(), self) {
            self.state().block = Some(WriteBlock::Panicked);
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
