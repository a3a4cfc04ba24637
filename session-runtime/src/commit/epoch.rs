//! Epochs: what a user's record says of itself, so that nothing which began before all of the user's sessions
//! were revoked, or the user was deleted, comes to its end after.
//!
//! An epoch is two random texts with a dot between. The first is the record's own: that of a user who was deleted
//! and logs in again has another. The second changes whenever all sessions are revoked.

use std::sync::Arc;

use super::{Pending, fact};
use crate::id::random_text;
use crate::record::{FieldName, Record};
use crate::schema::facts;
use crate::signature::Signature;

/// The epoch of a user's record; empty if it has none.
fn of(account: &Record) -> String {
    fact(account, &facts::EPOCH).unwrap_or_default()
}

/// That of a record which is about to be made. All are of one size: a store that is full takes the next one.
pub(crate) fn first() -> Pending {
    let epoch = format!("{}.{}", random_text(), random_text());
    Pending::fact(&facts::EPOCH, None, Some(&epoch))
}

/// The next of a record.
pub(crate) fn next(account: &Record) -> Pending {
    let base = account.slot(facts::EPOCH.name()).map(Arc::clone);
    let epoch = format!("{}.{}", own(&of(account)), random_text());
    Pending::fact(&facts::EPOCH, base, Some(&epoch))
}

/// That it must not have changed, for a change that is based on `account`.
pub(crate) fn unchanged(account: &Record) -> (FieldName, Option<Signature>) {
    let epoch = account.slot(facts::EPOCH.name());
    let signature = epoch.map(|slot| slot.signature());
    (FieldName::fixed(facts::EPOCH.name()), signature)
}

/// Whether the user was deleted between two looks at the user's record, and has logged in again since: what was
/// meant for the one has no place in the other.
pub(crate) fn is_reborn(before: &Record, after: &Record) -> bool {
    own(&of(before)) != own(&of(after))
}

fn own(epoch: &str) -> &str {
    epoch.split_once('.').map_or(epoch, |(own, _)| own)
}
