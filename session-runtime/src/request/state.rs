//! What a request knows and has changed so far. Nothing here waits or calls a store.

use std::sync::Arc;

use super::Saved;
use super::client::Client;
use super::part::Part;
use crate::clock::Timestamp;
use crate::commit::{Found, Outcome, Pending, Policy};
use crate::config::Config;
use crate::error::Error;
use crate::id::SessionId;
use crate::key::Key;
use crate::observe;
use crate::record::{Ended, FieldName, Record, Slot};
use crate::schema::{AnyRow, Deed, Harvest, Lifetime};

#[derive(Default)]
pub(super) struct State {
    /// Who is asking; known once what the client presented has been looked at.
    pub(super) client: Option<Client>,
    /// The id that opens the session now: presented, or issued by this request.
    pub(super) id: Option<SessionId>,
    /// The browser's session.
    pub(super) session: Part,
    /// What follows the user, if one is logged in.
    pub(super) account: Option<Part>,
    /// The client has presented the id of the session's key, and not one that only leads to it.
    pub(super) presents: bool,
    /// What the client presented is frozen, here: its login is under way, or was broken off. Or it is over.
    pub(super) frozen: Option<(Key, Arc<Record>)>,
    /// Values for this request alone.
    pub(super) passing: Vec<Arc<Slot>>,
    /// Flashes that survive being read by this request.
    pub(super) kept: Vec<FieldName>,
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
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Barred {
    /// The session ended while the request ran.
    Gone,
    /// A handler panicked.
    Panicked,
    /// The client has logged in or out since: it carries an id that is no more, and will have its new one soon.
    Superseded,
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

/// Where a flash that is claimed has to be taken from.
pub(super) enum Taken {
    /// This request had it to itself.
    Ours(Option<Arc<Slot>>),
    /// The record under this key, if there is one.
    Stored(Option<Key>),
}

pub(super) fn is_fact(pending: &Pending) -> bool {
    pending.name.as_str().starts_with('@')
}

impl State {
    /// The session ended while the request ran, or was frozen: then it can still be ended.
    pub(super) fn lost(&mut self, reason: Ended) {
        observe::gone();
        let presented = self.presented();
        self.forget();
        self.frozen = presented;
        self.ended = Some(reason);
        self.barred = Some(Barred::Gone);
    }

    /// Starts over as a guest.
    pub(super) fn forget(&mut self) {
        self.id = None;
        self.session = Part::default();
        self.frozen = None;
        self.account = None;
        self.passing.clear();
        self.kept.clear();
        self.notice.take_if(|told| matches!(told, Told::Issued(_)));
        self.generation += 1;
    }

    /// The session that the client has: the one at hand, or one that is frozen.
    pub(super) fn presented(&self) -> Option<(Key, Arc<Record>)> {
        self.session.stored().or_else(|| self.frozen.clone())
    }

    pub(super) fn policy(&self, config: &Config) -> Policy {
        let (ttl, absolute) = config.lifetimes(self.lifetime);
        Policy {
            ttl,
            absolute,
            touch: self.touch,
        }
    }

    /// The record that holds the fields of `row`.
    fn part(&mut self, row: &dyn AnyRow) -> &mut Part {
        match &mut self.account {
            Some(account) if row.follows() => account,
            _ => &mut self.session,
        }
    }

    pub(super) fn fold(&mut self, harvest: &Harvest, now: Timestamp) -> Result<(), Error> {
        // A login still takes along what is set in a request that writes nothing by itself.
        if self
            .barred
            .is_some_and(|barred| barred != Barred::Superseded)
        {
            return Ok(());
        }
        let shown = |base: &Arc<Slot>| self.passing.iter().any(|slot| Arc::ptr_eq(slot, base));
        let base = harvest.base.as_ref().filter(|base| !shown(base));
        match (harvest.deed, base) {
            (Deed::Changed | Deed::Slid, _) => {
                let ours = harvest.ours.as_ref();
                self.part(harvest.row)
                    .fold_slot(harvest.row, base, ours, now)
            }
            (Deed::Passing, _) => {
                self.passing.extend(harvest.ours.clone());
                Ok(())
            }
            (Deed::UsedUp, Some(base)) => self.use_up(harvest, base, now),
            (Deed::Kept, Some(_)) => {
                self.keep(&FieldName::fixed(harvest.row.name()));
                Ok(())
            }
            (Deed::UsedUp | Deed::Kept, None) => Ok(()), // it is for this request alone
        }
    }

    fn keep(&mut self, name: &FieldName) {
        let pending = &mut self.session.pending;
        pending.retain(|pending| !pending.used_up || pending.name != *name);
        self.kept.push(name.clone());
    }

    /// A flash was read. What this request keeps, or has set itself, stays.
    fn use_up(&mut self, harvest: &Harvest, base: &Arc<Slot>, now: Timestamp) -> Result<(), Error> {
        let name = &FieldName::fixed(harvest.row.name());
        if self.kept.contains(name) || self.session.has_set(name) {
            return Ok(());
        }
        self.session.fold_slot(harvest.row, Some(base), None, now)?;
        for pending in &mut self.session.pending {
            pending.used_up |= pending.name == *name;
        }
        Ok(())
    }

    /// What was looked up again.
    pub(super) fn refreshed(
        &mut self,
        found: Found,
        account: Option<(Key, Arc<Record>)>,
        now: Timestamp,
    ) -> Result<(), Error> {
        match found {
            Found::Live(key, record) => self.session.refreshed(key, record, now)?,
            Found::Ended(reason) | Found::Superseded(reason) => self.lost(reason),
            Found::Claimed(..) | Found::Abandoned { .. } => self.lost(Ended::LoggedIn),
        }
        match (&mut self.account, account) {
            (Some(part), Some((key, record))) if !part.is_reborn(&record) => {
                part.refreshed(key, record, now)
            }
            (Some(_), _) => {
                self.account_is_gone();
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// The user was deleted: what follows the user reads as absent, and nothing brings it back.
    pub(super) fn account_is_gone(&mut self) {
        if let Some(account) = &mut self.account {
            account.stored = None;
            account.drop_changes();
        }
    }

    /// What is pending, to be able to go back to it.
    pub(super) fn pending(&self) -> (Vec<Pending>, Option<Vec<Pending>>) {
        let account = self.account.as_ref().map(|account| account.pending.clone());
        (self.session.pending.clone(), account)
    }

    pub(super) fn restore(&mut self, (session, account): (Vec<Pending>, Option<Vec<Pending>>)) {
        self.session.pending = session;
        if let (Some(part), Some(pending)) = (&mut self.account, account) {
            part.pending = pending;
        }
    }

    /// Nothing of what handlers have changed is to be written.
    pub(super) fn drop_changes(&mut self) {
        self.session.drop_changes();
        if let Some(account) = &mut self.account {
            account.drop_changes();
        }
    }

    /// A commit of the session came out so.
    pub(super) fn committed(
        &mut self,
        outcome: Outcome,
        issued: Option<SessionId>,
        now: Timestamp,
    ) -> Result<Saved, Error> {
        let Outcome::Done {
            key,
            record,
            change,
        } = outcome
        else {
            self.lost(Ended::Revoked);
            return Ok(Saved::Ended);
        };
        if let Some(id) = issued {
            self.issue(id);
        }
        self.session
            .committed(key, record, change.as_deref(), now)?;
        Ok(Saved::written(change.is_some()))
    }

    /// A commit of what follows the user came out so.
    pub(super) fn credited(&mut self, outcome: Outcome, now: Timestamp) -> Result<Saved, Error> {
        let (
            Outcome::Done {
                key,
                record,
                change,
            },
            Some(account),
        ) = (outcome, &mut self.account)
        else {
            observe::gone();
            self.account_is_gone();
            return Ok(Saved::Unchanged);
        };
        account.committed(key, record, change.as_deref(), now)?;
        Ok(Saved::written(change.is_some()))
    }

    /// The client is to be told this id.
    pub(super) fn issue(&mut self, id: SessionId) {
        self.id = Some(id);
        self.notice = Some(Told::Issued(id));
        self.presents = false;
    }

    /// Whether anything is pending that makes a session, or changes one.
    pub(super) fn has_changes(&self) -> bool {
        let account = self
            .account
            .as_ref()
            .is_some_and(|account| !account.pending.is_empty());
        let session = &self.session;
        let changes = |pending: &Pending| session.stored.is_some() || !is_fact(pending);
        self.barred.is_none() && (account || session.pending.iter().any(changes))
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
        let pending = &mut self.session.pending;
        let found = pending
            .iter()
            .position(|pending| pending.name.as_str() == name);
        match found.map(|at| pending.swap_remove(at)) {
            Some(pending) if !pending.used_up => {
                let taken = pending.ours.clone();
                self.session.replace(Pending {
                    ours: None,
                    ..pending
                });
                Taken::Ours(taken)
            }
            _ => Taken::Stored(self.session.key.clone()),
        }
    }
}
