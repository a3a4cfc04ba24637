//! The request's own state: what the client presented, what was loaded for it, and what its handles changed.
//!
//! Every handle is a small transaction over it. Loading and committing go one at a time, behind `gate`; what
//! handles fold in when they drop only takes the lock on the state, for a moment.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::USER_AGENT;
use http::request::Parts;
use http::{StatusCode, response};

use crate::clock::Timestamp;
use crate::commit::{self, Commit, Outcome, Pending, Policy, fact, same_slot, settle};
use crate::config::Config;
use crate::error::Error;
use crate::id::SessionId;
use crate::key::Key;
use crate::observe;
use crate::record::{Ended, Record, Slot};
use crate::schema::{Harvest, Lifetime, facts};
use crate::transport::{Notice, Presented};

/// One request's session.
pub(crate) struct Request {
    pub(crate) config: Arc<Config>,
    gate: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: bool,
    /// The id that opens the session now: presented, or issued by this request.
    id: Option<SessionId>,
    /// Where the record is.
    key: Option<Key>,
    /// The record as last seen in the store.
    stored: Option<Arc<Record>>,
    pending: Vec<Pending>,
    /// Values for this request alone.
    passing: Vec<Arc<Slot>>,
    /// Why what was presented is no session.
    ended: Option<Ended>,
    /// Counts logins, logouts and deletions: an older handle folds nothing.
    generation: u32,
    /// What the client is to be told.
    notice: Option<Told>,
    /// Why nothing is written any more, if so.
    barred: Option<Barred>,
    /// A handle could not be folded, and why.
    failure: Option<Error>,
    phase: Phase,
    /// Some extractor counts as use.
    touch: bool,
    lifetime: Lifetime,
    client: Client,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Barred {
    /// The session ended while the request ran.
    Gone,
    /// A handler panicked.
    Panicked,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Running,
    /// The response has been decided.
    Closed,
    /// The request was dropped before that.
    Cancelled,
}

#[derive(Clone, Copy)]
enum Told {
    Issued(SessionId),
    Removed,
}

/// What a session may be bound to.
#[derive(Clone, Default)]
struct Client {
    /// Where it is, if sessions are bound to that and it could be told.
    address: Option<IpAddr>,
    user_agent: Option<String>,
    /// The app has lifted the binding.
    unbound: bool,
}

/// What came of [`Session::save`](crate::Session::save).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the session may have ended meanwhile, and the changes with it"]
pub enum Saved {
    /// What was changed is in the store.
    Written,
    /// There was nothing to write.
    Unchanged,
    /// The session was ended while the request was running. The changes are dropped; nothing brings it back.
    Ended,
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

    /// Loads what the client presented, once per request.
    pub(crate) async fn load(&self, parts: &Parts) -> Result<(), Error> {
        if self.state().loaded {
            return Ok(());
        }
        let _gate = self.gate.lock().await;
        if self.state().loaded {
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
        let mut state = self.state();
        state.client = client;
        state.loaded = true;
        Ok(())
    }

    async fn open(&self, id: SessionId, client: &Client) -> Result<(), Error> {
        match commit::find(&self.config, Key::from(&id)).await? {
            Ok((key, record)) => match client.differs(&record, &self.config) {
                None => self.state().found(Some(id), key, record),
                Some(reason) => self.evict(key, reason).await,
            },
            Err(reason) => self.state().ended = Some(reason),
        }
        Ok(())
    }

    /// Ends a session that someone else than its owner seems to hold.
    async fn evict(&self, key: Key, reason: Ended) {
        tracing::warn!(session = ?key, ?reason, "a session is ended: it is presented by another client than it is bound to");
        let removed = commit::end(&self.config, key, reason.clone()).await;
        let mut state = self.state();
        state.ended = Some(reason);
        match removed {
            Ok(_) => state.notice = Some(Told::Removed),
            Err(error) => {
                tracing::error!(%error, "it could not be ended in the store; this request does not see it");
            }
        }
    }

    /// Takes note that a schema with these lifetimes is in use; `touch` if that counts as use of the session.
    pub(crate) fn uses(&self, lifetime: Lifetime, touch: bool) {
        let mut state = self.state();
        state.lifetime = state.lifetime.longest(lifetime);
        state.touch |= touch;
    }

    /// Calls `open` with the slots as the request sees them now, and says which generation that is.
    pub(crate) fn view<T>(&self, now: Timestamp, open: impl FnOnce(&[Arc<Slot>]) -> T) -> (T, u32) {
        let state = self.state();
        let stored = state.stored.as_deref().map_or(&[][..], Record::slots);
        let cells = if state.pending.is_empty() && state.passing.is_empty() {
            open(stored)
        } else {
            open(&state.seen_by_handles(now))
        };
        (cells, state.generation)
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
    pub(crate) fn fold(&self, generation: u32, harvest: &[Harvest]) -> Result<bool, Error> {
        let now = self.config.now();
        let mut state = self.state();
        if generation != state.generation {
            if !harvest.is_empty() {
                observe::outdated(harvest.len());
            }
            return Ok(false);
        }
        let before = (!harvest.is_empty()).then(|| state.pending.clone());
        let folded = harvest
            .iter()
            .try_for_each(|harvest| state.fold(harvest, now));
        if let (Err(_), Some(before)) = (&folded, before) {
            state.pending = before;
        }
        folded.map(|()| true)
    }

    /// The same for a handle that is dropped, which can tell nobody: an error fails the response, and after
    /// that has left, the log.
    pub(crate) fn fold_dropped(&self, generation: u32, harvest: Result<Vec<Harvest>, Error>) {
        let folded = match harvest {
            Ok(harvest) if harvest.is_empty() => return,
            Ok(harvest) => {
                if self.is_too_late(harvest.len()) {
                    return;
                }
                self.fold(generation, &harvest).map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = folded {
            tracing::error!(error = %crate::error::Causes(&error), "a session handle could not be folded in");
            self.state().failure.get_or_insert(error);
        }
    }

    fn is_too_late(&self, fields: usize) -> bool {
        let phase = self.state().phase;
        if phase == Phase::Closed {
            observe::unsaved(fields);
        }
        phase != Phase::Running
    }

    pub(crate) fn panicked(&self) {
        self.state().barred = Some(Barred::Panicked);
    }

    /// The service dropped the request before there was a response.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        if state.phase == Phase::Running {
            state.phase = Phase::Cancelled;
        }
    }

    /// Whether another request changed the session is looked up now, and changes go on top of that.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        let Some(key) = self.state().key.clone() else {
            return Ok(());
        };
        let found = commit::find(&self.config, key).await?;
        let mut state = self.state();
        match found {
            Ok((key, record)) => {
                state.pending = commit::rebase(&state.pending, Some(&record), self.config.now())?;
                let id = state.id;
                state.found(id, key, record);
            }
            Err(reason) => state.lost(reason),
        }
        Ok(())
    }

    /// Writes what is pending.
    pub(crate) async fn save(&self) -> Result<Saved, Error> {
        let _gate = self.gate.lock().await;
        self.check_in_time()?;
        self.write(None).await
    }

    /// A new id can only be sent by a response that has not left yet.
    fn check_in_time(&self) -> Result<(), Error> {
        let state = self.state();
        let creates = state.key.is_none()
            && state.barred.is_none()
            && state.pending.iter().any(|pending| !is_fact(pending));
        if state.phase != Phase::Running && creates {
            Err(Error::too_late())
        } else {
            Ok(())
        }
    }

    /// Writes what is pending when the handler has finished.
    pub(crate) async fn finish(self: Arc<Self>) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        self.write(None).await.map(drop)
    }

    /// Writes what is pending and moves the session to a new id. A session that is not stored yet gets its
    /// id when it is.
    pub(crate) async fn rotate(&self) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        let (current, phase) = {
            let state = self.state();
            (state.id.filter(|_| state.key.is_some()), state.phase)
        };
        let Some(current) = current else {
            return Ok(());
        };
        if phase != Phase::Running {
            return Err(Error::too_late());
        }
        self.write(Some(current.successor()?)).await.map(drop)
    }

    /// Ends the session, here and in the store.
    pub(crate) async fn delete(&self, reason: String) -> Result<u32, Error> {
        let _gate = self.gate.lock().await;
        let key = self.state().key.clone();
        let reason = Ended::Deleted(reason);
        if let Some(key) = key.clone() {
            commit::end(&self.config, key, reason.clone()).await?;
        }
        let mut state = self.state();
        state.forget();
        if key.is_some() {
            state.ended = Some(reason);
            state.notice = Some(Told::Removed);
        }
        Ok(state.generation)
    }

    /// Takes a flash out of the store. See [`Flash::claim`](crate::Flash::claim).
    pub(crate) async fn claim(
        &self,
        name: &str,
        seen: &Arc<Slot>,
    ) -> Result<Option<Arc<Slot>>, Error> {
        let _gate = self.gate.lock().await;
        let stored = match self.state().take_passing(name) {
            Taken::Ours(slot) => return Ok(slot),
            Taken::Stored(key) => key,
        };
        let Some(key) = stored else { return Ok(None) };
        let claimed = commit::take_out(&self.config, key, seen).await?;
        self.state().forget_slot(seen);
        Ok(claimed)
    }

    /// Commits what is pending. Whoever calls it holds the gate.
    async fn write(&self, successor: Option<SessionId>) -> Result<Saved, Error> {
        let batch = self.state().batch(&self.config);
        match batch.stored {
            _ if batch.barred => Ok(Saved::Ended),
            Some((key, record)) => {
                let commit = Commit {
                    config: &self.config,
                    policy: batch.policy,
                    key,
                    record,
                    pending: batch.pending.clone(),
                    successor: successor.as_ref().map(Key::from),
                    presented: batch.presented,
                };
                let outcome = commit.run().await?;
                self.state()
                    .committed(&batch.pending, outcome, successor, self.config.now())
            }
            None if batch.pending.iter().all(is_fact) => Ok(Saved::Unchanged),
            None => {
                let mut pending = batch.pending.clone();
                pending.extend(batch.client.facts());
                let (id, key, record) =
                    commit::create(&self.config, batch.policy, &pending).await?;
                let outcome = Outcome::Done {
                    key,
                    record,
                    written: true,
                };
                self.state()
                    .committed(&batch.pending, outcome, Some(id), self.config.now())
            }
        }
    }

    /// Asks for another idle lifetime for this one session.
    pub(crate) fn set_ttl(&self, ttl: Duration) {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut state = self.state();
        let base = state.stored_slot(facts::TTL.name());
        state.replace(Pending::fact(&facts::TTL, base, Some(&millis)));
    }

    /// Lifts the binding to address and user agent.
    pub(crate) fn unbind(&self) {
        let mut state = self.state();
        state.client.unbound = true;
        for row in [&facts::ADDRESS, &facts::USER_AGENT] {
            let base = state.stored_slot(row.name());
            state.replace(Pending::fact(row, base, None));
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        let state = self.state();
        Facts {
            id: state.id.filter(|_| state.key.is_some()),
            is_stored: state.stored.is_some(),
            ended: state.ended.clone(),
            created: state
                .stored
                .as_deref()
                .and_then(|record| fact(record, &facts::CREATED))
                .map(Timestamp::from_millis),
            updated: state.stored.as_ref().map(|record| record.updated),
            expires: state.stored.as_ref().map(|record| record.expires),
        }
    }

    /// Decides what of the handler's work is committed: this is the end of the request.
    pub(crate) fn close(&self, response: &response::Parts) -> Closing {
        let mut state = self.state();
        state.phase = Phase::Closed;
        if let Some(failure) = state.failure.take() {
            return Closing::Failed(failure);
        }
        if state.barred == Some(Barred::Panicked) || !self.is_wanted(response) {
            state.pending.clear();
            return Closing::Settled;
        }
        let Some(record) = state.stored.clone().filter(|_| state.barred.is_none()) else {
            let creates =
                state.barred.is_none() && state.pending.iter().any(|pending| !is_fact(pending));
            return if creates {
                Closing::Writes
            } else {
                Closing::Settled
            };
        };
        let (policy, presented) = (state.policy(&self.config), state.presents());
        let key = state.key.clone().filter(|_| state.pending.is_empty());
        drop(state);
        let Some(key) = key else {
            return Closing::Writes;
        };
        let commit = Commit {
            config: &self.config,
            policy,
            key,
            record,
            pending: Vec::new(),
            successor: None,
            presented,
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
        (notice, state.loaded)
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

/// What one commit is about to write, taken from the state in one go.
struct Batch {
    stored: Option<(Key, Arc<Record>)>,
    pending: Vec<Pending>,
    policy: Policy,
    presented: bool,
    client: Client,
    barred: bool,
}

/// Where a flash that is claimed has to be taken from.
enum Taken {
    /// This request had it to itself.
    Ours(Option<Arc<Slot>>),
    /// The record under this key, if there is one.
    Stored(Option<Key>),
}

fn is_fact(pending: &Pending) -> bool {
    pending.name.as_str().starts_with('@')
}

impl State {
    fn found(&mut self, id: Option<SessionId>, key: Key, record: Arc<Record>) {
        self.id = id;
        self.key = Some(key);
        self.stored = Some(record);
    }

    /// The session ended while the request ran.
    fn lost(&mut self, reason: Ended) {
        observe::gone();
        self.forget();
        self.ended = Some(reason);
        self.barred = Some(Barred::Gone);
    }

    /// Starts over as a guest.
    fn forget(&mut self) {
        self.id = None;
        self.key = None;
        self.stored = None;
        self.pending.clear();
        self.passing.clear();
        self.notice = None;
        self.generation += 1;
    }

    fn policy(&self, config: &Config) -> Policy {
        let (ttl, absolute) = config.lifetimes(self.lifetime);
        Policy {
            ttl,
            absolute,
            touch: self.touch,
        }
    }

    /// Whether the id that the client has presented is the one the record is under.
    fn presents(&self) -> bool {
        let issued = matches!(self.notice, Some(Told::Issued(_)));
        !issued && self.id.as_ref().map(Key::from) == self.key
    }

    fn stored_slot(&self, name: &str) -> Option<Arc<Slot>> {
        self.stored.as_ref()?.slot(name).cloned()
    }

    fn seen_by_handles(&self, now: Timestamp) -> Vec<Arc<Slot>> {
        let mut seen = self
            .stored
            .as_deref()
            .cloned()
            .unwrap_or_else(|| Record::new(now, now));
        for pending in &self.pending {
            match &pending.ours {
                Some(slot) => seen.set(Arc::clone(slot)),
                None => seen.remove(pending.name.as_str()),
            }
        }
        seen.with_slots(self.passing.iter().cloned())
            .slots()
            .to_vec()
    }

    fn fold(&mut self, harvest: &Harvest, now: Timestamp) -> Result<(), Error> {
        if self.barred.is_some() {
            return Ok(());
        }
        if harvest.passing {
            self.passing.extend(harvest.ours.clone());
            return Ok(());
        }
        let shown = |base: &Arc<Slot>| self.passing.iter().any(|slot| Arc::ptr_eq(slot, base));
        let base = harvest.base.as_ref().filter(|base| !shown(base));
        if base.is_none() && harvest.ours.is_none() {
            return Ok(()); // a value for this request alone was used up
        }
        let written = harvest.ours.as_ref().map(|slot| slot.name().as_str());
        match base.filter(|base| Some(base.name().as_str()) != written) {
            // It was read under an older name, and is written under the present one.
            Some(old) if written.is_some() => {
                self.fold_slot(harvest, Some(old), None, now)?;
                self.fold_slot(harvest, None, harvest.ours.as_ref(), now)
            }
            _ => self.fold_slot(harvest, base, harvest.ours.as_ref(), now),
        }
    }

    fn fold_slot(
        &mut self,
        harvest: &Harvest,
        base: Option<&Arc<Slot>>,
        ours: Option<&Arc<Slot>>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(name) = ours.or(base).map(|slot| slot.name().clone()) else {
            return Ok(());
        };
        let stored = self
            .stored
            .as_ref()
            .and_then(|record| record.live_slot(name.as_str(), now))
            .cloned();
        let earlier = self.pending.iter().find(|pending| pending.name == name);
        let (base_in_store, current) = match earlier {
            Some(pending) => (pending.base.clone(), pending.ours.clone()),
            None => (stored.clone(), stored),
        };
        let ours = settle(harvest.row, base, ours, current.as_ref())?;
        self.replace(Pending {
            row: harvest.row,
            name,
            base: base_in_store,
            ours,
        });
        Ok(())
    }

    /// Puts a pending change in place of any other to its slot.
    fn replace(&mut self, change: Pending) {
        self.pending.retain(|pending| pending.name != change.name);
        if change.is_change() {
            self.pending.push(change);
        }
    }

    fn batch(&self, config: &Config) -> Batch {
        Batch {
            stored: self.key.clone().zip(self.stored.clone()),
            pending: self.pending.clone(),
            policy: self.policy(config),
            presented: self.presents(),
            client: self.client.clone(),
            barred: self.barred.is_some(),
        }
    }

    /// Takes note of what came of a commit of `batch`. What was folded in meanwhile stays pending, on top of
    /// what is stored now.
    fn committed(
        &mut self,
        batch: &[Pending],
        outcome: Outcome,
        issued: Option<SessionId>,
        now: Timestamp,
    ) -> Result<Saved, Error> {
        let Outcome::Done {
            key,
            record,
            written,
        } = outcome
        else {
            self.lost(Ended::Revoked);
            return Ok(Saved::Ended);
        };
        let newer = std::mem::take(&mut self.pending);
        for pending in newer {
            let sent = batch.iter().find(|sent| sent.name == pending.name);
            if sent.is_some_and(|sent| same_slot(sent.ours.as_ref(), pending.ours.as_ref())) {
                continue;
            }
            let base = sent.map_or(pending.base.clone(), |sent| sent.ours.clone());
            let theirs = record.live_slot(pending.name.as_str(), now);
            self.replace(Pending { base, ..pending }.rebased(theirs)?);
        }
        if let Some(id) = issued {
            self.notice = Some(Told::Issued(id));
        }
        self.found(issued.or(self.id), key, record);
        Ok(if written {
            Saved::Written
        } else {
            Saved::Unchanged
        })
    }

    /// Takes a flash that this request has to itself, or says where it is stored.
    fn take_passing(&mut self, name: &str) -> Taken {
        if let Some(at) = self
            .passing
            .iter()
            .position(|slot| slot.name().as_str() == name)
        {
            return Taken::Ours(Some(self.passing.swap_remove(at)));
        }
        match self
            .pending
            .iter_mut()
            .find(|pending| pending.name.as_str() == name)
        {
            Some(pending) => Taken::Ours(pending.ours.take()),
            None => Taken::Stored(self.key.clone()),
        }
    }

    fn forget_slot(&mut self, slot: &Arc<Slot>) {
        if let Some(record) = &mut self.stored {
            Arc::make_mut(record).remove(slot.name().as_str());
        }
    }
}

impl Client {
    fn of(parts: &Parts, config: &Config) -> Self {
        let agent = || {
            parts
                .headers
                .get(USER_AGENT)
                .map_or(&b""[..], |agent| agent.as_bytes())
        };
        Self {
            address: config
                .address_of
                .as_ref()
                .and_then(|address_of| address_of(parts)),
            user_agent: config
                .bind_user_agent
                .then(|| String::from_utf8_lossy(agent()).into_owned()),
            unbound: false,
        }
    }

    /// Why this is another client than the record is bound to, if it is.
    fn differs(&self, record: &Record, config: &Config) -> Option<Ended> {
        let address = fact(record, &facts::ADDRESS).filter(|_| config.address_of.is_some());
        if address.is_some_and(|bound| Some(bound) != self.address_text()) {
            return Some(Ended::AddressDiffers);
        }
        let agent = fact(record, &facts::USER_AGENT).filter(|_| config.bind_user_agent);
        let differs = agent.is_some() && agent != self.user_agent;
        differs.then_some(Ended::UserAgentDiffers)
    }

    fn address_text(&self) -> Option<String> {
        self.address.map(|address| address.to_string())
    }

    /// What a session of this client is bound to.
    fn facts(&self) -> Vec<Pending> {
        if self.unbound {
            return Vec::new();
        }
        let address = self.address_text();
        let fact = |row, value: Option<&String>| Pending::fact(row, None, value);
        vec![
            fact(&facts::ADDRESS, address.as_ref()),
            fact(&facts::USER_AGENT, self.user_agent.as_ref()),
        ]
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}
