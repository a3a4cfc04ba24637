//! Logging in, as the request sees it.

use std::mem::take;
use std::sync::Arc;

use tokio::time::Instant;

use super::Request;
use super::state::{OpenedBy, Phase, State, TrackedUser, WriteBlock};
use super::tracked::{InDoubt, TrackedRecord};
use super::write::Saved;
use crate::error::Error;
use crate::key::{Selector, UserId};
use crate::login::{LoggedIn, Login, LoginFailure};
use crate::observe;
use crate::plan::edit::SlotEdit;
use crate::plan::place::Life;
use crate::plan::save::{FactEdits, Opened};
use crate::record::Ended;
use crate::secret::SecretHash;
use crate::task::to_its_end;

/// The start of a login.
struct Start {
    /// The session that it goes on in, of a guest or of this user.
    from: Option<(Selector, Opened)>,
    /// A session of another user, which is over once it is done.
    replaces: Option<(Selector, Opened)>,
    edits: Arc<[SlotEdit]>,
    facts: FactEdits,
    /// Takes along no field.
    is_clean: bool,
    /// The session had lost its access to what follows the user.
    revoked: bool,
}

impl Start {
    fn of(state: &mut State, user: &UserId, revoked: bool) -> Self {
        let presented = state.presented();
        let is_others = |(_, opened): &(Selector, Opened)| {
            opened.record.user().is_some_and(|other| other != user)
        };
        let others = presented.as_ref().is_some_and(is_others);
        let superseded = state.session.stored.is_none();
        // Of another user's session nothing goes along; of a request that comes from before that user's login, what it
        // has changed itself.
        let is_clean = others && !superseded;
        let edits = if is_clean {
            Arc::default()
        } else {
            state.session.send(false)
        };
        Self {
            edits,
            // Whether the user is to be remembered is often said just before the login.
            facts: state.facts,
            from: if is_clean {
                let same = |(_, opened): &(_, Opened)| opened.record.user() == Some(user);
                state.goes_on_from().filter(same)
            } else {
                presented.clone().filter(|_| !others)
            },
            replaces: presented.filter(|_| others),
            is_clean,
            revoked,
        }
    }
}

impl Request {
    /// Logs `user` in. See [`Session::login`](crate::Session::login).
    pub(crate) async fn login(
        self: Arc<Self>,
        user: UserId,
        fingerprint: Option<SecretHash>,
    ) -> Result<(), Error> {
        user.check()?;
        to_its_end(self.config.underway.clone(), async move {
            let gate = self.gate().await?;
            self.log_in(&user, fingerprint, gate.deadline).await
        })
        .await
    }

    /// Whoever calls it holds the gate.
    async fn log_in(
        &self,
        user: &UserId,
        fingerprint: Option<SecretHash>,
        deadline: Instant,
    ) -> Result<(), Error> {
        if self.state().phase != Phase::Running {
            return Err(Error::too_late());
        }
        self.resolve_unknown(deadline).await?;
        // What was changed of a user who is logged in belongs to that user, whoever logs in next.
        let written = self.write_user(deadline).await?;
        let (start, client, lifetimes) = {
            let mut state = self.state();
            let revoked = written == Saved::Ended;
            if revoked {
                state.drop_users();
                // Half of what was changed is gone, and the other half is for the login alone.
                state.block.get_or_insert(WriteBlock::Superseded);
                state.ended = Some(Ended::Revoked);
            }
            let start = Start::of(&mut state, user, revoked);
            let client = state.client.clone().unwrap_or_default();
            (start, client, state.lifetimes(&self.config))
        };
        let rows = self.config.known_rows();
        let login = Login {
            config: &self.config,
            user,
            fingerprint,
            from: start.from.clone(),
            edits: &start.edits,
            facts: start.facts,
            client: client.device(&self.config),
            rows: &rows,
            lifetimes,
            deadline,
        };
        let logged_in = Box::pin(login.run()).await;
        match logged_in {
            Ok(done) => {
                if let Some((selector, opened)) = &start.replaces {
                    self.end_replaced(*selector, opened, deadline).await;
                }
                self.logged_in(user, done, &start)
            }
            Err(failure) => self.login_failed(failure, &start),
        }
    }

    /// Turns the request to the user's session. Unless that is a clean start, what handles have done during the login, and
    /// what they have read of flashes, goes along.
    fn logged_in(&self, user: &UserId, done: LoggedIn, start: &Start) -> Result<(), Error> {
        let (rows, now) = (self.config.known_rows(), self.config.now());
        let mut state = self.state();
        let notices = start.is_clean.then(|| state.take_notices(&rows, now));
        let panicked = state.block.filter(|block| *block == WriteBlock::Panicked);
        let unsent = state.session.take_unsent();
        let (follows, mut unsent): (Vec<_>, Vec<_>) =
            unsent.into_iter().partition(|edit| edit.row.follows());
        // What was changed of the user's goes on if the session does, and nobody has revoked it or deleted the user.
        let goes_on = |same: &&mut Box<TrackedUser>| {
            let from = start.from.as_ref().map(|(selector, _)| *selector);
            let life = Life::of(same.record.stored.as_deref());
            let is_same = same.id == *user && life.goes_on_in(Some(&done.user));
            is_same && !start.revoked && from == Some(done.id.selector())
        };
        if let Some(same) = state.user.as_mut().filter(goes_on) {
            unsent.append(&mut same.record.edits);
        }
        state.drop_users();
        let (facts, flashes) = (state.facts.since(start.facts), take(&mut state.flashes));
        state.forget();
        (state.ended, state.block) = (None, panicked);
        state.session = TrackedRecord::of(done.session);
        state.facts = facts;
        state.user = Some(Box::new(TrackedUser::read(user.clone(), done.user)));
        state.id = Some(OpenedBy {
            id: done.id,
            own: done.id,
            secret: None,
            presents: false,
        });
        state.issue(done.id);
        if let Some(notices) = notices {
            let asked_for = follows.iter().filter(|edit| edit.is_asked_for());
            observe::outdated(asked_for.count()); // an earlier login of this request has left them
            return state.put_notices(notices, now);
        }
        state.flashes = flashes;
        state.bring(follows, self.config.migrate, self.config.caps, now);
        state.take_over(&unsent, now)
    }

    /// Goes on as before, with what the login has left of the session.
    fn login_failed(&self, failure: LoginFailure, start: &Start) -> Result<(), Error> {
        let mut state = self.state();
        if start.is_clean {
            // Nothing of this session is in that one.
            let begun = failure.id.zip(failure.session);
            state.superseded = begun.or(state.superseded.take());
            return Err(failure.error);
        }
        state.session.unknown = InDoubt::of(failure.unknown, None, true);
        let (guest, now) = (state.session.stored.is_some(), self.config.now());
        match failure.session {
            // Taken back: the guest goes on, with what was changed.
            Some(record) if guest && failure.id.is_none() && record.user() == owner(&state) => {
                state.facts = state.facts.since(start.facts);
                state.session.committed(&record, now)?;
            }
            // The session waits for the next login, with what was changed in it.
            Some(record) => {
                let own = state.id.map(|by| by.own);
                let superseded = state.superseded.as_ref().map(|(id, _)| *id);
                let id = failure.id.or(own).or(superseded);
                let unsent = state.session.take_unsent();
                let facts = state.facts.since(start.facts);
                let flashes = take(&mut state.flashes);
                state.drop_users();
                state.lose(Ended::LoggedIn);
                state.block = Some(WriteBlock::Superseded);
                state.superseded = id.map(|id| (id, record));
                (state.session.edits, state.facts, state.flashes) = (unsent, facts, flashes);
            }
            None => {}
        }
        Err(failure.error)
    }

    /// Ends the session of another user whose place the login takes. If that fails, it stays until it expires.
    async fn end_replaced(&self, selector: Selector, opened: &Opened, deadline: Instant) {
        let ended = self.end_in_store(selector, opened, &Ended::LoggedIn, deadline);
        if let Err(error) = ended.await {
            tracing::warn!(%error, "the session of the user before could not be ended: it is left until it expires");
        }
    }
}

fn owner(state: &State) -> Option<&UserId> {
    state.session.stored.as_ref()?.user()
}
