//! Writing what a request has changed: of the browser's session, then of the user who is logged in.

use std::sync::Arc;

use tokio::time::Instant;

use super::Request;
use super::client::Client;
use super::state::{Claim, Phase, State, TrackedUser};
use super::tracked::InDoubt;
use crate::amend::{Amended, Failure, amend, create};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::event::EventKind;
use crate::id::SessionId;
use crate::key::{Key, Selector};
use crate::plan::Plan;
use crate::plan::claim;
use crate::plan::create::Create;
use crate::plan::edit::{self, SlotEdit};
use crate::plan::place::{Life, Place};
use crate::plan::save::{self, Access, FactEdits, Opened, Outcome, Save, SaveUser, UserOutcome};
use crate::record::{Ended, Record, Slot};
use crate::row::AnyRow;
use crate::task::to_its_end;

/// Says what came of [`Session::save`](crate::Session::save).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Saved {
    /// What was changed is in the store.
    Written,
    /// There was nothing to write. Or nothing but fields that stay with the browser and have no rule, in a request whose guest has logged in
    /// meanwhile: those are dropped.
    Unchanged,
    /// The session was ended while the request was running: logged out, deleted, revoked; or its guest logged in and has
    /// come back with the new id over a minute ago. Or the request has come with an id from before a login or a logout. Or another
    /// site's page has sent it, without the cookie that the browser may have. The changes are dropped, of the browser's fields
    /// and of the user's; nothing brings them back. What is set after that is written by a login of the same request alone.
    Ended,
}

impl Saved {
    fn from(written: bool) -> Self {
        if written {
            Self::Written
        } else {
            Self::Unchanged
        }
    }

    /// Returns this, unless it is that nothing was written; then `other`.
    fn or(self, other: Self) -> Self {
        if self == Self::Unchanged { other } else { self }
    }
}

/// The moment of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// While the handler runs, where what it has read of flashes may yet be kept; or after the response was decided.
    Amid,
    /// When it has finished.
    End,
}

/// A batch of edits that one write of a session takes from the request's state, in one go.
struct Batch {
    opened: Option<(Selector, Opened)>,
    edits: Arc<[SlotEdit]>,
    facts: FactEdits,
    place: Option<Place>,
    moment: Moment,
}

impl Batch {
    fn take(state: &mut State, moment: Moment) -> Self {
        Self {
            opened: state.opened(),
            edits: state
                .session
                .send(moment == Moment::End || state.is_shown()),
            facts: state.facts,
            place: state.place(),
            moment,
        }
    }
}

impl Request {
    /// Counts how often changes were dropped, since the response cannot have them written.
    pub(crate) fn drops(&self) -> u32 {
        self.state().drops
    }

    /// Writes what was changed.
    pub(crate) async fn save(self: Arc<Self>) -> Result<Saved, Error> {
        to_its_end(self.config.underway.clone(), async move {
            let gate = self.gate().await?;
            self.check_in_time()?;
            self.write(None, Moment::Amid, gate.deadline).await
        })
        .await
    }

    /// A new id can only be sent by a response that has not left yet.
    fn check_in_time(&self) -> Result<(), Error> {
        let state = self.state();
        let writes = state.block.is_none() && state.session.has_edits();
        let creates = state.session.stored.is_none() && writes;
        if state.phase != Phase::Running && creates {
            Err(Error::too_late())
        } else {
            Ok(())
        }
    }

    /// Writes what was changed when the handler has finished.
    pub(crate) async fn finish(self: Arc<Self>) -> Result<(), Error> {
        let drop_edits = |_: &Error| self.state().drop_edits(); // the client is told
        let gate = self.gate().await.inspect_err(drop_edits)?;
        let written = self.write(None, Moment::End, gate.deadline).await;
        written.inspect_err(drop_edits).map(drop)
    }

    /// Writes what was changed, and gives the session a new id. A session that is not stored yet gets its id when it is.
    pub(crate) async fn rotate(self: Arc<Self>) -> Result<(), Error> {
        to_its_end(self.config.underway.clone(), async move {
            let gate = self.gate().await?;
            let (selector, phase, has_issued) = {
                let state = self.state();
                (state.selector(), state.phase, state.has_issued())
            };
            let Some(selector) = selector else {
                return Ok(());
            };
            if phase != Phase::Running {
                return Err(Error::too_late());
            }
            // An id that is on its way is as new as any.
            let next = (!has_issued).then(|| SessionId::of(selector)).transpose()?;
            let written = self.write(next, Moment::Amid, gate.deadline).await;
            written.map(drop)
        })
        .await
    }

    /// Returns `true` if the use of the session is to be noted, though nothing was changed.
    pub(super) fn is_due(&self, state: &State) -> bool {
        let Some((_, opened)) = state.opened() else {
            return false;
        };
        let place = state.place();
        let save = Save {
            place: place.as_ref(),
            ..state.save(&opened, &self.config)
        };
        save.is_due(self.config.now())
    }

    /// Writes what was changed. What can be refused goes first, so that nothing is written then. Whoever calls it holds
    /// the gate.
    async fn write(
        &self,
        rotate: Option<SessionId>,
        moment: Moment,
        deadline: Instant,
    ) -> Result<Saved, Error> {
        let resolved = self.resolve_unknown(deadline).await?;
        if resolved == Saved::Ended {
            return Ok(resolved);
        }
        self.check_user()?;
        let session = self.write_session(rotate, moment, deadline).await?;
        if session == Saved::Ended {
            return Ok(session);
        }
        let user = self.write_user(deadline).await?;
        if user == Saved::Ended {
            self.state().lose(Ended::Revoked);
            return Ok(user);
        }
        Ok(session.or(user).or(resolved))
    }

    fn check_user(&self) -> Result<(), Error> {
        let state = self.state();
        match &state.user {
            Some(user) => user.record.check_sizes(self.config.caps, self.config.now()),
            None => Ok(()),
        }
    }

    pub(super) async fn write_session(
        &self,
        rotate: Option<SessionId>,
        moment: Moment,
        deadline: Instant,
    ) -> Result<Saved, Error> {
        let (batch, blocked) = {
            let mut state = self.state();
            let batch = Batch::take(&mut state, moment);
            (batch, state.block.is_some())
        };
        match &batch.opened {
            _ if blocked => Ok(Saved::Ended),
            Some((selector, opened)) => {
                self.update(*selector, opened, &batch, rotate, deadline)
                    .await
            }
            None if batch.edits.is_empty() => Ok(Saved::Unchanged),
            None => self.create(&batch, deadline).await,
        }
    }

    async fn update(
        &self,
        selector: Selector,
        opened: &Opened,
        batch: &Batch,
        rotate: Option<SessionId>,
        deadline: Instant,
    ) -> Result<Saved, Error> {
        let (save, now) = (self.state().save(opened, &self.config), self.config.now());
        let save = Save {
            edits: &batch.edits,
            facts: batch.facts,
            touch: save.touch && self.config.watch.is_steady(now),
            amid: batch.moment == Moment::Amid,
            rotate: rotate.map(|id| id.secret()),
            place: batch.place.as_ref(),
            ..save
        };
        let changes = !batch.edits.is_empty() || batch.facts.is_any() || rotate.is_some();
        if !changes && !save.is_due(now) {
            return Ok(Saved::Unchanged);
        }
        let (key, seen) = (Key::from(selector), Arc::clone(&opened.record));
        let plan = |there: Option<&Arc<Record>>, now| save.plan(there, now);
        let Amended {
            outcome,
            record,
            written: is_written,
            at,
        } = match amend(&self.config, &key, Some(seen), deadline, plan).await {
            Ok(amended) => amended,
            Err(failure) => return Err(self.failed(failure, rotate)),
        };
        let mut state = self.state();
        match (outcome, record) {
            (Outcome::Saved { written, issued }, Some(record)) => {
                state.facts = state.facts.since(save.facts);
                state.written_to(&record, rotate.filter(|_| issued), at)?;
                Ok(Saved::from(written))
            }
            (Outcome::SetApart, _) => {
                state.session.committed_elsewhere(at)?;
                Ok(Saved::from(is_written))
            }
            (_, record) => {
                state.lose(save::why_over(record.as_ref(), at));
                Ok(Saved::Ended)
            }
        }
    }

    fn failed(&self, failure: Failure, issues: Option<SessionId>) -> Error {
        self.state().session.unknown = InDoubt::of(failure.unknown, issues, false);
        failure.error
    }

    async fn create(&self, batch: &Batch, deadline: Instant) -> Result<Saved, Error> {
        let new = {
            let state = self.state();
            let client = state.client.as_ref();
            let bound = |client: &Client| client.bound(&self.config, batch.facts.unbound);
            Create {
                edits: &batch.edits,
                facts: batch.facts,
                client: client.map(bound).unwrap_or_default(),
                lifetimes: state.lifetimes(&self.config),
                caps: self.config.caps,
            }
        };
        loop {
            let id = SessionId::generate()?;
            let key = Key::from(&id);
            let secret = id.secret();
            let make = |now| new.record(secret, now);
            match create(&self.config, &key, deadline, make).await {
                Ok(Amended {
                    outcome: true,
                    record: Some(record),
                    at,
                    ..
                }) => {
                    self.config.emit(EventKind::Created, &key, None);
                    let created = self.created(id, new.facts, &record, at);
                    return created.map(|()| Saved::Written);
                }
                // Another record of that selector: one in 2^64, or a generator that repeats itself.
                Ok(_) => {}
                Err(failure) => return Err(self.failed(failure, Some(id))),
            }
        }
    }

    fn created(
        &self,
        id: SessionId,
        sent: FactEdits,
        record: &Arc<Record>,
        at: Timestamp,
    ) -> Result<(), Error> {
        let mut state = self.state();
        state.facts = state.facts.since(sent);
        state.written_to(record, Some(id), at)
    }

    /// Finds out what came of writes of this request whose outcome is unknown: what was changed is on top of them, if
    /// they happened.
    pub(super) async fn resolve_unknown(&self, deadline: Instant) -> Result<Saved, Error> {
        let is_any = {
            let state = self.state();
            let of_user = state.user.as_ref().map(|user| &user.record);
            let records = [Some(&state.session), of_user];
            records
                .into_iter()
                .flatten()
                .any(|record| record.unknown.is_some())
        };
        if !is_any {
            return Ok(Saved::Unchanged);
        }
        let session = Box::pin(self.resolve_session(deadline)).await?;
        let user = Box::pin(self.resolve_user(deadline)).await?;
        Ok(session.or(user))
    }

    async fn resolve_session(&self, deadline: Instant) -> Result<Saved, Error> {
        let (unknown, selector, superseded) = {
            let state = self.state();
            let superseded = state.superseded.as_ref().map(|(id, _)| *id);
            (state.session.unknown.clone(), state.selector(), superseded)
        };
        let Some(unknown) = unknown else {
            return Ok(Saved::Unchanged);
        };
        let InDoubt {
            outcome,
            issues,
            opens,
        } = *unknown;
        // A login that came with an id from before another was opening that one's session.
        let late = superseded.filter(|_| opens);
        let selector = selector.or_else(|| issues.or(late).map(|id| id.selector()));
        let Some(selector) = selector else {
            return Ok(Saved::Unchanged);
        };
        let key = Key::from(selector);
        let resolved = outcome.resolve(&self.config, &key, deadline).await;
        let (there, applied) = resolved.map_err(|failure| {
            self.state().session.unknown = InDoubt::of(failure.unknown, issues, opens);
            failure.error
        })?;
        self.state().session.unknown = None;
        match there.filter(|_| applied) {
            // A login was opened, and its session has ended since: another one may take along what is the browser's.
            Some(record) if opens && record.ended().is_some() => {
                let mut state = self.state();
                if state.session.has_sent_what_follows() {
                    state.session.edits.retain(|edit| !edit.row.follows());
                    return Err(Error::revoked());
                }
                Ok(Saved::Unchanged)
            }
            Some(record) => {
                // While enough ids wait to be presented, a rotation issues none.
                let is_known = |id: &SessionId| record.head.secrets.knows(id.secret());
                let issued = issues.filter(is_known);
                let now = self.config.now();
                self.state().written_to(&record, issued, now)?;
                Ok(Saved::Written)
            }
            None => Ok(Saved::Unchanged),
        }
    }

    async fn resolve_user(&self, deadline: Instant) -> Result<Saved, Error> {
        let unknown = self.user_mut(|user| {
            let unknown = user.record.unknown.clone();
            unknown.map(|unknown| (Key::User(user.id.clone()), unknown.outcome))
        });
        let Some((key, unknown)) = unknown.flatten() else {
            return Ok(Saved::Unchanged);
        };
        let resolved = unknown.resolve(&self.config, &key, deadline).await;
        let (there, applied) = resolved.map_err(|failure| self.user_failed(failure))?;
        self.user_mut(|user| user.record.unknown = None);
        let Some(record) = there.filter(|_| applied) else {
            return Ok(Saved::Unchanged);
        };
        self.committed_to_user(&record, true, self.config.now())
    }

    /// Notes that what was sent of the user's is in `record`, or was: the app may have deleted the user since.
    fn committed_to_user(
        &self,
        record: &Arc<Record>,
        written: bool,
        at: Timestamp,
    ) -> Result<Saved, Error> {
        let committed = self.user_mut(|user| {
            let life = Life::of(user.record.stored.as_deref());
            if user.by_app && !life.goes_on_in(Some(record)) {
                user.record.drop_edits();
                return Ok(Saved::Ended);
            }
            let committed = user.record.committed(record, at);
            committed.map(|()| Saved::from(written))
        });
        committed.unwrap_or(Ok(Saved::Unchanged))
    }

    /// Writes what was changed of what follows the user. [`Saved::Ended`] if the session has no access to that any more.
    pub(super) async fn write_user(&self, deadline: Instant) -> Result<Saved, Error> {
        let (writer, blocked) = {
            let state = self.state();
            (state.writer(), state.block.is_some())
        };
        let batch = self.user_mut(|user| {
            let has_edits = !user.record.edits.is_empty();
            has_edits.then(|| {
                let edits = user.record.send(true);
                (user.id.clone(), user.record.stored.clone(), edits)
            })
        });
        let (Some(writer), Some((user, seen, edits))) = (writer, batch.flatten()) else {
            return Ok(Saved::Unchanged);
        };
        if edits.is_empty() || blocked {
            return Ok(Saved::Unchanged);
        }
        let save = SaveUser {
            writer,
            edits: &edits,
            caps: self.config.caps,
        };
        let key = Key::User(user);
        let plan = |there: Option<&Arc<Record>>, now| save.plan(there, now);
        let amended = amend(&self.config, &key, seen, deadline, plan).await;
        let amended = amended.map_err(|failure| self.user_failed(failure))?;
        let (UserOutcome::Saved { written }, Some(record)) = (amended.outcome, amended.record)
        else {
            return Ok(Saved::Ended);
        };
        self.committed_to_user(&record, written, amended.at)
    }

    fn user_failed(&self, failure: Failure) -> Error {
        let unknown = InDoubt::of(failure.unknown, None, false);
        self.user_mut(|user| user.record.unknown = unknown);
        failure.error
    }

    fn user_mut<T>(&self, change: impl FnOnce(&mut TrackedUser) -> T) -> Option<T> {
        self.state().user.as_deref_mut().map(change)
    }

    /// Takes a flash out of the store. See [`Flash::claim`](crate::Flash::claim).
    pub(crate) async fn claim(
        self: Arc<Self>,
        row: &'static dyn AnyRow,
    ) -> Result<Option<Arc<Slot>>, Error> {
        to_its_end(self.config.underway.clone(), async move {
            let gate = self.gate().await?;
            // What this request has set may be in the store, for others to claim.
            self.resolve_unknown(gate.deadline).await?;
            let opened = {
                let mut state = self.state();
                if let Claim::Ours(slot) = state.claim(row) {
                    return Ok(slot);
                }
                state.opened().filter(|_| state.block.is_none())
            };
            let Some((selector, opened)) = opened else {
                return Ok(None);
            };
            let (key, there) = (Key::from(selector), Arc::clone(&opened.record));
            let deadline = gate.deadline;
            let claimed = amend(&self.config, &key, Some(there), deadline, |there, now| {
                let may = there.filter(|_| opened.access(there, now) == Access::Full);
                Ok(may.map_or(Plan::Leave(None), |there| claim::take_out(there, row, now)))
            });
            let claimed = claimed.await?;
            if let Some(mut record) = claimed.record.filter(|_| claimed.written) {
                if record.user() != opened.record.user() {
                    // As in `State::written_to`: what came after is not shown.
                    let mut seen = Record::clone(&opened.record);
                    edit::replace(row, &mut seen, None);
                    record = Arc::new(seen);
                }
                // What cannot be merged is told when it is to be written: the flash is out of the store, and nobody else's.
                let _ = self.state().session.refreshed(record, self.config.now());
            }
            Ok(claimed.outcome)
        })
        .await
    }
}
