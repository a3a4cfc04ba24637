//! Ending a session: by whoever holds it, or by whoever may end a user's.

use std::sync::Arc;

use super::Plan;
use crate::clock::Timestamp;
use crate::key::UserId;
use crate::record::{Ended, Record};
use crate::secret::{Opens, SecretHash};

/// The outcome of ending a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It has ended by this.
    Done,
    /// It is over already.
    NotThere,
    /// The client has a newer id by now, or none: what it has is not the request's to end. Why the request's own opens nothing.
    GoesOn(Ended),
    /// Something that was set apart in it is to be credited first.
    Owes,
}

/// Ends a session for a request that was served by `secret`. `owes` says what has to be credited before.
///
/// A request that comes from before a login or a logout ends nothing but itself, unless the client has not had the new id yet
/// and wants to be logged out.
pub(crate) fn by_holder(
    there: Option<&Arc<Record>>,
    secret: SecretHash,
    reason: &Ended,
    owes: impl FnOnce(&Record) -> bool,
    now: Timestamp,
) -> Plan<Ending> {
    let Some(there) = there else {
        return Plan::Leave(Ending::NotThere);
    };
    let secrets = &there.head.secrets;
    if let Some(reason) = there.ended() {
        return Plan::Leave(match secrets.look_up(secret, now) {
            Opens::Superseded => Ending::GoesOn(reason.clone()),
            _ => Ending::NotThere,
        });
    }
    let logs_out = *reason == Ended::LoggedOut;
    let may = match secrets.look_up(secret, now) {
        Opens::Current | Opens::Retiring | Opens::Retired => true,
        Opens::Superseded => logs_out && secrets.superseded_since(secret).is_none(),
        Opens::Nothing => false,
    };
    if !may {
        return Plan::Leave(Ending::GoesOn(Ended::LoggedIn));
    }
    if owes(there) {
        return Plan::Leave(Ending::Owes);
    }
    let mut after = there.tombstone(reason.clone(), now);
    // The client has a newer id, or none: a request that is late does not begin a session over that.
    if logs_out || *reason == Ended::LoggedIn {
        after.head_mut().secrets.supersede(now);
    }
    Plan::Write(Arc::new(after), Ending::Done)
}

/// Ends a session if it is that user's. Returns why, if it ends by this: one that has lapsed has expired, and no slow
/// request brings it back.
pub(crate) fn of_user(
    there: Option<&Arc<Record>>,
    user: &UserId,
    now: Timestamp,
) -> Plan<Option<Ended>> {
    let Some(there) = open(there).filter(|there| there.user() == Some(user)) else {
        return Plan::Leave(None);
    };
    let reason = if there.is_live(now) {
        Ended::Revoked
    } else {
        Ended::Expired
    };
    let ended = there.tombstone(reason.clone(), now);
    Plan::Write(Arc::new(ended), Some(reason))
}

/// Ends a session if it is that user's, logged in by that fingerprint. Returns why, if it ends by this.
pub(crate) fn of_fingerprint(
    there: Option<&Arc<Record>>,
    user: &UserId,
    fingerprint: SecretHash,
    now: Timestamp,
) -> Plan<Option<Ended>> {
    let is_same = |there: &&Arc<Record>| there.head.fingerprint() == Some(fingerprint);
    of_user(there.filter(is_same), user, now)
}

/// Ends a session, whoever's it is. Returns what it was, if it ends by this.
pub(crate) fn of_anybody(there: Option<&Arc<Record>>, now: Timestamp) -> Plan<Option<Arc<Record>>> {
    match open(there).filter(|there| there.is_live(now)) {
        Some(there) => {
            let ended = there.tombstone(Ended::Revoked, now);
            Plan::Write(Arc::new(ended), Some(Arc::clone(there)))
        }
        None => Plan::Leave(None),
    }
}

fn open(there: Option<&Arc<Record>>) -> Option<&Arc<Record>> {
    there.filter(|there| there.ended().is_none())
}
