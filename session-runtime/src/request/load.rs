//! Loading: what the client presented, the user who is logged in, and what has come in since.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::request::Parts;
use tokio::time::Instant;

use super::Request;
use super::client::{Client, is_cross_site};
use super::state::{CookieAction, OpenedBy, Phase, TrackedUser, WriteBlock};
use super::write::Moment;
use crate::amend::{Freshness, amend, load};
use crate::clock::Timestamp;
use crate::credit::credit;
use crate::error::Error;
use crate::event::EventKind;
use crate::id::SessionId;
use crate::key::{Key, Selector, UserId};
use crate::observe;
use crate::plan::brought;
use crate::plan::confirm::{Credit, Fate};
use crate::plan::end::{self, Ending};
use crate::plan::place::Places;
use crate::plan::save::{Access, Outcome, Save, why_over};
use crate::record::{Ended, Record};
use crate::revoke;
use crate::row::Rows;
use crate::secret::{Opens, SecretHash};
use crate::task::to_its_end;
use crate::transport::Presented;

/// The session that an id leads to.
enum Found {
    /// Its session.
    Live(Arc<Record>),
    /// Nothing, for that reason.
    Gone(Ended),
    /// What has come of its session by a login or logout. The client will have a newer id, or has.
    Superseded(Ended, Option<Arc<Record>>),
    /// As nothing; but if the user logs in with it, the login goes on from there.
    Forgotten(Arc<Record>),
}

impl Request {
    /// Loads what the client presented, once per request. Returns by which time that was judged, if it was by this call.
    pub(crate) async fn load(
        &self,
        parts: &Parts,
        deadline: Instant,
    ) -> Result<Option<Timestamp>, Error> {
        if self.is_loaded() {
            return Ok(None);
        }
        let gate = self.gate_by(deadline).await?;
        if self.is_loaded() {
            return Ok(None);
        }
        let (mut client, now) = (Client::of(parts, &self.config)?, self.config.now());
        let transport = client.transport(&self.config);
        self.state().at = now;
        match transport.read(&parts.headers, client.port) {
            Presented::Nothing => {
                if transport.is_kept_back(&parts.method) && is_cross_site(parts) {
                    self.state().block = Some(WriteBlock::CrossSite);
                }
                client.refuses = transport.is_refused_by(parts);
            }
            Presented::Malformed(why) => {
                observe::malformed(why);
                self.state().ended = Some(Ended::Malformed);
            }
            Presented::Id(id) => self.open(id, &client, now, gate.deadline).await?,
            Presented::Several => {
                let ids = transport.ids(&parts.headers, client.port);
                Box::pin(self.open_one(ids, &client, now, gate.deadline)).await?;
            }
        }
        self.state().client = Some(client);
        self.loaded.store(true, Ordering::Release);
        Ok(Some(now))
    }

    async fn open(
        &self,
        id: SessionId,
        client: &Client,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<(), Error> {
        let secret = id.secret();
        let found = self.find(id, secret, now, deadline).await?;
        if let Some((record, reason)) = self.take_in(id, secret, found, client) {
            Box::pin(self.evict(id, record, reason, deadline)).await;
        }
        Ok(())
    }

    /// Opens the one session that is live of those presented.
    async fn open_one(
        &self,
        ids: Vec<SessionId>,
        client: &Client,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let found = self.find(id, id.secret(), now, deadline).await?;
            all.push((id, found));
        }
        let Some((id, found)) = the_one(all, now) else {
            observe::malformed("the cookie is there twice, with two sessions");
            self.state().ended = Some(Ended::Malformed);
            return Ok(());
        };
        if let Some((record, reason)) = self.take_in(id, id.secret(), found, client) {
            self.evict(id, record, reason, deadline).await;
        }
        Ok(())
    }

    /// Takes in what an id has led to. Returns a session that is to be ended, and why.
    fn take_in(
        &self,
        id: SessionId,
        secret: SecretHash,
        found: Found,
        client: &Client,
    ) -> Option<(Arc<Record>, Ended)> {
        match found {
            Found::Live(record) => match client.differs(&record, &self.config) {
                None => {
                    let mut state = self.state();
                    state.id = Some(OpenedBy {
                        id,
                        own: id,
                        secret: Some(secret),
                        presents: true,
                    });
                    state.user = record
                        .user()
                        .cloned()
                        .map(TrackedUser::unread)
                        .map(Box::new);
                    state.session.stored = Some(record);
                }
                Some(reason) => return Some((record, reason)),
            },
            over => self.turn_away(id, over),
        }
        None
    }

    /// Takes in that an id opens no session, or none of the user whose it is.
    fn turn_away(&self, id: SessionId, found: Found) {
        let mut state = self.state();
        let reason = match found {
            Found::Live(_) => Ended::Revoked,
            Found::Gone(reason) => reason,
            Found::Superseded(reason, record) => {
                state.block.get_or_insert(WriteBlock::Superseded);
                state.superseded = record.map(|record| (id, record));
                reason
            }
            Found::Forgotten(record) => {
                state.superseded = Some((id, record));
                Ended::Expired
            }
        };
        state.ended = Some(reason);
    }

    /// Looks an id up. What a near cache denies is asked of the store.
    async fn find(
        &self,
        id: SessionId,
        secret: SecretHash,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Found, Error> {
        let key = Key::from(&id);
        let near = load(&self.config, &key, Freshness::Near, deadline).await?;
        let found = judge(near, secret, now);
        if matches!(found, Found::Live(_)) || !self.config.store.is_cached() {
            return Ok(found);
        }
        let latest = load(&self.config, &key, Freshness::Latest, deadline);
        Ok(judge(Box::pin(latest).await?, secret, now)) // rare
    }

    /// Ends a session that someone else than its owner seems to hold.
    async fn evict(&self, id: SessionId, record: Arc<Record>, reason: Ended, deadline: Instant) {
        let (key, user) = (Key::from(&id), record.user().cloned());
        tracing::warn!(session = ?key, ?reason, "a session is ended: it is presented by another client than it is bound to");
        let ended = amend(&self.config, &key, Some(record), deadline, |there, now| {
            Ok(end::by_holder(there, id.secret(), &reason, |_| false, now))
        });
        let ended = ended.await;
        let mut state = self.state();
        state.ended = Some(reason.clone());
        match ended {
            Ok(ended) if ended.outcome == Ending::Done => {
                state.cookie = Some(CookieAction::Remove);
                drop(state);
                self.config
                    .emit(EventKind::Ended(reason), &key, user.as_ref());
            }
            Ok(_) => {}
            Err(failure) => {
                tracing::error!(error = %failure.error, "it could not be ended in the store; this request does not see it");
            }
        }
    }

    /// Opens the session of an id outside of a request: there is no response that would carry another one. Nobody has
    /// presented it by that, and it is not bound to whoever asks. Returns `false` if it opens nothing.
    pub(crate) async fn open_for_app(
        &self,
        id: SessionId,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let (secret, now) = (id.secret(), self.config.now());
        let found = self.find(id, secret, now, deadline).await?;
        let mut state = self.state();
        (state.phase, state.at) = (Phase::Closed, now);
        let Found::Live(record) = found else {
            return Ok(false);
        };
        state.id = Some(OpenedBy {
            id,
            own: id,
            secret: Some(secret),
            presents: false,
        });
        state.user = record
            .user()
            .cloned()
            .map(TrackedUser::unread)
            .map(Box::new);
        state.session.stored = Some(record);
        Ok(true)
    }

    /// Looks up what follows a user, for the app itself: there is no session, and no response that would carry an id.
    pub(crate) async fn load_for_app(&self, user: UserId, deadline: Instant) -> Result<(), Error> {
        user.check()?;
        let key = Key::User(user.clone());
        let found = load(&self.config, &key, Freshness::Latest, deadline).await?;
        let mut state = self.state();
        (state.phase, state.at) = (Phase::Closed, self.config.now());
        if found.as_ref().is_some_and(|found| found.ended().is_some()) {
            state.ended = Some(Ended::Revoked);
            state.block = Some(WriteBlock::Ended);
        } else {
            state.user = Some(Box::new(TrackedUser::seen_by_app(user, found)));
        }
        Ok(())
    }

    /// Returns whether the record was looked up of who is logged in, if anybody is.
    pub(crate) fn has_read_user(&self) -> Option<bool> {
        self.state().user.as_ref().map(|user| !user.unread)
    }

    /// Looks up what follows the user. A session that has no place there was revoked.
    pub(crate) async fn load_user(&self, deadline: Instant) -> Result<(), Error> {
        let gate = self.gate_by(deadline).await?;
        self.read_user(gate.deadline).await
    }

    pub(super) async fn read_user(&self, deadline: Instant) -> Result<(), Error> {
        let (unread, by) = {
            let state = self.state();
            let unread = state.user.as_ref().filter(|user| user.unread);
            (unread.map(|user| user.id.clone()), state.id)
        };
        let (Some(user), Some(by)) = (unread, by) else {
            return Ok(());
        };
        let selector = by.id.selector();
        let key = Key::User(user);
        let admits = |record: &Arc<Record>| admits(record, selector);
        let near = load(&self.config, &key, Freshness::Near, deadline).await?;
        let mut found = near.filter(admits);
        if found.is_none() && self.config.store.is_cached() {
            let latest = load(&self.config, &key, Freshness::Latest, deadline).await?;
            found = latest.filter(admits);
        }
        if let Some(record) = found {
            if let Some(user) = &mut self.state().user {
                user.found(record);
            }
            return Ok(());
        }
        // Revoked; or another request has logged out since, and perhaps in again: then this one begins nothing.
        let key = Key::from(selector);
        let session = load(&self.config, &key, Freshness::Latest, deadline).await?;
        self.start_over(by, judge(session, by.own_secret(), self.config.now()));
        Ok(())
    }

    /// Goes on as a guest's, since what was opened so has become that.
    fn start_over(&self, by: OpenedBy, found: Found) {
        self.state().forget();
        self.turn_away(by.own, found);
    }

    /// Returns the session as it is to be looked at whether it was logged in by the fingerprint that the user has: once in a
    /// request.
    fn unchecked(&self) -> Option<(UserId, OpenedBy, SecretHash, Arc<Record>)> {
        let state = self.state();
        let record = state.session.stored.clone()?;
        let fingerprint = record.head.fingerprint()?;
        let user = state.user.as_ref().filter(|user| !user.is_checked)?;
        Some((user.id.clone(), state.id?, fingerprint, record))
    }

    /// Returns `true` if the session's fingerprint is to be compared.
    pub(crate) fn is_to_be_checked(&self) -> bool {
        self.config.fingerprint_of.is_some() && self.unchecked().is_some()
    }

    /// Compares the fingerprint that the session was logged in by with the one that its user has. A session of another one
    /// ends as one that was revoked.
    pub(crate) async fn check_fingerprint(&self, deadline: Instant) -> Result<(), Error> {
        let gate = self.gate_by(deadline).await?;
        let (Some(fingerprint_of), Some((user, by, own, seen))) =
            (&self.config.fingerprint_of, self.unchecked())
        else {
            return Ok(());
        };
        let asked = tokio::time::timeout_at(gate.deadline, fingerprint_of(user.clone()));
        let current = asked.await.map_err(|_| Error::timeout())?;
        if current.map_err(Error::no_fingerprint)? == Some(own) {
            if let Some(user) = &mut self.state().user {
                user.is_checked = true;
            }
            return Ok(());
        }
        let ended = self.end_outdated(by.id.selector(), &user, own, seen, gate.deadline);
        let there = ended.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a session whose fingerprint is not its user's any more could not be ended yet: each request that comes with it is refused");
            None
        });
        // Another request may have logged in by the new one: then this one begins nothing.
        let found = there.map_or(Found::Gone(Ended::Revoked), |there| {
            judge(Some(there), by.own_secret(), self.config.now())
        });
        self.start_over(by, found);
        Ok(())
    }

    /// Ends a session of that fingerprint. Returns its record as it is then.
    async fn end_outdated(
        &self,
        selector: Selector,
        user: &UserId,
        fingerprint: SecretHash,
        seen: Arc<Record>,
        deadline: Instant,
    ) -> Result<Option<Arc<Record>>, Error> {
        let (config, key) = (&self.config, Key::from(selector));
        let ended = amend(config, &key, Some(seen), deadline, |there, now| {
            Ok(end::of_fingerprint(there, user, fingerprint, now))
        });
        let ended = ended.await?;
        if let Some(reason) = ended.outcome {
            config.emit(EventKind::Ended(reason), &key, Some(user));
            let user = Key::User(user.clone());
            revoke::strike_off(config, &user, None, &[selector], deadline).await?;
        }
        Ok(ended.record)
    }

    /// Returns `true` if the session holds something of the user's that `rows` know: set apart and not credited, or under
    /// its plain name.
    pub(crate) fn holds_users(&self, rows: &Rows) -> bool {
        let state = self.state();
        let (Some(_), Some(session)) = (&state.user, &state.session.stored) else {
            return false;
        };
        let now = self.config.now();
        let credits = || {
            let place = state.place();
            self.config.migrate
                && place.is_some_and(|place| brought::is_due(session, &place, rows, now))
        };
        brought::is_astray(session, rows, now) || credits()
    }

    /// Sets apart what the session holds of the user's, and credits it. That writes nothing else: what handlers have
    /// changed may yet come to nothing.
    pub(crate) async fn adopt(&self, rows: &Rows, deadline: Instant) -> Result<(), Error> {
        let gate = self.gate_by(deadline).await?;
        self.resolve_unknown(gate.deadline).await?;
        self.set_astray_apart(rows, gate.deadline).await?;
        let opened = self.state().opened().filter(|_| self.config.migrate);
        let Some((selector, opened)) = opened else {
            return Ok(());
        };
        let (session, fate) = (&opened.record, Fate::Credited);
        self.credit(selector, session, rows, fate, gate.deadline)
            .await
    }

    /// Sets apart what the session holds of the user's under its plain name.
    async fn set_astray_apart(&self, rows: &Rows, deadline: Instant) -> Result<(), Error> {
        let opened = self.state().opened();
        let Some((selector, opened)) = opened
            .filter(|(_, opened)| brought::is_astray(&opened.record, rows, self.config.now()))
        else {
            return Ok(());
        };
        let save = Save {
            touch: false,
            astray: rows,
            ..self.state().save(&opened, &self.config)
        };
        let (key, seen) = (Key::from(selector), Arc::clone(&opened.record));
        let saved = amend(&self.config, &key, Some(seen), deadline, |there, now| {
            save.plan(there, now)
        });
        let (saved, now) = (saved.await?, self.config.now());
        let (Outcome::Saved { .. }, Some(record)) = (saved.outcome, &saved.record) else {
            let why = why_over(saved.record.as_ref(), now);
            self.state().lose(why);
            return Ok(());
        };
        self.state().session.refreshed(Arc::clone(record), now)?;
        if !saved.written {
            // Another request has, and may have credited it since the user was looked up.
            self.refresh_user(selector, deadline).await?;
        }
        Ok(())
    }

    /// Credits what is set apart, whatever the layer's settings, or discards it.
    pub(crate) async fn settle_brought(
        self: Arc<Self>,
        rows: &'static Rows,
        fate: Fate,
    ) -> Result<(), Error> {
        to_its_end(self.config.underway.clone(), async move {
            let gate = self.gate().await?;
            self.resolve_unknown(gate.deadline).await?;
            self.read_user(gate.deadline).await?;
            if self.state().has_to_set_apart() {
                self.write_session(None, Moment::Amid, gate.deadline)
                    .await?;
            }
            let Some((selector, opened)) = self.state().opened() else {
                return Ok(());
            };
            let session = &opened.record;
            self.credit(selector, session, rows, fate, gate.deadline)
                .await
        })
        .await
    }

    /// Credits what `session` has set apart, or discards it.
    pub(super) async fn credit(
        &self,
        selector: Selector,
        session: &Record,
        rows: &Rows,
        fate: Fate,
        deadline: Instant,
    ) -> Result<(), Error> {
        let user = {
            let state = self.state();
            let user = state.user.as_ref();
            user.map(|user| (user.id.clone(), user.record.stored.clone()))
        };
        let Some((user, seen)) = user else {
            return Ok(());
        };
        let plan = Credit {
            fate,
            selector,
            session,
            rows,
            caps: self.config.caps,
        };
        let credited = credit(&self.config, &user, seen, &plan, deadline).await?;
        self.found_user(credited, selector)
    }

    /// Looks up what other requests have stored since; what was changed here goes on top of that.
    pub(crate) async fn refresh(self: Arc<Self>) -> Result<(), Error> {
        to_its_end(self.config.underway.clone(), async move {
            let gate = self.gate().await?;
            self.look_again(gate.deadline).await
        })
        .await
    }

    /// Whoever calls it holds the gate.
    async fn look_again(&self, deadline: Instant) -> Result<(), Error> {
        self.resolve_unknown(deadline).await?;
        let Some((selector, opened)) = self.state().opened() else {
            return Ok(());
        };
        let key = Key::from(selector);
        let latest = load(&self.config, &key, Freshness::Latest, deadline).await?;
        let now = self.config.now();
        match opened.access(latest.as_ref(), now) {
            Access::Full => {}
            // It goes on seeing what it has seen, and what it changes is set apart for the user.
            Access::Late => return Ok(()),
            Access::Nothing => {
                self.state().lose(why_over(latest.as_ref(), now));
                return Ok(());
            }
        }
        if let Some(record) = latest {
            self.state().session.refreshed(record, now)?;
        }
        self.refresh_user(selector, deadline).await
    }

    async fn refresh_user(&self, selector: Selector, deadline: Instant) -> Result<(), Error> {
        let user = {
            let state = self.state();
            let read = state.user.as_ref().filter(|user| !user.unread);
            read.map(|user| user.id.clone())
        };
        let Some(user) = user else {
            return Ok(());
        };
        let key = Key::User(user);
        let latest = load(&self.config, &key, Freshness::Latest, deadline).await?;
        self.found_user(latest, selector)
    }

    /// Takes in the user's record as it is by now, or that the session has no place in it any more.
    fn found_user(&self, record: Option<Arc<Record>>, selector: Selector) -> Result<(), Error> {
        let found = record.filter(|record| admits(record, selector));
        let mut state = self.state();
        if let (Some(record), Some(user)) = (found, &mut state.user) {
            return user.record.refreshed(record, self.config.now());
        }
        state.lose(Ended::Revoked);
        Ok(())
    }
}

/// Returns `true` if that session may use the user's record.
fn admits(user: &Arc<Record>, selector: Selector) -> bool {
    user.ended().is_none() && Places::of(Some(user)).admits(selector)
}

/// Picks what counts of several ids: what opens a session, if no other opens another; else what is known best of a session
/// that is over. `None` if two are live.
fn the_one(mut all: Vec<(SessionId, Found)>, now: Timestamp) -> Option<(SessionId, Found)> {
    // Of two ids of one session, the newer: the other may be on its way out.
    let rank = |(id, found): &(SessionId, Found)| match found {
        Found::Live(record) => match record.head.secrets.look_up(id.secret(), now) {
            Opens::Current => 0,
            _ => 1,
        },
        Found::Superseded(..) => 2,
        Found::Forgotten(_) => 3,
        Found::Gone(_) => 4,
    };
    all.sort_by_key(rank);
    let best = all.first()?.0.selector();
    let live = |(_, found): &&(SessionId, Found)| matches!(found, Found::Live(_));
    let others = all.iter().filter(live).any(|(id, _)| id.selector() != best);
    (!others).then(|| all.swap_remove(0))
}

/// Decides what an id leads to whose selector led to `record`.
fn judge(record: Option<Arc<Record>>, secret: SecretHash, now: Timestamp) -> Found {
    let Some(record) = record.filter(|record| record.is_live(now)) else {
        return Found::Gone(Ended::Expired);
    };
    let secrets = &record.head.secrets;
    let opens = secrets.look_up(secret, now);
    if let Some(reason) = record.ended() {
        return match opens {
            _ if !secrets.knows(secret) => Found::Gone(Ended::Expired),
            Opens::Superseded => Found::Superseded(reason.clone(), None),
            _ => Found::Gone(reason.clone()),
        };
    }
    match opens {
        Opens::Current | Opens::Retiring => Found::Live(record),
        Opens::Superseded => Found::Superseded(Ended::LoggedIn, Some(record)),
        Opens::Retired | Opens::Nothing => match secrets.look_up_for_login(secret, now) {
            Opens::Superseded => Found::Forgotten(record),
            _ => Found::Gone(Ended::Expired),
        },
    }
}
