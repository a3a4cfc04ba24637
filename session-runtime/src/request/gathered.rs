//! What a session brings to a login. It is frozen meanwhile, by a *claim*.
//!
//! It is not given back while a login may still credit it: what the guest wrote then would be ended with it. A
//! release names the time of the claim, and a second login of the user, which shares the claim, moves that forward: a
//! release therefore lets go only of what nobody has taken up since its sender looked. A login that fails for certain
//! releases the claim it has made, if it saw it unshared; it will credit nothing itself, and there is nobody else. A
//! shared claim is left to whoever finds it ten seconds old. Each login stops crediting [eight seconds](CREDIT_WITHIN)
//! after the time it saw, which is no later than the last; the other two are for a commit on its way, and for clocks
//! that disagree.
//!
//! Where a commit takes longer, or clocks disagree by more, a fence holds. Whoever gives an abandoned session back makes
//! its mark *void* first: it writes a random text in the mark's place, which is never the same twice. And a login
//! sets its mark in place of what stood there when it began, which was before it claimed. So of a credit and a release
//! of the claim that it rests on, one does not happen. If the credit is first, the void conflicts, the mark is found,
//! and nothing is released. If the void is first, it was written after the claim, since its writer had seen that:
//! the login has not seen it, and its credit conflicts. A void that a login did see was for an earlier claim, and the
//! release that goes with it names another time. The same holds for a user's session, and the mark that another has
//! taken its place.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Request;
use super::account::{is_credited, mark_of, owner_of};
use super::login::Login;
use super::waiting::{WAITING, waiting_name};
use crate::change::{Change, Committed, Kind};
use crate::clock::Timestamp;
use crate::commit::{self, Found, Pending, SUPERSEDED};
use crate::error::Error;
use crate::id::random_text;
use crate::key::{Key, UserId};
use crate::record::{Ended, Record, Slot};
use crate::schema::{Rows, facts, row_of};

/// How long after its claim a login may still credit. Shorter than what makes a claim count as abandoned.
pub(super) const CREDIT_WITHIN: Duration = Duration::from_secs(8);

/// What a session brings to a login.
#[derive(Default)]
pub(super) struct Gathered {
    /// The record, as frozen, and where.
    pub(super) frozen: Option<(Key, Arc<Record>)>,
    /// What this request has changed, on top of that.
    pub(super) pending: Vec<Pending>,
    /// The session that is to be ended.
    pub(super) ends: Option<(Key, Arc<Record>)>,
    /// Until when it may be credited.
    pub(super) credit_by: Option<Instant>,
    /// What said, when the login began, that it had been given back before.
    pub(super) void: Option<Arc<Slot>>,
    /// When this login claimed it. Not where it shares the claim of another.
    pub(super) claimed: Option<Timestamp>,
}

impl Gathered {
    /// What is frozen.
    pub(super) fn record(&self) -> Option<&Record> {
        self.frozen.as_ref().map(|(_, record)| &**record)
    }

    /// The mark that says that a guest's frozen record has been credited.
    pub(super) fn mark(&self) -> Option<String> {
        let (key, _) = self.frozen.as_ref().filter(|_| !self.is_of_a_user())?;
        Some(mark_of(key))
    }

    /// The session was a user's already: what follows the user is in the user's record.
    pub(super) fn is_of_a_user(&self) -> bool {
        self.record().and_then(owner_of).is_some()
    }

    /// Puts what this request has changed on top of what is frozen.
    pub(super) fn settle(&mut self, now: Timestamp) -> Result<(), Error> {
        if let Some(record) = self.record() {
            self.pending = commit::rebase(&self.pending, record, now)?;
        }
        Ok(())
    }

    /// Whether `account` says that the guest's frozen record has been credited.
    pub(super) fn is_credited_in(&self, account: &Record) -> bool {
        self.mark().is_some_and(|mark| is_credited(account, &mark))
    }

    /// The slots, with what this request has changed.
    pub(super) fn slots(&self, now: Timestamp) -> Record {
        let frozen = self.record().map_or(&[][..], Record::slots);
        let mut slots = Record::new(now, now).with_slots(frozen.iter().cloned());
        for pending in &self.pending {
            pending.show(&mut slots);
        }
        slots
    }

    /// What goes along into the new session: what stays with the browser, and what this process has no rule for,
    /// which waits for one that has.
    pub(super) fn carried(&self, rows: &Rows, now: Timestamp) -> Vec<Pending> {
        // Where it comes from tells what waits in one session from what waits in another.
        let from = match &self.frozen {
            Some((key, _)) => key.to_string(),
            None => random_text(),
        };
        let slots = self.slots(now);
        let live = slots.slots().iter().filter(|slot| slot.is_live(now));
        live.filter_map(|slot| {
            let name = slot.name().as_str();
            let known = row_of(rows, name);
            let name = match known {
                Some(row) if !row.follows() => slot.name().clone(),
                Some(_) if !self.is_of_a_user() => return None, // it was credited
                None if outlives_login(name) || name.starts_with(WAITING) => slot.name().clone(),
                None if name.starts_with('@') => return None,
                _ => waiting_name(&from, slot.name()),
            };
            let slot = Arc::new(slot.named(name.clone()));
            Some(Pending::raw(name, None, Some(slot)))
        })
        .collect()
    }
}

/// Whether it is a fact that the new session takes over from the old one.
fn outlives_login(name: &str) -> bool {
    [
        facts::TTL.name(),
        facts::LABEL.name(),
        facts::UNBOUND.name(),
    ]
    .contains(&name)
}

impl Request {
    /// What the session brings along, frozen. Another user's brings nothing. `account` is the user's record as the
    /// login began.
    pub(super) async fn gather(
        &self,
        login: &Login<'_>,
        account: &Record,
    ) -> Result<Gathered, Error> {
        let user = login.user;
        let pending = self.state().session.pending.clone();
        let Some((mut key, stored)) = login.from.clone() else {
            return Ok(Gathered {
                pending,
                ..Gathered::default()
            });
        };
        if owner_of(&stored).is_some_and(|owner| owner != *user) {
            return Ok(Gathered {
                ends: Some((key, stored)),
                ..Gathered::default()
            });
        }
        let claim = Change::new(Kind::Claim(user.clone()), self.config.now());
        let claimed = match commit::ask(&self.config, &mut key, &claim).await? {
            Committed::Applied => commit::claimed(&self.config, &key, user).await?,
            _ => None,
        };
        let Some((at, shared, record)) = claimed else {
            return self.gather_lost(user, key, stored, pending).await;
        };
        let left = CREDIT_WITHIN.saturating_sub(self.config.now().since(at));
        Ok(Gathered {
            pending,
            void: account.slot(&mark_of(&key)).cloned(),
            ends: Some((key.clone(), Arc::clone(&record))),
            frozen: Some((key, record)),
            credit_by: Some(Instant::now() + left),
            claimed: (!shared).then_some(claim.now),
        })
    }

    /// The session is over, or claimed for another user. If it was credited to this one, by a login in another
    /// tab, what this request knows of it goes along; else only what this request has of its own. What may yet
    /// be given back to the guest has to wait for that: with the new id, nobody would have it.
    async fn gather_lost(
        &self,
        user: &UserId,
        key: Key,
        stored: Arc<Record>,
        mut pending: Vec<Pending>,
    ) -> Result<Gathered, Error> {
        if self.is_undecided(&key).await? {
            return Err(Error::unsettled());
        }
        let account = commit::look_up(&self.config, &Key::User(user.clone())).await?;
        let mark = mark_of(&key);
        let credited = account.is_some_and(|account| is_credited(&account, &mark));
        if !credited {
            pending.retain(|pending| pending.base.is_none());
        }
        Ok(Gathered {
            frozen: credited.then_some((key, stored)),
            pending,
            ..Gathered::default()
        })
    }

    /// Whether a guest's record is claimed, and not credited to whom it is claimed for.
    async fn is_undecided(&self, key: &Key) -> Result<bool, Error> {
        let Some(by) = commit::claimant(&self.config, key).await? else {
            return Ok(false);
        };
        let account = commit::look_up(&self.config, &Key::User(by)).await?;
        Ok(!account.is_some_and(|account| is_credited(&account, &mark_of(key))))
    }

    /// The guest goes on at once where nothing can have been credited; else whoever loads the session next
    /// looks whether it was.
    pub(super) async fn give_back(&self, gathered: &Gathered, error: &Error) {
        let claim = gathered.frozen.as_ref().zip(gathered.claimed);
        let Some(((key, _), at)) = claim.filter(|_| error.is_definite()) else {
            return;
        };
        let release = Change::new(Kind::Release(at), self.config.now());
        if let Err(error) = commit::ask(&self.config, &mut key.clone(), &release).await {
            tracing::warn!(%error, "a login failed, and its guest waits for ten seconds");
        }
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
        record: &Arc<Record>,
    ) -> Result<Found, Error> {
        if self.make_void(by, &key, record).await? {
            tracing::warn!(session = ?key, "a login was never finished: its guest gets the session back");
            let release = Change::new(Kind::Release(at), record.seen.max(self.config.now()));
            commit::ask(&self.config, &mut key.clone(), &release).await?;
        } else if self.config.now().distance(at) < SUPERSEDED {
            return Ok(Found::Claimed(key, Arc::clone(record))); // what stays with the browser waits for another try
        } else {
            let owner = owner_of(record);
            commit::end(&self.config, key.clone(), Ended::LoggedIn, owner.as_ref()).await?;
        }
        commit::find(&self.config, key).await
    }
}
