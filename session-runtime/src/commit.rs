//! Commits: from what a request changed to what came of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::change::{Change, Committed, Expiry, Kind, SlotChange};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Error, StoreError};
use crate::key::Key;
use crate::observe;
use crate::record::{FieldName, Record};
use crate::schema::facts;

mod calls;
pub(crate) mod epoch;
#[cfg(test)]
mod laws;
mod pending;
mod policy;

pub(crate) use calls::{
    Found, SUPERSEDED, ask, ask_until, check_create, claimant, claimed, create, end, find, look_up,
    open, owned_by, prolong, take_out,
};
use calls::{commit, jitter};
pub(crate) use pending::{
    Pending, check_sizes, rebase, same_payload, same_slot, settle, stored_under,
};
pub(crate) use policy::{Policy, fact};

/// How long a moved session's old id stays good once the new one has been presented.
const GRACE: Duration = Duration::from_secs(10);

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
    pub(crate) asked: Option<Box<Change>>,
}

/// A commit that may or may not have happened: all that is needed to ask again.
pub(crate) struct Doubt {
    asked: Box<Change>,
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
    pub(crate) doubt: Option<Box<Doubt>>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, doubt: None }
    }
}

/// What came of a commit.
pub(crate) enum Outcome {
    /// What is in the store under `key` is `record` with `change`, if anything had to be changed.
    Done {
        key: Key,
        record: Arc<Record>,
        change: Option<Box<Change>>,
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

    /// One fact of a record, of whichever kind, that is written for no request.
    pub(crate) fn of_facts(
        config: &'a Config,
        key: Key,
        record: Arc<Record>,
        fact: Pending,
    ) -> Self {
        let pending = fact.is_change().then_some(fact);
        Self::to_account(config, key, record, pending.into_iter().collect())
    }

    /// Commits what nobody asks again for. Whether the record was still there.
    pub(crate) async fn finish(self) -> Result<bool, Error> {
        let outcome = Box::new(self)
            .run()
            .await
            .map_err(|failure| failure.error)?;
        Ok(matches!(outcome, Outcome::Done { .. }))
    }

    /// Whether a commit is called for though nothing is pending.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.policy.is_due(&self.record, now) && self.config.watch.is_steady()
            || self.leads_from().is_some()
    }

    /// Commits, merges what conflicts, and tries again until it is settled or the deadline has passed. After the
    /// first conflict it waits in the key's queue, no longer than that either.
    pub(crate) async fn run(mut self: Box<Self>) -> Result<Outcome, Failure> {
        let deadline = Instant::now() + self.config.deadline;
        let config = self.config;
        let (mut queue, mut conflicts) = (None, 0);
        let applied = loop {
            let Some(change) = self.next(config.now())? else {
                break None;
            };
            let committed = match commit(config, &self.key, &change, deadline).await {
                Ok(committed) => committed,
                Err(error) => return Err(self.failed(change, error)),
            };
            match committed {
                Committed::Applied => {
                    self.key = self.successor.take().unwrap_or(self.key);
                    break Some(change);
                }
                Committed::Conflict(record) if epoch::is_reborn(&self.record, &record) => {
                    return Ok(Outcome::Gone);
                }
                Committed::Conflict(record) => {
                    self.rebase(record, config.now())?;
                    conflicts += 1;
                    if queue.is_none() {
                        queue = Box::pin(timeout_at(deadline, config.queue(&self.key)))
                            .await
                            .ok();
                    }
                    // Else at once, while this is what is stored: who waits first loses to who does not.
                    if conflicts % 16 == 0 {
                        Box::pin(sleep(jitter(conflicts))).await;
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
        };
        drop(queue);
        Ok(Outcome::Done {
            key: self.key,
            record: self.record,
            change: applied,
        })
    }

    fn next(&mut self, now: Timestamp) -> Result<Option<Box<Change>>, Error> {
        match self.asked.take() {
            Some(change) => Ok(Some(change)),
            None => self.plan(now),
        }
    }

    fn failed(self: Box<Self>, change: Box<Change>, error: StoreError) -> Failure {
        let doubt = error.is_transient().then(|| {
            Box::new(Doubt {
                asked: change,
                key: self.key,
                record: self.record,
                pending: self.pending,
                successor: self.successor,
            })
        });
        Failure {
            error: error.into(),
            doubt,
        }
    }

    /// Puts what is pending on top of what is stored by now.
    fn rebase(&mut self, record: Arc<Record>, now: Timestamp) -> Result<(), Error> {
        observe::conflict();
        self.pending = rebase(&self.pending, &record, now)?;
        self.record = record;
        Ok(())
    }

    /// The change to ask of the store; `None` if there is nothing to do.
    fn plan(&self, now: Timestamp) -> Result<Option<Box<Change>>, Error> {
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
        if self.key.is_user() {
            change.unchanged.push(epoch::unchanged(&self.record));
        }
        self.plan_lifetime(&mut change);
        self.plan_move(&mut change);
        Ok(Some(Box::new(change)))
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
        // Asked whatever comes of it: that is how a step of the clock is noticed.
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
