//! Commits: from what a request changed to what came of it.
//!
//! Planning and settling are functions of their arguments; [`Commit::run`] and its like call the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::change::{Change, Committed, Expiry, Kind, SlotChange, SlotOp};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Error, StoreError};
use crate::id::SessionId;
use crate::key::{Key, UserId};
use crate::merge::{Occasion, Sides};
use crate::observe;
use crate::record::{Ended, FieldName, Record, Slot, State, slot_size};
use crate::schema::{AnyRow, MergeFault, Row, facts};
use crate::store::Answer;

/// How long a moved session's old id stays good once the new one has been presented.
const GRACE: Duration = Duration::from_secs(10);

/// How old a claim has to be to count as abandoned: whoever made it would have finished long since.
const ABANDONED: Duration = Duration::from_secs(10);

/// For how long requests with an id that a login or logout has replaced are served as an empty guest who
/// writes nothing, so that they cannot overwrite the newer id.
pub(crate) const SUPERSEDED: Duration = Duration::from_secs(5 * 60);

/// A change to one slot that waits for its commit.
#[derive(Clone)]
pub(crate) struct Pending {
    pub(crate) row: &'static dyn AnyRow,
    pub(crate) name: FieldName,
    /// What it is based on, as stored.
    pub(crate) base: Option<Arc<Slot>>,
    /// What is to be there; `None` takes it out.
    pub(crate) ours: Option<Arc<Slot>>,
    /// It was only read: until the request ends, handles see what is stored.
    pub(crate) used_up: bool,
}

impl Pending {
    /// Sets one of the session's own facts: a number or text, which always has a JSON form.
    pub(crate) fn fact<T: Send + Sync>(
        row: &'static Row<T>,
        base: Option<Arc<Slot>>,
        value: Option<&T>,
    ) -> Self {
        let payload = value.and_then(|value| row.encode_value(value).ok());
        let ours = payload.map(|payload| row.slot(payload, None));
        Self::of(row, base, ours)
    }

    /// Sets a field.
    pub(crate) fn of(
        row: &'static dyn AnyRow,
        base: Option<Arc<Slot>>,
        ours: Option<Arc<Slot>>,
    ) -> Self {
        Self {
            row,
            name: FieldName::fixed(row.name()),
            base,
            ours,
            used_up: false,
        }
    }

    /// Sets a slot whose rule does not matter, since nothing else writes it.
    pub(crate) fn raw(name: FieldName, base: Option<Arc<Slot>>, ours: Option<Arc<Slot>>) -> Self {
        Self {
            row: &facts::RAW,
            name,
            base,
            ours,
            used_up: false,
        }
    }

    /// Whether anything is left to be written.
    pub(crate) fn is_change(&self) -> bool {
        !same_slot(self.base.as_ref(), self.ours.as_ref())
    }

    /// The same change, based on what is in the store by now.
    pub(crate) fn rebased(&self, theirs: Option<&Arc<Slot>>) -> Result<Self, Error> {
        let base = self.base.as_ref();
        let ours = settle(
            self.row,
            base,
            self.ours.as_ref(),
            theirs,
            Occasion::Conflict,
        )?;
        Ok(Self {
            base: theirs.cloned(),
            ours,
            ..self.clone()
        })
    }

    /// What is stored of it: under its name, or under an older one.
    pub(crate) fn stored_in<'r>(
        &self,
        record: &'r Record,
        now: Timestamp,
    ) -> Option<&'r Arc<Slot>> {
        stored_under(self.name.as_str(), self.row, record, now)
    }

    /// Makes it seen in `record`.
    pub(crate) fn show(&self, record: &mut Record) {
        if let Some(base) = &self.base {
            record.remove(base.name().as_str()); // maybe an older name
        }
        if let Some(slot) = &self.ours {
            record.set(Arc::clone(slot));
        }
    }

    /// What is asked of the store: two things if the field was read under an older name.
    pub(crate) fn to_changes(&self) -> impl Iterator<Item = SlotChange> + use<> {
        let (drop, change) = match (self.base.clone(), self.ours.clone()) {
            (None, None) => (None, None),
            (Some(base), None) => (Some(SlotChange::drop(base)), None),
            (Some(base), Some(ours)) if base.name() != ours.name() => (
                Some(SlotChange::drop(base)),
                Some(SlotChange::set(None, ours)),
            ),
            (Some(base), Some(ours)) if base.signature() == ours.signature() => {
                (None, Some(SlotChange::retime(base, ours.expires())))
            }
            (base, Some(ours)) => (None, Some(SlotChange::set(base, ours))),
        };
        drop.into_iter().chain(change)
    }
}

/// The slot that a reader of the field finds: under `name`, or under an older one.
pub(crate) fn stored_under<'r>(
    name: &str,
    row: &dyn AnyRow,
    record: &'r Record,
    now: Timestamp,
) -> Option<&'r Arc<Slot>> {
    let mut names = std::iter::once(name).chain(row.aliases().iter().copied());
    names.find_map(|name| record.live_slot(name, now))
}

pub(crate) fn same_payload(a: Option<&Arc<Slot>>, b: Option<&Arc<Slot>>) -> bool {
    a.map(|slot| slot.signature()) == b.map(|slot| slot.signature())
}

pub(crate) fn same_slot(a: Option<&Arc<Slot>>, b: Option<&Arc<Slot>>) -> bool {
    same_payload(a, b) && a.map(|slot| slot.expires()) == b.map(|slot| slot.expires())
}

/// What becomes of a slot, given what both sides started from.
///
/// Where one side left the payload alone, the other side's stands; where both changed it, the field's rule
/// decides, also if they wrote the same. Of the expiry: where one side changed it, that; where both did, the
/// later.
pub(crate) fn settle(
    row: &dyn AnyRow,
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
    occasion: Occasion,
) -> Result<Option<Arc<Slot>>, Error> {
    let payload = if same_payload(ours, base) {
        theirs.cloned()
    } else if same_payload(theirs, base) {
        ours.cloned()
    } else {
        merge(row, base, ours, theirs, occasion)?
    };
    let expires = settled_expiry(base, ours, theirs);
    Ok(payload.map(|slot| {
        if expires == slot.expires() {
            slot
        } else {
            Arc::new(slot.retimed(expires))
        }
    }))
}

fn merge(
    row: &dyn AnyRow,
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
    occasion: Occasion,
) -> Result<Option<Arc<Slot>>, Error> {
    let sides = Sides {
        base: base.map(AsRef::as_ref),
        ours: ours.map(AsRef::as_ref),
        theirs: theirs.map(AsRef::as_ref),
        occasion,
    };
    match row.merge(sides) {
        Ok(merged) => Ok(merged),
        Err(MergeFault::Rejected) => Err(Error::rejected(row.name())),
        Err(MergeFault::Encode(error)) => Err(Error::encode(row.name(), error)),
        Err(MergeFault::Undecodable) => {
            observe::undecodable(row.name());
            Ok(theirs.cloned())
        }
    }
}

/// When a slot that both sides may have retimed lapses.
fn settled_expiry(
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
) -> Option<Timestamp> {
    const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);
    let lapse = |side: Option<&Arc<Slot>>| side.map(|slot| slot.expires().unwrap_or(NEVER));
    let (base, ours, theirs) = (lapse(base), lapse(ours), lapse(theirs));
    let settled = if ours == base {
        theirs
    } else if theirs == base {
        ours
    } else {
        ours.max(theirs)
    };
    settled.filter(|lapse| *lapse < NEVER)
}

/// How long the session is to live, as far as this request has a say.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) ttl: Duration,
    pub(crate) absolute: Duration,
    /// Whether the request counts as use.
    pub(crate) touch: bool,
}

impl Policy {
    /// What follows a user neither idles out nor has a limit.
    pub(crate) const OF_ACCOUNTS: Self = Self {
        ttl: Duration::MAX,
        absolute: Duration::MAX,
        touch: false,
    };

    /// When a session that begins at `now` expires.
    fn initial(self, now: Timestamp, ttl: Option<Duration>) -> Timestamp {
        now + ttl.unwrap_or(self.ttl).min(self.absolute)
    }

    /// The time that nothing extends `record` beyond, if that can be told.
    pub(crate) fn limit(self, record: &Record) -> Option<Timestamp> {
        let created = fact(record, &facts::CREATED)?;
        Some(Timestamp::from_millis(created) + self.absolute)
    }

    /// When `record` is to expire if it is used at `now`.
    fn extended(self, record: &Record, now: Timestamp) -> Option<Timestamp> {
        let ttl = fact(record, &facts::TTL).map_or(self.ttl, Duration::from_millis);
        Some((now + ttl).min(self.limit(record)?))
    }

    /// Whether an extension is worth a round trip of its own: it is, once every tenth of the lifetime, and for
    /// the last one there is, up to the limit.
    fn is_due(self, record: &Record, now: Timestamp) -> bool {
        let ttl = fact(record, &facts::TTL).map_or(self.ttl, Duration::from_millis);
        let Some(to) = self.extended(record, now).filter(|_| self.touch) else {
            return false;
        };
        let last = self.limit(record) == Some(to);
        to > record.expires && (last || to.since(record.expires) >= ttl / 10)
    }
}

/// One of the session's own facts.
pub(crate) fn fact<T>(record: &Record, row: &Row<T>) -> Option<T> {
    let slot = record.slot(row.name())?;
    row.decode_payload(slot.payload()).ok()
}

/// A stored session, and what is to become of it.
pub(crate) struct Commit<'a> {
    pub(crate) config: &'a Config,
    pub(crate) policy: Policy,
    /// Where it is.
    pub(crate) key: Key,
    /// What it was when last seen.
    pub(crate) record: Arc<Record>,
    pub(crate) pending: Vec<Pending>,
    /// A key to move it to.
    pub(crate) successor: Option<Key>,
    /// Whether the client has presented the id of `key`, and not one that only leads to it.
    pub(crate) presented: bool,
    /// What was asked of the store before, without an answer.
    pub(crate) asked: Option<Change>,
}

/// A commit that may or may not have happened: all that is needed to ask again.
pub(crate) struct Doubt {
    asked: Change,
    key: Key,
    record: Arc<Record>,
    pending: Vec<Pending>,
    successor: Option<Key>,
}

impl Doubt {
    /// The commit that asks again, under the same id.
    pub(crate) fn resume(self, config: &Config, policy: Policy, presented: bool) -> Commit<'_> {
        Commit {
            config,
            policy,
            key: self.key,
            record: self.record,
            pending: self.pending,
            successor: self.successor,
            presented,
            asked: Some(self.asked),
        }
    }
}

/// Why a commit failed, and what is in doubt since.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) doubt: Option<Doubt>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, doubt: None }
    }
}

/// What came of a commit.
pub(crate) enum Outcome {
    /// It is in the store, as `record` under `key`. Whether anything had to be written for it.
    Done {
        key: Key,
        record: Arc<Record>,
        written: bool,
    },
    /// The session has ended meanwhile, and the changes with it.
    Gone,
}

impl<'a> Commit<'a> {
    /// Changes to what follows a user.
    pub(crate) fn to_account(
        config: &'a Config,
        key: Key,
        record: Arc<Record>,
        pending: Vec<Pending>,
    ) -> Self {
        Self {
            config,
            policy: Policy::OF_ACCOUNTS,
            key,
            record,
            pending,
            successor: None,
            presented: false,
            asked: None,
        }
    }

    /// Whether a commit is called for though nothing is pending.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.policy.is_due(&self.record, now) && self.config.watch.is_steady()
            || self.leads_from().is_some()
    }

    /// Commits, merges what conflicts, and tries again until it is settled or the deadline has passed. After the
    /// first conflict it waits in the key's queue, no longer than that either.
    pub(crate) async fn run(mut self) -> Result<Outcome, Failure> {
        let deadline = Instant::now() + self.config.deadline;
        let config = self.config;
        let (mut written, mut queue, mut conflicts) = (false, None, 0);
        while let Some(change) = self.next(config.now())? {
            let committed = match commit(config, &self.key, &change, deadline).await {
                Ok(committed) => committed,
                Err(error) => return Err(self.failed(change, error)),
            };
            match committed {
                Committed::Applied => {
                    change.apply(Arc::make_mut(&mut self.record));
                    self.key = self.successor.take().unwrap_or(self.key);
                    written = true;
                    break;
                }
                Committed::Conflict(record) => {
                    self.rebase(record, config.now())?;
                    conflicts += 1;
                    if queue.is_none() {
                        queue = timeout_at(deadline, config.queue(&self.key)).await.ok();
                    }
                    // Else at once, while this is what is stored: who waits first loses to who does not.
                    if conflicts % 16 == 0 {
                        tokio::time::sleep(jitter(conflicts)).await;
                    }
                }
                Committed::Moved(key) => {
                    self.key = key;
                    self.presented = false;
                }
                Committed::Gone => return Ok(Outcome::Gone),
                Committed::Exists => return Err(Error::unsettled().into()),
            }
            if Instant::now() >= deadline {
                observe::unsettled();
                return Err(Error::unsettled().into());
            }
        }
        drop(queue);
        Ok(Outcome::Done {
            key: self.key,
            record: self.record,
            written,
        })
    }

    fn next(&mut self, now: Timestamp) -> Result<Option<Change>, Error> {
        match self.asked.take() {
            Some(change) => Ok(Some(change)),
            None => self.plan(now),
        }
    }

    fn failed(self, change: Change, error: StoreError) -> Failure {
        let doubt = error.is_transient().then_some(Doubt {
            asked: change,
            key: self.key,
            record: self.record,
            pending: self.pending,
            successor: self.successor,
        });
        Failure {
            error: error.into(),
            doubt,
        }
    }

    /// Puts what is pending on top of what is stored by now.
    fn rebase(&mut self, record: Arc<Record>, now: Timestamp) -> Result<(), Error> {
        observe::conflict();
        self.pending = rebase(&self.pending, Some(&record), now)?;
        self.record = record;
        Ok(())
    }

    /// The change to ask of the store; `None` if there is nothing to do.
    fn plan(&self, now: Timestamp) -> Result<Option<Change>, Error> {
        let kind = match &self.successor {
            Some(to) => Kind::Move(
                to.clone(),
                self.policy
                    .limit(&self.record)
                    .unwrap_or(self.record.expires),
            ),
            None => Kind::Update,
        };
        let mut change = Change::new(kind, now);
        change.slots = self.pending.iter().flat_map(Pending::to_changes).collect();
        check_sizes(self.config, Some(&self.record), &change.slots)?;
        if change.slots.is_empty() && self.successor.is_none() && !self.is_due(now) {
            return Ok(None);
        }
        self.plan_lifetime(&mut change);
        self.plan_move(&mut change);
        Ok(Some(change))
    }

    fn plan_lifetime(&self, change: &mut Change) {
        let mut after = Arc::clone(&self.record);
        if change
            .slots
            .iter()
            .any(|slot| slot.name.as_str() == facts::TTL.name())
        {
            change.apply(Arc::make_mut(&mut after));
            change.expiry = self
                .policy
                .extended(&after, change.now)
                .map_or(Expiry::Keep, Expiry::Set);
        } else if let Some(to) = self.extension(change.now) {
            change.expiry = Expiry::Extend(to);
            let ttl = self.record.live_slot(facts::TTL.name(), change.now);
            change.unchanged.push((
                FieldName::fixed(facts::TTL.name()),
                ttl.map(|slot| slot.signature()),
            ));
        }
    }

    fn extension(&self, now: Timestamp) -> Option<Timestamp> {
        let wanted = self.policy.touch && self.config.watch.is_steady();
        let to = wanted
            .then(|| self.policy.extended(&self.record, now))
            .flatten()?;
        (to > self.record.expires).then_some(to)
    }

    /// Notes where a moved record came from, and lets go of that once its own id has been presented.
    fn plan_move(&self, change: &mut Change) {
        let from = self.record.slot(facts::MOVED_FROM.name()).cloned();
        let leads = self.leads_from();
        change.retire = leads.clone().map(|key| (key, change.now + GRACE));
        if self.successor.is_some() {
            let pending = Pending::fact(&facts::MOVED_FROM, from, Some(&self.key.to_string()));
            change.slots.extend(pending.to_changes());
        } else if let Some(from) = from.filter(|_| leads.is_some()) {
            change.slots.push(SlotChange::drop(from));
        }
    }

    /// The key that still leads here though it need not any more.
    fn leads_from(&self) -> Option<Key> {
        let from = self
            .presented
            .then(|| fact(&self.record, &facts::MOVED_FROM))
            .flatten()?;
        Key::parse(&from)
    }
}

/// Puts pending changes on top of another state of the record. What comes to nothing is left out.
pub(crate) fn rebase(
    pending: &[Pending],
    record: Option<&Arc<Record>>,
    now: Timestamp,
) -> Result<Vec<Pending>, Error> {
    let mut rebased = Vec::with_capacity(pending.len());
    for change in pending {
        let theirs = record.and_then(|record| change.stored_in(record, now));
        let change = change.rebased(theirs)?;
        if change.is_change() {
            rebased.push(change);
        }
    }
    Ok(rebased)
}

pub(crate) fn check_sizes(
    config: &Config,
    record: Option<&Record>,
    slots: &[SlotChange],
) -> Result<(), Error> {
    if slots.is_empty() {
        return Ok(());
    }
    let held = |name: &str| record.and_then(|record| record.slot(name));
    let mut after = record.map_or(0, Record::size);
    let mut grows = false;
    for slot in slots {
        let before = held(slot.name.as_str()).map_or(0, |held| slot_size(held));
        let set = match &slot.to {
            SlotOp::Set(set) => slot_size(set),
            SlotOp::Retime(_) => before,
            SlotOp::Drop => 0,
        };
        if let SlotOp::Set(set) = &slot.to
            && set.payload().len() > config.max_field
        {
            return Err(Error::field_too_large(set, config.max_field));
        }
        grows |= set > before;
        after = (after + set).saturating_sub(before);
    }
    if grows && after > config.max_record {
        return Err(Error::too_large("the session", after, config.max_record));
    }
    Ok(())
}

/// Creates a session of what is pending, under a fresh id.
pub(crate) async fn create(
    config: &Config,
    policy: Policy,
    pending: &[Pending],
    owner: Option<&UserId>,
) -> Result<(SessionId, Key, Arc<Record>), Error> {
    let deadline = Instant::now() + config.deadline;
    loop {
        let id = SessionId::generate()?;
        let key = Key::from(&id);
        let mut change = plan_create(config, policy, pending)?;
        change.owner = owner.cloned();
        match commit(config, &key, &change, deadline).await? {
            Committed::Applied => {
                let mut record = Record::new(change.now, change.now);
                change.apply(&mut record);
                return Ok((id, key, Arc::new(record)));
            }
            // One in 2^160, or a generator that repeats itself.
            _ if Instant::now() < deadline => {}
            _ => return Err(Error::unsettled()),
        }
    }
}

fn plan_create(config: &Config, policy: Policy, pending: &[Pending]) -> Result<Change, Error> {
    let now = config.now();
    let mut change = Change::new(Kind::Create, now);
    let created = Pending::fact(&facts::CREATED, None, Some(&now.as_millis()));
    change.slots = pending
        .iter()
        .chain([&created])
        .flat_map(Pending::to_changes)
        .collect();
    check_sizes(config, None, &change.slots)?;
    let ttl = pending
        .iter()
        .find(|change| change.name.as_str() == facts::TTL.name());
    let ttl = ttl.and_then(|change| {
        facts::TTL
            .decode_payload(change.ours.as_ref()?.payload())
            .ok()
    });
    change.expiry = Expiry::Set(policy.initial(now, ttl.map(Duration::from_millis)));
    Ok(change)
}

/// Ends the session under `key`. Whether it was still there to be ended.
pub(crate) async fn end(config: &Config, mut key: Key, reason: Ended) -> Result<bool, Error> {
    let change = Change::new(Kind::End(reason), config.now());
    match ask(config, &mut key, &change).await? {
        Committed::Applied => Ok(true),
        Committed::Gone => Ok(false),
        _ => Err(Error::unsettled()),
    }
}

/// Takes the slot `name` out of the record under `key`, whichever value it has by then, and returns that.
pub(crate) async fn take_out(
    config: &Config,
    mut key: Key,
    slot: &Arc<Slot>,
) -> Result<Option<Arc<Slot>>, Error> {
    let deadline = Instant::now() + config.deadline;
    let mut slot = Arc::clone(slot);
    while Instant::now() < deadline {
        let mut change = Change::new(Kind::Update, config.now());
        change.slots.push(SlotChange::drop(Arc::clone(&slot)));
        match commit(config, &key, &change, deadline).await? {
            Committed::Applied => return Ok(Some(slot)),
            Committed::Conflict(record) => {
                match record.live_slot(slot.name().as_str(), config.now()) {
                    Some(newer) => slot = Arc::clone(newer),
                    None => return Ok(None),
                }
            }
            Committed::Moved(to) => key = to,
            Committed::Gone | Committed::Exists => return Ok(None),
        }
    }
    Err(Error::unsettled())
}

/// What is under a key.
pub(crate) enum Found {
    /// A session, under the key it has moved to.
    Live(Key, Arc<Record>),
    /// None any more, or there never was one.
    Ended(Ended),
    /// The client has just logged in or out, and will soon present a newer id.
    Superseded(Ended),
    /// A login of the client is under way, or was broken off a moment ago.
    Claimed(Key),
    /// A session that is frozen for a login that was never finished.
    Abandoned {
        key: Key,
        by: UserId,
        at: Timestamp,
        record: Arc<Record>,
    },
}

/// The record under `key`, wherever it has moved, or why there is none.
pub(crate) async fn find(config: &Config, mut key: Key) -> Result<Found, Error> {
    let deadline = Instant::now() + config.deadline;
    loop {
        let found = within(deadline, config.store.load(&key)).await?;
        let now = config.now();
        let Some(record) = found.filter(|record| record.is_live(now)) else {
            return Ok(Found::Ended(Ended::Expired));
        };
        match record.state.clone() {
            State::Live => return Ok(Found::Live(key, record)),
            State::Moved(to) => key = to,
            State::Ended(reason) => return Ok(ended(reason, now.since(record.seen))),
            State::Claimed { at, .. } if now.since(at) < ABANDONED => {
                return Ok(Found::Claimed(key));
            }
            State::Claimed { by, at } => {
                return Ok(Found::Abandoned {
                    key,
                    by,
                    at,
                    record,
                });
            }
        }
        if Instant::now() >= deadline {
            return Err(Error::timeout());
        }
    }
}

fn ended(reason: Ended, ago: Duration) -> Found {
    let replaced = matches!(reason, Ended::LoggedIn | Ended::LoggedOut);
    if replaced && ago < SUPERSEDED {
        Found::Superseded(reason)
    } else {
        Found::Ended(reason)
    }
}

/// The record under exactly this key, if it is there and live.
pub(crate) async fn look_up(config: &Config, key: &Key) -> Result<Option<Arc<Record>>, Error> {
    let deadline = Instant::now() + config.deadline;
    let found = within(deadline, config.store.load(key)).await?;
    let live = |record: &Arc<Record>| record.is_live(config.now()) && record.state == State::Live;
    Ok(found.filter(live))
}

/// The record that is frozen under `key` for the login of `user`, and since when; `None` if that is over
/// already.
pub(crate) async fn claimed(
    config: &Config,
    key: &Key,
    user: &UserId,
) -> Result<Option<(Timestamp, Arc<Record>)>, Error> {
    let deadline = Instant::now() + config.deadline;
    let found = within(deadline, config.store.load(key)).await?;
    Ok(found.and_then(|record| match &record.state {
        State::Claimed { by, at } if by == user => Some((*at, record)),
        _ => None,
    }))
}

/// Asks for one change of the record under `key`, wherever it has moved.
pub(crate) async fn ask(
    config: &Config,
    key: &mut Key,
    change: &Change,
) -> Result<Committed, Error> {
    ask_until(config, key, change, Instant::now() + config.deadline).await
}

/// The same, no longer than until `latest`.
pub(crate) async fn ask_until(
    config: &Config,
    key: &mut Key,
    change: &Change,
    latest: Instant,
) -> Result<Committed, Error> {
    let deadline = latest.min(Instant::now() + config.deadline);
    loop {
        match commit(config, key, change, deadline).await? {
            Committed::Moved(to) if Instant::now() < deadline => *key = to,
            committed => return Ok(committed),
        }
    }
}

/// Asks the store to commit; while the outcome is unknown, again under the same id, until the deadline.
async fn commit(
    config: &Config,
    key: &Key,
    change: &Change,
    deadline: Instant,
) -> Result<Committed, StoreError> {
    let mut tries = 0;
    loop {
        match within(deadline, config.store.commit(key, change)).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tries += 1;
                tokio::time::sleep_until(deadline.min(Instant::now() + jitter(tries))).await;
            }
            outcome => return outcome,
        }
    }
}

/// The answer, if it comes before the deadline. A store that answers at once costs no timer.
async fn within<T>(deadline: Instant, mut answer: Answer<'_, T>) -> Result<T, StoreError> {
    use std::task::Poll;

    let at_once = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
    if let Poll::Ready(answer) = at_once {
        return answer;
    }
    match timeout_at(deadline, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::timeout()),
    }
}

/// A random wait that grows with the tries, to a tenth of a second.
fn jitter(tries: u32) -> Duration {
    let longest = Duration::from_millis(1 << tries.min(6)).min(Duration::from_millis(100));
    longest.mul_f64(rand::random())
}

#[cfg(test)]
mod laws;
