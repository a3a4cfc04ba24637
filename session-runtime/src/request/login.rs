//! Logging in and out.
//!
//! What a guest has gathered is credited to the user exactly once, whatever crashes or races, in four
//! commits: *claim* the guest's record, so that nothing changes it any more; *credit* it to the user's record,
//! together with a mark that says so; *open* a new session, owned by the user; *end* the guest's record. Whoever
//! crashes in between leaves a claim behind. The next to load it looks for the mark: if it is there, the rest is
//! done; if not, the record is given back to the guest.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::part::Part;
use super::{Barred, Phase, Request};
use crate::change::{Change, Committed, Expiry, Kind, SlotChange, SlotOp};
use crate::clock::Timestamp;
use crate::commit::{self, Found, Pending, SUPERSEDED, check_sizes, fact, settle, stored_under};
use crate::error::Error;
use crate::id::to_hex;
use crate::key::{Key, UserId};
use crate::merge::Occasion;
use crate::record::{Ended, FieldName, Record, Slot};
use crate::schema::{AnyRow, facts};
use crate::task::to_its_end;

/// Rows of the schema that the login goes through.
pub(crate) type Rows = Vec<&'static dyn AnyRow>;

/// How long after its claim a login may still credit. Shorter than what makes a claim count as abandoned.
const CREDIT_WITHIN: Duration = Duration::from_secs(8);

/// User records do not expire.
const FOREVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// Slots of a session that wait for a schema that knows them.
const WAITING: &str = "@pending/";

/// Slots of a user's record that say what has been credited.
const MARK: &str = "@merged/";

/// What a session brings to a login.
#[derive(Default)]
struct Gathered {
    /// The record, as frozen, and where.
    frozen: Option<(Key, Arc<Record>)>,
    /// What this request has changed, on top of that.
    pending: Vec<Pending>,
    /// The session that is to be ended.
    ends: Option<Key>,
    /// Until when it may be credited.
    credit_by: Option<Instant>,
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
        frozen.is_some_and(|(_, record)| fact(record, &facts::USER).is_some())
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
fn mark_of(key: &Key) -> String {
    format!("{MARK}{key}")
}

/// Whether a mark is there.
fn is_credited(account: Option<&Arc<Record>>, mark: Option<&str>) -> bool {
    account
        .zip(mark)
        .is_some_and(|(account, mark)| account.slot(mark).is_some())
}

/// The row that knows a slot of that name, be it an older one.
fn row_of(rows: &Rows, name: &str) -> Option<&'static dyn AnyRow> {
    let knows = |row: &&&'static dyn AnyRow| row.name() == name || row.aliases().contains(&name);
    rows.iter().find(knows).copied()
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

    /// The four commits. Whoever calls it holds the gate.
    async fn log_in(&self, user: &UserId, rows: &Rows) -> Result<(), Error> {
        if self.state().phase != Phase::Running {
            return Err(Error::too_late());
        }
        self.save_account().await?;
        let _ = self.settle_doubt().await?;
        let gathered = self.gather(user).await?;
        let account = self.credit(user, &gathered, rows).await?;
        let epoch = epoch_of(account.as_deref());
        let carried = carried(&gathered, rows, self.config.now());
        self.open_session(user, account, carried).await?;
        if let Err(error) = self.check_epoch(user, epoch).await {
            self.withdraw().await;
            return Err(error);
        }
        if let Some(old) = gathered.ends {
            commit::end(&self.config, old, Ended::LoggedIn).await?;
        }
        Ok(())
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
                ..Gathered::default()
            });
        }
        let claim = Change::new(Kind::Claim(user.clone()), self.config.now());
        let claimed = match commit::ask(&self.config, &mut key, &claim).await? {
            Committed::Applied => commit::claimed(&self.config, &key, user).await?,
            _ => None,
        };
        match claimed {
            Some((at, record)) => self.gather_claimed(key, at, record, &pending),
            None => self.gather_lost(user, key, stored, pending).await,
        }
    }

    fn gather_claimed(
        &self,
        key: Key,
        at: Timestamp,
        record: Arc<Record>,
        pending: &[Pending],
    ) -> Result<Gathered, Error> {
        let now = self.config.now();
        let left = CREDIT_WITHIN.saturating_sub(now.since(at));
        Ok(Gathered {
            pending: commit::rebase(pending, Some(&record), now)?,
            ends: Some(key.clone()),
            frozen: Some((key, record)),
            credit_by: Some(Instant::now() + left),
        })
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
        let credited = is_credited(account.as_ref(), Some(&mark_of(&key)));
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
        user: &UserId,
        gathered: &Gathered,
        rows: &Rows,
    ) -> Result<Option<Arc<Record>>, Error> {
        let mut key = Key::User(user.clone());
        let mut account = commit::look_up(&self.config, &key).await?;
        let credited = is_credited(account.as_ref(), gathered.mark().as_deref());
        let deadline = gathered.credit_by.filter(|_| !credited);
        let deadline = deadline.unwrap_or_else(|| Instant::now() + CREDIT_WITHIN);
        while Instant::now() < deadline {
            let change = self.plan_credit(account.as_ref(), gathered, rows)?;
            let Some(change) = change else {
                return Ok(account);
            };
            let answer = commit::ask_until(&self.config, &mut key, &change, deadline);
            match answer.await? {
                Committed::Applied => {
                    let mut record = account.unwrap_or_else(|| new_account(change.now));
                    change.apply(Arc::make_mut(&mut record));
                    return Ok(Some(record));
                }
                Committed::Conflict(record) => account = Some(record),
                Committed::Gone => account = None,
                // The user has just been deleted, if there is nothing to be found.
                _ => match commit::look_up(&self.config, &key).await? {
                    Some(record) => account = Some(record),
                    None => break,
                },
            }
        }
        Err(Error::unsettled())
    }

    /// The change to the user's record; `None` if there is nothing to credit and the record is there.
    fn plan_credit(
        &self,
        account: Option<&Arc<Record>>,
        gathered: &Gathered,
        rows: &Rows,
    ) -> Result<Option<Change>, Error> {
        let now = self.config.now();
        let kind = if account.is_some() {
            Kind::Update
        } else {
            Kind::Create
        };
        let mut change = Change::new(kind, now);
        change.expiry = Expiry::Set(FOREVER);
        let mark = gathered.mark();
        let pending = if is_credited(account, mark.as_deref()) {
            follow_up(account, gathered, rows, now)?
        } else {
            let mut pending = credits(account, gathered, rows, now)?;
            pending.extend(mark.map(|mark| self.mark(mark, gathered, now)));
            pending
        };
        change.slots = pending.iter().flat_map(Pending::to_changes).collect();
        if account.is_none() {
            change.slots.extend(epoch().to_changes());
        }
        if change.slots.is_empty() {
            return Ok(None);
        }
        change.slots.extend(lapsed_marks(account, now));
        check_sizes(&self.config, account.map(AsRef::as_ref), &change.slots)?;
        Ok(Some(change))
    }

    /// Says in the user's record that a guest's record has been credited, for as long as that could be
    /// presented.
    fn mark(&self, name: String, gathered: &Gathered, now: Timestamp) -> Pending {
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
        user: &UserId,
        account: Option<Arc<Record>>,
        mut pending: Vec<Pending>,
    ) -> Result<(), Error> {
        let now = self.config.now();
        let policy = {
            let state = self.state();
            pending.extend(state.client.iter().flat_map(Client::facts));
            state.policy(&self.config)
        };
        pending.push(Pending::fact(
            &facts::USER,
            None,
            Some(&user.as_str().to_owned()),
        ));
        pending.push(Pending::fact(
            &facts::AUTHENTICATED,
            None,
            Some(&now.as_millis()),
        ));
        let (id, key, record) = commit::create(&self.config, policy, &pending, Some(user)).await?;
        let mut state = self.state();
        state.forget();
        state.ended = None;
        state.barred = state.barred.filter(|barred| *barred == Barred::Panicked);
        state.session.found(key, record);
        state.account = Some(Part {
            key: Some(Key::User(user.clone())),
            stored: account,
            ..Part::default()
        });
        state.issue(id);
        Ok(())
    }

    /// If all of the user's sessions were revoked while this one was made, it must not slip through.
    async fn check_epoch(&self, user: &UserId, epoch: Option<String>) -> Result<(), Error> {
        let account = commit::look_up(&self.config, &Key::User(user.clone())).await?;
        if epoch_of(account.as_deref()) == epoch {
            Ok(())
        } else {
            Err(Error::unsettled())
        }
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
        let found = commit::find(&self.config, key).await?;
        let Found::Abandoned {
            key,
            by,
            at,
            record,
        } = &found
        else {
            return Ok(found);
        };
        let account = commit::look_up(&self.config, &Key::User(by.clone())).await?;
        if is_credited(account.as_ref(), Some(&mark_of(key))) {
            if self.config.now().since(*at) < SUPERSEDED {
                return Ok(Found::Claimed(key.clone())); // what stays with the browser waits for another try
            }
            commit::end(&self.config, key.clone(), Ended::LoggedIn).await?;
        } else {
            tracing::warn!(session = ?key, "a login was never finished: its guest gets the session back");
            let release = Change::new(Kind::Release, record.seen.max(self.config.now()));
            commit::ask(&self.config, &mut key.clone(), &release).await?;
        }
        commit::find(&self.config, key.clone()).await
    }

    /// Whether slots wait in the session for a schema that knows them, and `rows` do.
    pub(crate) fn knows_waiting(&self, rows: &dyn Fn() -> Rows) -> bool {
        let state = self.state();
        let waiting = |slot: &Arc<Slot>| slot.name().as_str().starts_with(WAITING);
        if state.account.is_none() || !state.session.slots().iter().any(waiting) {
            return false;
        }
        let rows = rows();
        state
            .session
            .slots()
            .iter()
            .filter_map(waiting_for)
            .any(|(_, name)| row_of(&rows, name).is_some())
    }

    /// Takes in slots that have waited since the login for a schema that knows them, each once.
    pub(crate) async fn adopt(&self, rows: &Rows) -> Result<(), Error> {
        let _gate = self.gate().await?;
        let (stored, user) = {
            let state = self.state();
            let user = state
                .account
                .as_ref()
                .and_then(|account| account.key.clone());
            (state.session.stored.clone(), user)
        };
        let (Some(record), Some(user)) = (stored, user) else {
            return Ok(());
        };
        for slot in record.slots() {
            let Some((_, name)) = waiting_for(slot) else {
                continue;
            };
            if let Some(row) = row_of(rows, name) {
                self.adopt_slot(&user, row, slot).await?;
            }
        }
        self.write(None).await.map(drop)
    }

    async fn adopt_slot(
        &self,
        user: &Key,
        row: &'static dyn AnyRow,
        slot: &Arc<Slot>,
    ) -> Result<(), Error> {
        if row.follows() {
            self.credit_waiting(user, row, slot).await?;
        }
        let mut state = self.state();
        let drop = Pending::raw(slot.name().clone(), Some(Arc::clone(slot)), None);
        state.session.replace(drop);
        if !row.follows() && state.session.stored_slot(row.name()).is_none() {
            let plain = Arc::new(slot.named(FieldName::fixed(row.name())));
            state
                .session
                .replace(Pending::raw(plain.name().clone(), None, Some(plain)));
        }
        Ok(())
    }

    /// Credits one slot that waited, together with a mark that says so.
    async fn credit_waiting(
        &self,
        user: &Key,
        row: &'static dyn AnyRow,
        slot: &Arc<Slot>,
    ) -> Result<(), Error> {
        let mark = format!("{MARK}{}", slot.name().as_str());
        let deadline = Instant::now() + self.config.deadline;
        let mut key = user.clone();
        while let Some(account) = commit::look_up(&self.config, user).await? {
            let now = self.config.now();
            if is_credited(Some(&account), Some(&mark)) {
                break;
            }
            if Instant::now() >= deadline {
                return Err(Error::unsettled());
            }
            let mut credits = credit_slot(row, Some(&account), slot, now)?;
            credits.push(self.mark(mark.clone(), &Gathered::default(), now));
            let mut change = Change::new(Kind::Update, now);
            change.slots = credits.iter().flat_map(Pending::to_changes).collect();
            if commit::ask(&self.config, &mut key, &change).await? == Committed::Applied {
                break;
            }
        }
        let stored = commit::look_up(&self.config, user).await?;
        if let (Some(account), Some(record)) = (&mut self.state().account, stored) {
            account.refreshed(user.clone(), record, self.config.now())?;
        }
        Ok(())
    }
}

/// What follows the user of a session, if somebody is logged in. It is not looked up yet.
pub(super) fn account_of(session: &Record) -> Option<Part> {
    let user = fact(session, &facts::USER)?;
    Some(Part {
        key: Some(Key::User(UserId::from(user))),
        unread: true,
        ..Part::default()
    })
}

fn new_account(now: Timestamp) -> Arc<Record> {
    Arc::new(Record::new(now, FOREVER))
}

/// A value for a new user's record that no revocation has had yet.
fn epoch() -> Pending {
    Pending::fact(&facts::EPOCH, None, Some(&random_text()))
}

fn epoch_of(account: Option<&Record>) -> Option<String> {
    fact(account?, &facts::EPOCH)
}

fn random_text() -> String {
    let random: [u8; 16] = rand::random();
    let text: [u8; 32] = to_hex(random);
    String::from_utf8_lossy(&text).into_owned()
}

/// Whether a session is another user's.
fn is_of_another(user: &UserId, session: &Record) -> bool {
    fact(session, &facts::USER).is_some_and(|other| other != user.as_str())
}

/// What was gathered of fields that follow the user, merged into the account with nothing as base.
fn credits(
    account: Option<&Arc<Record>>,
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
fn credit_slot(
    row: &'static dyn AnyRow,
    account: Option<&Arc<Record>>,
    ours: &Arc<Slot>,
    now: Timestamp,
) -> Result<Vec<Pending>, Error> {
    let name = FieldName::fixed(row.name());
    let renamed = |slot: &Arc<Slot>| Arc::new(slot.named(name.clone()));
    let stored = account.and_then(|account| stored_under(row.name(), row, account, now));
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
    account: Option<&Arc<Record>>,
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
fn lapsed_marks(
    account: Option<&Arc<Record>>,
    now: Timestamp,
) -> impl Iterator<Item = SlotChange> + '_ {
    let slots = account.into_iter().flat_map(|account| account.slots());
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
            None if name == facts::TTL.name() || name.starts_with(WAITING) => slot.name().clone(),
            None if name.starts_with('@') => return None,
            None => FieldName::from(format!("{WAITING}{from}/{name}")),
        };
        let slot = Arc::new(slot.named(name.clone()));
        Some(Pending::raw(name, None, Some(slot)))
    })
    .collect()
}

/// The session it was gathered in, and the field, that a waiting slot is of.
fn waiting_for(slot: &Arc<Slot>) -> Option<(&str, &str)> {
    slot.name().as_str().strip_prefix(WAITING)?.split_once('/')
}
