//! Logging in and out.
//!
//! What a guest has gathered is credited to the user exactly once, whatever crashes or races, in four
//! commits: *claim* the guest's record, so that nothing changes it any more; *credit* it to the user's record,
//! together with a mark that says so; *open* a new session, owned by the user; *end* the guest's record. Whoever
//! crashes in between leaves a claim behind. The next to load it looks for the mark: if it is there, the rest is
//! done; if not, the record is given back to the guest.
//!
//! Before all that it makes sure of the user's record, and of the epoch in it: that is where a login begins. Who
//! revokes all of the user's sessions from then on, or deletes the user, changes the epoch, and stops it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::part::Part;
use super::{Barred, Phase, Request};
use crate::change::{Change, Committed, Expiry, Kind, SlotChange, SlotOp};
use crate::clock::Timestamp;
use crate::commit::{
    self, Found, Pending, SUPERSEDED, check_sizes, epoch, fact, settle, stored_under,
};
use crate::error::Error;
use crate::event::EventKind;
use crate::id::random_text;
use crate::key::{Key, UserId};
use crate::merge::Occasion;
use crate::record::{Ended, FieldName, Record, Slot};
use crate::schema::{AnyRow, facts};
use crate::signature::Signature;
use crate::task::to_its_end;

/// Rows of the schema that the login goes through.
pub(crate) type Rows = Vec<&'static dyn AnyRow>;

/// How long after its claim a login may still credit. Shorter than what makes a claim count as abandoned.
const CREDIT_WITHIN: Duration = Duration::from_secs(8);

/// User records do not expire.
const FOREVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// Slots of a session that wait for a schema that knows them.
pub(super) const WAITING: &str = "@pending/";

/// Slots of a user's record that say what has been credited.
pub(super) const MARK: &str = "@merged/";

/// One login.
pub(super) struct Login<'a> {
    pub(super) user: &'a UserId,
    /// Rows of the schema that it goes through.
    rows: &'a Rows,
    /// What the new session is to be called.
    pub(super) device: String,
    /// The epoch of the user's record when it began: a slot that must not have changed.
    epoch: (FieldName, Option<Signature>),
    /// Until when its session lives if it does not get to its end. None where any may stay.
    provisional: Option<Timestamp>,
}

impl Login<'_> {
    /// Whether nobody has deleted the user, or revoked all sessions, since the login began.
    pub(super) fn is_of_this_epoch(&self, account: &Record) -> bool {
        epoch::unchanged(account) == self.epoch
    }

    /// Whether it took so long that its session is not there any more.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.provisional.is_some_and(|until| until <= now)
    }
}

/// What a session brings to a login.
#[derive(Default)]
pub(super) struct Gathered {
    /// The record, as frozen, and where.
    frozen: Option<(Key, Arc<Record>)>,
    /// What this request has changed, on top of that.
    pending: Vec<Pending>,
    /// The session that is to be ended.
    ends: Option<Key>,
    /// Until when it may be credited.
    credit_by: Option<Instant>,
    /// When this login claimed it. Not where it takes up the claim of another.
    claimed: Option<Timestamp>,
    /// Whose session it was.
    owner: Option<UserId>,
}

impl Gathered {
    /// The mark that says that a guest's frozen record has been credited.
    fn mark(&self) -> Option<String> {
        let (key, _) = self.frozen.as_ref().filter(|_| !self.is_of_a_user())?;
        Some(mark_of(key))
    }

    /// The session was a user's already: what follows the user is in the user's record.
    fn is_of_a_user(&self) -> bool {
        let frozen = self.frozen.as_ref();
        frozen.is_some_and(|(_, record)| owner_of(record).is_some())
    }

    /// Puts what this request has changed on top of what is frozen.
    fn settle(&mut self, now: Timestamp) -> Result<(), Error> {
        if let Some((_, record)) = &self.frozen {
            self.pending = commit::rebase(&self.pending, record, now)?;
        }
        Ok(())
    }

    /// Whether `account` says that the guest's frozen record has been credited.
    fn is_credited_in(&self, account: &Record) -> bool {
        self.mark().is_some_and(|mark| is_credited(account, &mark))
    }

    /// Where the session of the same user is that the new one takes the place of.
    pub(super) fn replaces(&self) -> Option<&Key> {
        let (key, _) = self.frozen.as_ref().filter(|_| self.is_of_a_user())?;
        Some(key)
    }

    /// The slots, with what this request has changed.
    fn slots(&self, now: Timestamp) -> Record {
        let mut slots = Record::new(now, now);
        if let Some((_, record)) = &self.frozen {
            slots = slots.with_slots(record.slots().iter().cloned());
        }
        for pending in &self.pending {
            pending.show(&mut slots);
        }
        slots
    }
}

/// The slot of a user's record that says that the guest's record under `key` has been credited.
pub(super) fn mark_of(key: &Key) -> String {
    format!("{MARK}{key}")
}

/// Whether a mark is there.
pub(super) fn is_credited(account: &Record, mark: &str) -> bool {
    account.slot(mark).is_some()
}

/// The row that knows a slot of that name, be it an older one.
pub(super) fn row_of(rows: &Rows, name: &str) -> Option<&'static dyn AnyRow> {
    rows.iter().find(|row| row.knows(name)).copied()
}

impl Request {
    /// Logs `user` in. See [`Session::login`](crate::Session::login).
    pub(crate) async fn login(self: Arc<Self>, user: UserId, rows: Rows) -> Result<(), Error> {
        to_its_end(async move {
            let _gate = self.gate().await?;
            self.log_in(&user, &rows).await
        })
        .await
    }

    /// Whoever calls it holds the gate.
    async fn log_in(&self, user: &UserId, rows: &Rows) -> Result<(), Error> {
        if self.state().phase != Phase::Running {
            return Err(Error::too_late());
        }
        self.save_account().await?;
        let _ = self.settle_doubt().await?;
        let account = self.begin(user).await?;
        let mut login = Login {
            user,
            rows,
            device: random_text(),
            epoch: epoch::unchanged(&account),
            provisional: None,
        };
        login.provisional = self.take_seat(&login).await?;
        let logged_in = self.complete(&login, account).await;
        if let Err(error) = &logged_in {
            self.vacate_seat(&login, error).await;
        }
        logged_in
    }

    /// The user's record as the login begins. A user who has none gets one: whoever deletes the user from then
    /// on deletes that.
    async fn begin(&self, user: &UserId) -> Result<Arc<Record>, Error> {
        let mut key = Key::User(user.clone());
        let deadline = Instant::now() + self.config.deadline;
        while Instant::now() < deadline {
            if let Some(account) = commit::look_up(&self.config, &key).await? {
                return Ok(account);
            }
            let change = plan_account(self.config.now());
            match commit::ask(&self.config, &mut key, &change).await? {
                Committed::Applied => {
                    let mut account = Record::new(change.now, FOREVER);
                    change.apply(&mut account);
                    return Ok(Arc::new(account));
                }
                Committed::Exists => {}
                _ => return Err(Error::revoked()),
            }
        }
        Err(Error::unsettled())
    }

    /// The four commits.
    async fn complete(&self, login: &Login<'_>, account: Arc<Record>) -> Result<(), Error> {
        let mut gathered = self.gather(login.user).await?;
        let account = match self.credit(login, account, &mut gathered).await {
            Ok(account) => account,
            Err(error) => {
                self.give_back(&gathered, &error).await;
                return Err(error);
            }
        };
        let carried = carried(&gathered, login.rows, self.config.now());
        self.open_session(login, account, carried).await?;
        if let Err(error) = self.verify(login, &gathered).await {
            self.withdraw().await;
            return Err(error);
        }
        self.settle_in(login).await?;
        if let Some(old) = gathered.ends {
            commit::end(&self.config, old, Ended::LoggedIn, gathered.owner.as_ref()).await?;
        }
        Ok(())
    }

    /// The guest goes on at once where nothing can have been credited; else whoever loads the session next
    /// looks whether it was.
    async fn give_back(&self, gathered: &Gathered, error: &Error) {
        let Some((key, _)) = gathered.frozen.as_ref().filter(|_| error.is_definite()) else {
            return;
        };
        let Some(at) = gathered.claimed else { return };
        let release = Change::new(Kind::Release(at), self.config.now());
        if let Err(error) = commit::ask(&self.config, &mut key.clone(), &release).await {
            tracing::warn!(%error, "a login failed, and its guest waits for ten seconds");
        }
    }

    /// Takes back a session that could not be verified: its id is not sent. If it cannot be ended in the
    /// store, nobody knows how to open it.
    async fn withdraw(&self) {
        if let Err(error) = self.end(Ended::Revoked).await {
            tracing::warn!(%error, "a login that failed leaves a session behind that nobody can open");
        }
        let mut state = self.state();
        state.forget();
        state.notice = None;
    }

    /// Ends the session; the user's record stays.
    pub(crate) async fn logout(self: Arc<Self>) -> Result<(), Error> {
        to_its_end(async move {
            let _gate = self.gate().await?;
            self.save_account().await?;
            self.end(Ended::LoggedOut).await
        })
        .await
    }

    /// What was changed of a user who is logged in belongs to that user, whoever logs in next.
    async fn save_account(&self) -> Result<(), Error> {
        self.write_account().await.map(drop)
    }

    /// What the session brings along, frozen. Another user's brings nothing.
    async fn gather(&self, user: &UserId) -> Result<Gathered, Error> {
        let (key, stored, pending) = {
            let state = self.state();
            let session = &state.session;
            let key = session.key.clone().or_else(|| state.frozen.clone());
            (key, session.stored.clone(), session.pending.clone())
        };
        let Some(mut key) = key else {
            return Ok(Gathered {
                pending,
                ..Gathered::default()
            });
        };
        if stored
            .as_deref()
            .is_some_and(|record| is_of_another(user, record))
        {
            return Ok(Gathered {
                ends: Some(key),
                owner: stored.as_deref().and_then(owner_of),
                ..Gathered::default()
            });
        }
        let claim = Change::new(Kind::Claim(user.clone()), self.config.now());
        let claimed = match commit::ask(&self.config, &mut key, &claim).await? {
            Committed::Applied => commit::claimed(&self.config, &key, user).await?,
            _ => None,
        };
        match claimed {
            Some((at, record)) => {
                let ours = at == claim.now;
                Ok(self.gather_claimed(key, at, record, pending, ours))
            }
            None => self.gather_lost(user, key, stored, pending).await,
        }
    }

    fn gather_claimed(
        &self,
        key: Key,
        at: Timestamp,
        record: Arc<Record>,
        pending: Vec<Pending>,
        ours: bool,
    ) -> Gathered {
        let left = CREDIT_WITHIN.saturating_sub(self.config.now().since(at));
        Gathered {
            pending,
            ends: Some(key.clone()),
            owner: owner_of(&record),
            frozen: Some((key, record)),
            credit_by: Some(Instant::now() + left),
            claimed: ours.then_some(at),
        }
    }

    /// The session is over, or claimed for another user. If it was credited to this one, by a login in another
    /// tab, what this request knows of it goes along; else only what this request has of its own.
    async fn gather_lost(
        &self,
        user: &UserId,
        key: Key,
        stored: Option<Arc<Record>>,
        mut pending: Vec<Pending>,
    ) -> Result<Gathered, Error> {
        let account = commit::look_up(&self.config, &Key::User(user.clone())).await?;
        let mark = mark_of(&key);
        let credited = account.is_some_and(|account| is_credited(&account, &mark));
        if !credited {
            pending.retain(|pending| pending.base.is_none());
        }
        Ok(Gathered {
            frozen: stored.filter(|_| credited).map(|record| (key, record)),
            pending,
            ..Gathered::default()
        })
    }

    /// Merges what was gathered into the user's record, once. The record that comes of it.
    async fn credit(
        &self,
        login: &Login<'_>,
        mut account: Arc<Record>,
        gathered: &mut Gathered,
    ) -> Result<Arc<Record>, Error> {
        gathered.settle(self.config.now())?;
        let credited = gathered.is_credited_in(&account);
        let deadline = gathered.credit_by.filter(|_| !credited);
        let deadline = deadline.unwrap_or_else(|| Instant::now() + CREDIT_WITHIN);
        let mut key = Key::User(login.user.clone());
        while Instant::now() < deadline {
            let Some(change) = self.plan_credit(&account, gathered, login.rows)? else {
                return Ok(account);
            };
            let answer = commit::ask_until(&self.config, &mut key, &change, deadline);
            match answer.await? {
                Committed::Applied => {
                    if credits_fields(&change) && !gathered.is_credited_in(&account) {
                        self.tell_merged(gathered, login.user);
                    }
                    change.apply(Arc::make_mut(&mut account));
                    return Ok(account);
                }
                Committed::Conflict(record) if login.is_of_this_epoch(&record) => account = record,
                _ => return Err(Error::revoked()),
            }
        }
        Err(Error::unsettled())
    }

    fn tell_merged(&self, gathered: &Gathered, user: &UserId) {
        if let Some((guest, _)) = &gathered.frozen {
            self.config.tell(EventKind::Merged, guest, Some(user));
        }
    }

    /// The change to the user's record; `None` if there is nothing to credit.
    fn plan_credit(
        &self,
        account: &Record,
        gathered: &Gathered,
        rows: &Rows,
    ) -> Result<Option<Change>, Error> {
        let now = self.config.now();
        let credited = gathered.is_credited_in(account);
        let mut pending = match (self.config.migrate, credited) {
            (true, true) => follow_up(account, gathered, rows, now)?,
            (true, false) => credits(account, gathered, rows, now)?,
            (false, _) => Vec::new(),
        };
        let mark = gathered.mark().filter(|_| !credited);
        pending.extend(mark.map(|mark| self.mark(mark, gathered, now)));
        let mut change = Change::new(Kind::Update, now);
        change.slots = pending.iter().flat_map(Pending::to_changes).collect();
        if change.slots.is_empty() {
            return Ok(None);
        }
        change.slots.extend(lapsed_marks(account, now));
        change.unchanged.push(epoch::unchanged(account));
        check_sizes(&self.config, Some(account), &change.slots)?;
        Ok(Some(change))
    }

    /// Says in the user's record that a guest's record has been credited, for as long as that could be
    /// presented.
    pub(super) fn mark(&self, name: String, gathered: &Gathered, now: Timestamp) -> Pending {
        let policy = self.state().policy(&self.config);
        let limit = gathered
            .frozen
            .as_ref()
            .and_then(|(_, record)| policy.limit(record));
        let slot = Slot::new(
            name.clone(),
            "true",
            Some(limit.unwrap_or(now + policy.absolute)),
        );
        Pending::raw(FieldName::from(name), None, Some(Arc::new(slot)))
    }

    /// Creates the user's new session, and turns the request to it.
    async fn open_session(
        &self,
        login: &Login<'_>,
        account: Arc<Record>,
        mut pending: Vec<Pending>,
    ) -> Result<(), Error> {
        let policy = {
            let state = self.state();
            let device = |client: &Client| client.device(&self.config);
            pending.extend(state.client.iter().flat_map(device));
            state.policy(&self.config)
        };
        let (user, now) = (login.user, self.config.now());
        pending.extend([
            Pending::fact(&facts::USER, None, Some(&user.as_str().to_owned())),
            Pending::fact(&facts::DEVICE, None, Some(&login.device)),
            Pending::fact(&facts::AUTHENTICATED, None, Some(&now.as_millis())),
        ]);
        let create = commit::create(
            &self.config,
            policy,
            &pending,
            Some(user),
            login.provisional,
        );
        let (id, key, record) = create.await?;
        let mut state = self.state();
        state.forget();
        state.ended = None;
        state.barred = state.barred.filter(|barred| *barred == Barred::Panicked);
        state.session.found(key, record);
        state.account = Some(Part {
            key: Some(Key::User(user.clone())),
            stored: Some(account),
            ..Part::default()
        });
        state.issue(id);
        Ok(())
    }

    /// If all of the user's sessions were revoked while this one was made, or another took its seat, it must
    /// not slip through.
    ///
    /// The store is asked for a commit that changes nothing, and not for the record, which might come out of a
    /// cache.
    async fn verify(&self, login: &Login<'_>, gathered: &Gathered) -> Result<(), Error> {
        if self.config.max_sessions.is_some() {
            return self.leave_seat(login, gathered).await;
        }
        let mut change = Change::new(Kind::Update, self.config.now());
        change.unchanged.push(login.epoch.clone());
        let mut user = Key::User(login.user.clone());
        match commit::ask(&self.config, &mut user, &change).await? {
            Committed::Applied => Ok(()),
            _ => Err(Error::revoked()),
        }
    }

    /// The session has its seat, and is to live as long as any. Should it not be known whether it does, the client
    /// gets its id, and its next request sees to it.
    async fn settle_in(&self, login: &Login<'_>) -> Result<(), Error> {
        if login.provisional.is_none() {
            return Ok(());
        }
        let (session, policy) = {
            let state = self.state();
            let session = state.session.key.clone().zip(state.session.stored.clone());
            (session, state.policy(&self.config))
        };
        let (key, record) = session.ok_or_else(Error::revoked)?;
        let Some(record) = commit::prolong(&self.config, policy, &key, record).await? else {
            self.withdraw().await;
            return Err(self.unseated());
        };
        self.state().session.found(key, record);
        Ok(())
    }

    /// Looks up what follows the user, once, for a schema that has such fields.
    pub(crate) async fn load_account(&self) -> Result<(), Error> {
        let _gate = self.gate().await?;
        let Some(user) = self.unread_account() else {
            return Ok(());
        };
        let stored = commit::look_up(&self.config, &user).await?;
        if let Some(account) = &mut self.state().account {
            account.stored = stored;
            account.unread = false;
        }
        Ok(())
    }

    /// The key of what follows the user, if somebody is logged in and it was not looked up yet.
    pub(crate) fn unread_account(&self) -> Option<Key> {
        let state = self.state();
        let account = state.account.as_ref().filter(|account| account.unread)?;
        account.key.clone()
    }

    /// What is under a key. A claim that was abandoned is settled first.
    pub(super) async fn find(&self, key: Key) -> Result<Found, Error> {
        match commit::find(&self.config, key).await? {
            Found::Abandoned {
                key,
                by,
                at,
                record,
            } => Box::pin(self.settle_claim(key, by, at, &record)).await,
            found => Ok(found),
        }
    }

    /// Brings the login to its end that `by` began at `at`, or gives the guest the session back.
    async fn settle_claim(
        &self,
        key: Key,
        by: UserId,
        at: Timestamp,
        record: &Record,
    ) -> Result<Found, Error> {
        let account = commit::look_up(&self.config, &Key::User(by)).await?;
        let mark = mark_of(&key);
        if account.is_some_and(|account| is_credited(&account, &mark)) {
            if self.config.now().since(at) < SUPERSEDED {
                return Ok(Found::Claimed(key)); // what stays with the browser waits for another try
            }
            let owner = owner_of(record);
            commit::end(&self.config, key.clone(), Ended::LoggedIn, owner.as_ref()).await?;
        } else {
            tracing::warn!(session = ?key, "a login was never finished: its guest gets the session back");
            let release = Change::new(Kind::Release(at), record.seen.max(self.config.now()));
            commit::ask(&self.config, &mut key.clone(), &release).await?;
        }
        commit::find(&self.config, key).await
    }
}

/// What follows the user of a session, if somebody is logged in. It is not looked up yet.
pub(super) fn account_of(session: &Record) -> Option<Part> {
    let user = owner_of(session)?;
    Some(Part {
        key: Some(Key::User(user)),
        unread: true,
        ..Part::default()
    })
}

/// The change that makes a user's record.
fn plan_account(now: Timestamp) -> Change {
    let mut change = Change::new(Kind::Create, now);
    change.slots = epoch::first().to_changes().collect();
    change.expiry = Expiry::Set(FOREVER);
    change
}

/// Whose session it is, if it is not a guest's.
pub(super) fn owner_of(session: &Record) -> Option<UserId> {
    fact(session, &facts::USER).map(UserId::from)
}

/// Whether a session is another user's.
fn is_of_another(user: &UserId, session: &Record) -> bool {
    owner_of(session).is_some_and(|other| other != *user)
}

/// Whether a change to a user's record is of more than the record's own facts.
fn credits_fields(change: &Change) -> bool {
    change
        .slots
        .iter()
        .any(|slot| !slot.name.as_str().starts_with('@'))
}

/// What was gathered of fields that follow the user, merged into the account with nothing as base.
fn credits(
    account: &Record,
    gathered: &Gathered,
    rows: &Rows,
    now: Timestamp,
) -> Result<Vec<Pending>, Error> {
    if gathered.is_of_a_user() {
        return Ok(Vec::new());
    }
    let slots = gathered.slots(now);
    let mut credits = Vec::new();
    for row in rows.iter().filter(|row| row.follows()) {
        if let Some(slot) = stored_under(row.name(), *row, &slots, now) {
            credits.extend(credit_slot(*row, account, slot, now)?);
        }
    }
    Ok(credits)
}

/// One slot of a guest, merged into the account, under the field's present name.
pub(super) fn credit_slot(
    row: &'static dyn AnyRow,
    account: &Record,
    ours: &Arc<Slot>,
    now: Timestamp,
) -> Result<Vec<Pending>, Error> {
    let name = FieldName::fixed(row.name());
    let renamed = |slot: &Arc<Slot>| Arc::new(slot.named(name.clone()));
    let stored = stored_under(row.name(), row, account, now);
    let theirs = stored.map(renamed);
    let merged = settle(
        row,
        None,
        Some(&renamed(ours)),
        theirs.as_ref(),
        Occasion::Login,
    )?;
    let older = stored.filter(|stored| *stored.name() != name);
    let base = theirs.filter(|_| older.is_none());
    let mut credits = vec![Pending::of(row, base, merged)];
    credits
        .extend(older.map(|slot| Pending::raw(slot.name().clone(), Some(Arc::clone(slot)), None)));
    Ok(credits)
}

/// The frozen record has been credited by another login of the same user: what this request changed on top
/// of it comes on top of that.
fn follow_up(
    account: &Record,
    gathered: &Gathered,
    rows: &Rows,
    now: Timestamp,
) -> Result<Vec<Pending>, Error> {
    let follows =
        |pending: &&Pending| row_of(rows, pending.name.as_str()).is_some_and(AnyRow::follows);
    let follows: Vec<Pending> = gathered.pending.iter().filter(follows).cloned().collect();
    commit::rebase(&follows, account, now)
}

/// Takes out the marks of guests that can be presented no more.
fn lapsed_marks(account: &Record, now: Timestamp) -> impl Iterator<Item = SlotChange> + '_ {
    let slots = account.slots().iter();
    let lapsed =
        slots.filter(move |slot| slot.name().as_str().starts_with(MARK) && !slot.is_live(now));
    lapsed.map(|slot| SlotChange {
        name: slot.name().clone(),
        base: None, // lapsed is absent
        to: SlotOp::Drop,
    })
}

/// What goes along into the new session: what stays with the browser, and what this process has no rule for,
/// which waits for one that has.
fn carried(gathered: &Gathered, rows: &Rows, now: Timestamp) -> Vec<Pending> {
    // Where it comes from tells what waits in one session from what waits in another.
    let from = match &gathered.frozen {
        Some((key, _)) => key.to_string(),
        None => random_text(),
    };
    let slots = gathered.slots(now);
    let live = slots.slots().iter().filter(|slot| slot.is_live(now));
    live.filter_map(|slot| {
        let name = slot.name().as_str();
        let known = row_of(rows, name);
        let name = match known {
            Some(row) if row.follows() => return None,
            Some(_) => slot.name().clone(),
            None if outlives_login(name) || name.starts_with(WAITING) => slot.name().clone(),
            None if name.starts_with('@') => return None,
            None => FieldName::from(format!("{WAITING}{from}/{name}")),
        };
        let slot = Arc::new(slot.named(name.clone()));
        Some(Pending::raw(name, None, Some(slot)))
    })
    .collect()
}

/// Whether it is a fact that the new session takes over from the old one.
fn outlives_login(name: &str) -> bool {
    [facts::TTL.name(), facts::LABEL.name()].contains(&name)
}
