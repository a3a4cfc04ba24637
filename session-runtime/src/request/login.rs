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

use tokio::time::Instant;

use super::account::{change_of, mark_frozen, owner_of};
use super::client::Client;
use super::credit::credits_fields;
use super::gathered::{CREDIT_WITHIN, Gathered};
use super::part::Part;
use super::seat::Seat;
use super::{Barred, Phase, Request};
use crate::clock::Timestamp;
use crate::commit::{self, Pending, epoch};
use crate::error::Error;
use crate::event::EventKind;
use crate::id::random_text;
use crate::key::{Key, UserId};
use crate::record::{Ended, FieldName, Record};
use crate::schema::{AnyRow, Rows, facts, row_of};
use crate::signature::Signature;
use crate::task::to_its_end;

/// One login.
pub(super) struct Login<'a> {
    pub(super) user: &'a UserId,
    /// Where the user's record is.
    pub(super) account: Key,
    /// Rows of the schema that it goes through.
    rows: &'a Rows,
    /// What the new session is to be called.
    pub(super) device: String,
    /// The epoch of the user's record when it began: a slot that must not have changed.
    epoch: (FieldName, Option<Signature>),
    /// The seat that it has reserved. None where any may stay.
    pub(super) seat: Option<Seat>,
    /// What the client presented, and why the request writes nothing, if so: to go back to.
    pub(super) from: Option<(Key, Arc<Record>)>,
    barred: Option<Barred>,
}

impl Login<'_> {
    /// Fails if somebody has deleted the user, or revoked all sessions, since the login began.
    pub(super) fn check(&self, account: &Record) -> Result<(), Error> {
        let goes_on = epoch::unchanged(account) == self.epoch;
        goes_on.then_some(()).ok_or_else(Error::revoked)
    }

    /// Whether a change is to a field that follows the user.
    pub(super) fn follows(&self, pending: &Pending) -> bool {
        row_of(self.rows, pending.name.as_str()).is_some_and(AnyRow::follows)
    }

    /// Whether it took so long that its session is not there any more.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.until <= now)
    }
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
        // What was changed of a user who is logged in belongs to that user, whoever logs in next.
        self.write_account().await?;
        let _ = self.settle_doubt().await?;
        let (from, barred) = {
            let state = self.state();
            (state.presented(), state.barred)
        };
        let key = Key::User(user.clone());
        let account = self.begin(&key).await?;
        let mut login = Login {
            user,
            account: key,
            rows,
            device: random_text(),
            epoch: epoch::unchanged(&account),
            seat: None,
            from,
            barred,
        };
        login.seat = self.take_seat(&login).await?;
        let logged_in = self.complete(&login, account).await;
        if let Err(error) = &logged_in {
            self.vacate_seat(&login, error).await;
        }
        logged_in
    }

    /// The four commits.
    async fn complete(&self, login: &Login<'_>, account: Arc<Record>) -> Result<(), Error> {
        let mut gathered = self.gather(login, &account).await?;
        let (account, slots) = match self.merge_in(login, account, &mut gathered).await {
            Ok(merged) => merged,
            Err(error) => {
                self.give_back(&gathered, &error).await;
                return Err(error);
            }
        };
        self.unseat(login).await?;
        self.open_session(login, Arc::clone(&account), &slots)
            .await?;
        if let Err(error) = self.verify(login, account, &gathered).await {
            self.withdraw(login).await;
            return Err(error);
        }
        self.settle_in(login).await?;
        if let Some((old, record)) = gathered.ends {
            let owner = owner_of(&record);
            commit::end(&self.config, old, Ended::LoggedIn, owner.as_ref()).await?;
        }
        Ok(())
    }

    /// Credits what was gathered, once there is room for the new session. The user's record then, and the slots of
    /// the session.
    async fn merge_in(
        &self,
        login: &Login<'_>,
        account: Arc<Record>,
        gathered: &mut Gathered,
    ) -> Result<(Arc<Record>, Vec<Pending>), Error> {
        gathered.settle(self.config.now())?;
        let slots = self.new_slots(login, gathered);
        commit::check_create(&self.config, &slots)?;
        let credited = self.credit(login, account, gathered).await;
        let may_be = credited
            .as_ref()
            .map_or_else(|error| !error.is_definite(), |_| true);
        if may_be && gathered.frozen.is_none() {
            // No mark will tell the next login of it.
            let session = &mut self.state().session;
            session.pending.retain(|pending| !login.follows(pending));
        }
        Ok((credited?, slots))
    }

    /// What the new session holds: what was carried along, who is asking, and whose it is.
    fn new_slots(&self, login: &Login<'_>, gathered: &Gathered) -> Vec<Pending> {
        let now = self.config.now();
        let device = |client: &Client| client.device(&self.config);
        let mut slots: Vec<_> = self.state().client.iter().flat_map(device).collect();
        slots.extend([
            Pending::fact(&facts::USER, None, Some(&login.user.as_str().to_owned())),
            Pending::fact(&facts::DEVICE, None, Some(&login.device)),
            Pending::fact(&facts::AUTHENTICATED, None, Some(&now.as_millis())),
        ]);
        let mut carried = gathered.carried(login.rows, now);
        carried.retain(|carried| slots.iter().all(|slot| slot.name != carried.name));
        slots.extend(carried);
        slots
    }

    /// Merges what was gathered into the user's record, once. The record that comes of it.
    async fn credit(
        &self,
        login: &Login<'_>,
        account: Arc<Record>,
        gathered: &Gathered,
    ) -> Result<Arc<Record>, Error> {
        let credited = gathered.is_credited_in(&account);
        let deadline = gathered.credit_by.filter(|_| !credited);
        let deadline = deadline.unwrap_or_else(|| Instant::now() + CREDIT_WITHIN);
        let mut merges = false;
        let plan = |account: &Record| {
            login.check(account)?;
            let change = self.plan_credit(account, gathered, login.rows)?;
            let credits = change.as_ref().is_some_and(credits_fields);
            merges = credits && !gathered.is_credited_in(account);
            Ok(change)
        };
        let amended = self.amend(&login.account, account, deadline, plan);
        let account = amended.await?.ok_or_else(Error::revoked)?;
        if let Some((guest, _)) = gathered.frozen.as_ref().filter(|_| merges) {
            self.config.tell(EventKind::Merged, guest, Some(login.user));
        }
        Ok(account)
    }

    /// Creates the user's new session, and turns the request to it.
    async fn open_session(
        &self,
        login: &Login<'_>,
        account: Arc<Record>,
        slots: &[Pending],
    ) -> Result<(), Error> {
        let policy = self.state().policy(&self.config);
        let until = login.seat.as_ref().map(|seat| seat.until);
        let create = commit::create(&self.config, policy, slots, Some(login.user), until);
        let (id, key, record) = create.await?;
        let mut state = self.state();
        state.forget();
        state.ended = None;
        state.barred = state.barred.filter(|barred| *barred == Barred::Panicked);
        state.session.found(key, record);
        state.account = Some(Part {
            key: Some(login.account.clone()),
            stored: Some(account),
            ..Part::default()
        });
        state.issue(id);
        Ok(())
    }

    /// If all of the user's sessions were revoked while this one was made, or another took its seat, it must
    /// not slip through. A session of the user that this one takes the place of is over from then on.
    ///
    /// The store is asked for a commit, be there nothing to change, and not for the record, which might come out of
    /// a cache.
    async fn verify(
        &self,
        login: &Login<'_>,
        account: Arc<Record>,
        gathered: &Gathered,
    ) -> Result<(), Error> {
        if login.seat.is_some() {
            return self.leave_seat(login, gathered).await;
        }
        let plan = |account: &Record| {
            login.check(account)?;
            let now = self.config.now();
            let mark = mark_frozen(account, gathered, now)?;
            Ok(Some(change_of(account, mark.as_slice(), now)))
        };
        let deadline = Instant::now() + self.config.deadline;
        let verified = self.amend(&login.account, account, deadline, plan);
        verified.await?.map(drop).ok_or_else(Error::revoked)
    }

    /// The session has its seat, and is to live as long as any. Should it not be known whether it does, the client
    /// gets its id, and its next request sees to it.
    async fn settle_in(&self, login: &Login<'_>) -> Result<(), Error> {
        if login.seat.is_none() {
            return Ok(());
        }
        let (session, policy) = {
            let state = self.state();
            (state.session.stored(), state.policy(&self.config))
        };
        let (key, record) = session.ok_or_else(Error::revoked)?;
        let Some(record) = commit::prolong(&self.config, policy, &key, record).await? else {
            self.withdraw(login).await;
            return Err(self.unseated());
        };
        self.state().session.found(key, record);
        Ok(())
    }

    /// Takes back a session that could not be verified: its id is not sent. If it cannot be ended in the
    /// store, nobody knows how to open it. The client keeps what it presented, for another try: nothing that the
    /// handler has to say to the failure makes it a new guest.
    async fn withdraw(&self, login: &Login<'_>) {
        if let Err(error) = self.end(Ended::Revoked).await {
            tracing::warn!(%error, "a login that failed leaves a session behind that nobody can open");
        }
        let mut state = self.state();
        state.forget();
        state.notice = None;
        state.frozen.clone_from(&login.from);
        let superseded = login.from.is_some().then_some(Barred::Superseded);
        state.barred = state.barred.or(login.barred).or(superseded);
    }

    /// Ends the session; the user's record stays.
    pub(crate) async fn logout(self: Arc<Self>) -> Result<(), Error> {
        to_its_end(async move {
            let _gate = self.gate().await?;
            self.write_account().await?;
            self.end(Ended::LoggedOut).await
        })
        .await
    }
}
