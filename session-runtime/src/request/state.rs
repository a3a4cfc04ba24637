//! What a request knows and has changed so far. Nothing here waits or calls a store.

use std::sync::Arc;

use super::Saved;
use super::client::Client;
use crate::clock::Timestamp;
use crate::commit::{Outcome, Pending, Policy, same_payload, same_slot, settle};
use crate::config::Config;
use crate::error::Error;
use crate::id::SessionId;
use crate::key::Key;
use crate::observe;
use crate::record::{Ended, Record, Slot};
use crate::schema::{Deed, Harvest, Lifetime};

#[derive(Default)]
pub(super) struct State {
    pub(super) loaded: bool,
    /// The id that opens the session now: presented, or issued by this request.
    pub(super) id: Option<SessionId>,
    /// Where the record is.
    pub(super) key: Option<Key>,
    /// The client has presented the id of that key, and not one that only leads to it.
    pub(super) presents: bool,
    /// The record as last seen in the store.
    pub(super) stored: Option<Arc<Record>>,
    pub(super) pending: Vec<Pending>,
    /// A commit is under way: pending changes that come to nothing may still have to undo it.
    pub(super) writing: bool,
    /// Values for this request alone.
    pub(super) passing: Vec<Arc<Slot>>,
    /// Flashes that survive being read by this request.
    pub(super) kept: Vec<&'static str>,
    /// Why what was presented is no session.
    pub(super) ended: Option<Ended>,
    /// Counts logins, logouts and deletions: an older handle folds nothing.
    pub(super) generation: u32,
    /// What the client is to be told.
    pub(super) notice: Option<Told>,
    /// Why nothing is written any more, if so.
    pub(super) barred: Option<Barred>,
    /// A handle could not be folded, and why.
    pub(super) failure: Option<Error>,
    pub(super) phase: Phase,
    /// Some extractor counts as use.
    pub(super) touch: bool,
    pub(super) lifetime: Lifetime,
    pub(super) client: Client,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Barred {
    /// The session ended while the request ran.
    Gone,
    /// A handler panicked.
    Panicked,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Running,
    /// The response has been decided.
    Closed,
    /// The request was dropped before that.
    Cancelled,
}

#[derive(Clone, Copy)]
pub(super) enum Told {
    Issued(SessionId),
    Removed,
}

/// What one commit is about to write, taken from the state in one go.
pub(super) struct Batch {
    pub(super) stored: Option<(Key, Arc<Record>)>,
    pub(super) pending: Vec<Pending>,
    pub(super) policy: Policy,
    pub(super) presented: bool,
    pub(super) client: Client,
    pub(super) barred: bool,
}

/// Where a flash that is claimed has to be taken from.
pub(super) enum Taken {
    /// This request had it to itself.
    Ours(Option<Arc<Slot>>),
    /// The record under this key, if there is one.
    Stored(Option<Key>),
}

pub(super) fn is_fact(pending: &Pending) -> bool {
    pending.row.name().starts_with('@')
}

impl State {
    pub(super) fn found(&mut self, id: Option<SessionId>, key: Key, record: Arc<Record>) {
        self.id = id;
        self.key = Some(key);
        self.stored = Some(record);
    }

    /// The session ended while the request ran.
    pub(super) fn lost(&mut self, reason: Ended) {
        observe::gone();
        self.forget();
        self.ended = Some(reason);
        self.barred = Some(Barred::Gone);
    }

    /// Starts over as a guest.
    pub(super) fn forget(&mut self) {
        self.id = None;
        self.key = None;
        self.stored = None;
        self.pending.clear();
        self.passing.clear();
        self.kept.clear();
        self.notice.take_if(|told| matches!(told, Told::Issued(_)));
        self.generation += 1;
    }

    pub(super) fn policy(&self, config: &Config) -> Policy {
        let (ttl, absolute) = config.lifetimes(self.lifetime);
        Policy {
            ttl,
            absolute,
            touch: self.touch,
        }
    }

    pub(super) fn stored_slot(&self, name: &str) -> Option<Arc<Slot>> {
        self.stored.as_ref()?.slot(name).cloned()
    }

    pub(super) fn seen_by_handles(&self, now: Timestamp) -> Vec<Arc<Slot>> {
        let mut seen = self
            .stored
            .as_deref()
            .cloned()
            .unwrap_or_else(|| Record::new(now, now));
        for pending in self.pending.iter().filter(|pending| !pending.used_up) {
            if let Some(base) = &pending.base {
                seen.remove(base.name().as_str());
            }
            if let Some(slot) = &pending.ours {
                seen.set(Arc::clone(slot));
            }
        }
        seen.with_slots(self.passing.iter().cloned())
            .slots()
            .to_vec()
    }

    pub(super) fn fold(&mut self, harvest: &Harvest, now: Timestamp) -> Result<(), Error> {
        if self.barred.is_some() {
            return Ok(());
        }
        let shown = |base: &Arc<Slot>| self.passing.iter().any(|slot| Arc::ptr_eq(slot, base));
        let base = harvest.base.as_ref().filter(|base| !shown(base));
        match (harvest.deed, base) {
            (Deed::Changed | Deed::Slid, _) => self.change(harvest, base, now),
            (Deed::Passing, _) => {
                self.passing.extend(harvest.ours.clone());
                Ok(())
            }
            (Deed::UsedUp, Some(_)) => self.use_up(harvest, base, now),
            (Deed::Kept, Some(_)) => {
                self.keep(harvest.row.name());
                Ok(())
            }
            (Deed::UsedUp | Deed::Kept, None) => Ok(()), // it is for this request alone
        }
    }

    pub(super) fn keep(&mut self, name: &'static str) {
        self.pending
            .retain(|pending| !pending.used_up || pending.row.name() != name);
        self.kept.push(name);
    }

    /// A flash was read. What this request keeps, or has set itself, stays.
    pub(super) fn use_up(
        &mut self,
        harvest: &Harvest,
        base: Option<&Arc<Slot>>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let name = harvest.row.name();
        let set = |pending: &Pending| {
            pending.row.name() == name
                && !same_payload(pending.ours.as_ref(), pending.base.as_ref())
        };
        if self.kept.contains(&name) || self.pending.iter().any(set) {
            return Ok(());
        }
        self.change(harvest, base, now)?;
        for pending in &mut self.pending {
            pending.used_up |= pending.row.name() == name;
        }
        Ok(())
    }

    /// A field was changed, from `base`, which is or was stored, if anything was.
    pub(super) fn change(
        &mut self,
        harvest: &Harvest,
        base: Option<&Arc<Slot>>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let row = harvest.row;
        let stored = self.stored.as_deref();
        let stored = stored
            .and_then(|record| row.live_slot(record, now))
            .cloned();
        let mut pending = self.pending.iter();
        let earlier = pending.find(|pending| pending.row.name() == row.name());
        let (base_in_store, current) = match earlier {
            Some(pending) => (pending.base.clone(), pending.ours.clone()),
            None => (stored.clone(), stored),
        };
        let ours = settle(row, base, harvest.ours.as_ref(), current.as_ref())?;
        self.replace(Pending {
            row,
            base: base_in_store,
            ours,
            used_up: false,
        });
        Ok(())
    }

    /// Puts a pending change in place of any other to its slot.
    pub(super) fn replace(&mut self, change: Pending) {
        self.pending
            .retain(|pending| pending.row.name() != change.row.name());
        if change.is_change() || self.writing {
            self.pending.push(change);
        }
    }

    /// What is to be written now. Whoever calls it holds the gate: nothing else is under way.
    pub(super) fn batch(&mut self, config: &Config) -> Batch {
        self.pending.retain(Pending::is_change);
        self.writing = true;
        Batch {
            stored: self.key.clone().zip(self.stored.clone()),
            pending: self.pending.clone(),
            policy: self.policy(config),
            presented: self.presents,
            client: self.client.clone(),
            barred: self.barred.is_some(),
        }
    }

    /// Takes note of what came of a commit of `batch`. What was folded in meanwhile stays pending, on top of
    /// what is stored now.
    pub(super) fn committed(
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
        self.writing = false;
        if let Some(id) = issued {
            self.notice = Some(Told::Issued(id));
            self.presents = false;
        }
        let newer = std::mem::take(&mut self.pending);
        let rebased = newer.into_iter().try_for_each(|pending| {
            let sent = batch
                .iter()
                .find(|sent| sent.row.name() == pending.row.name());
            if sent.is_some_and(|sent| same_slot(sent.ours.as_ref(), pending.ours.as_ref())) {
                return Ok(());
            }
            let base = sent.map_or(pending.base.clone(), |sent| sent.ours.clone());
            let theirs = pending.row.live_slot(&record, now);
            self.replace(Pending { base, ..pending }.rebased(theirs)?);
            Ok(())
        });
        self.found(issued.or(self.id), key, record);
        rebased.map(|()| {
            if written {
                Saved::Written
            } else {
                Saved::Unchanged
            }
        })
    }

    /// Takes a flash that this request has to itself, or says where it is stored.
    pub(super) fn take_passing(&mut self, name: &str) -> Taken {
        if let Some(at) = self
            .passing
            .iter()
            .position(|slot| slot.name().as_str() == name)
        {
            return Taken::Ours(Some(self.passing.swap_remove(at)));
        }
        let found = self
            .pending
            .iter()
            .position(|pending| pending.row.name() == name);
        match found.map(|at| self.pending.swap_remove(at)) {
            Some(pending) if !pending.used_up => {
                let taken = pending.ours.clone();
                self.replace(Pending {
                    ours: None,
                    ..pending
                });
                Taken::Ours(taken)
            }
            _ => Taken::Stored(self.key.clone()),
        }
    }

    pub(super) fn forget_slot(&mut self, slot: &Arc<Slot>) {
        if let Some(record) = &mut self.stored {
            Arc::make_mut(record).remove(slot.name().as_str());
        }
    }
}
