//! Undoing the opening of a login that was refused.

use std::sync::Arc;

use super::Plan;
use super::brought;
use super::lifetime::Lifetimes;
use crate::clock::Timestamp;
use crate::record::{Ended, Head, Record, Until};
use crate::row::Rows;
use crate::secret::SecretHash;

/// Takes an opening back that issued `secret`, if nobody has presented that. If nothing else opens the session then, it
/// becomes what it was before the opening that superseded its earlier secrets; one that was made by a login ends. What
/// else has been written stays. Returns `true` if it was taken back.
pub(crate) fn plan(
    there: Option<&Arc<Record>>,
    secret: SecretHash,
    rows: &Rows,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Plan<bool> {
    let Some(there) = there.filter(|there| there.ended().is_none()) else {
        return Plan::Leave(false);
    };
    let mut after = there.next();
    if !after.head_mut().secrets.take_back(secret) {
        return Plan::Leave(false);
    }
    if !after.head.secrets.open_anything(now) {
        after = match after.head_mut().undo.take() {
            Some(before) => {
                let mut after = given_back(after, &before, rows, now);
                // The login's limit was a later one.
                after.expires = after.expires.min(lifetimes.limit(&after.head));
                after
            }
            None => there.tombstone(Ended::Revoked, now),
        };
    }
    Plan::Write(Arc::new(after), true)
}

fn given_back(mut after: Record, before: &Head, rows: &Rows, now: Timestamp) -> Record {
    brought::give_back(&mut after, before.brought, rows, now);
    let head = after.head_mut();
    head.secrets = before.secrets.clone();
    head.user.clone_from(&before.user);
    head.authenticated = before.authenticated;
    head.until = Until::of(head.ends(), before.fingerprint());
    head.limit = before.limit;
    head.address.clone_from(&before.address);
    head.user_agent.clone_from(&before.user_agent);
    after
}
