//! Places: the sessions that may use a user's record, listed in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::clock::Timestamp;
use crate::key::Selector;
use crate::record::{Ended, Record, Slot};

/// The slot that holds them.
pub(crate) const NAME: &str = "@sessions";

/// User records do not expire.
pub(crate) const FOREVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// The number of a user whose sessions nobody has revoked. It and all others have twenty digits: a list becomes no longer
/// by a revocation, which goes on where a store has no more room.
const UNREVOKED: u64 = 10_000_000_000_000_000_000;

/// Draws the number of a revocation.
pub(crate) fn number() -> u64 {
    rand::random_range(UNREVOKED + 1..=u64::MAX)
}

/// The list in a user's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Places {
    /// Renewed by whoever revokes sessions: a login that began under another number fails.
    #[serde(rename = "n")]
    pub(crate) revocations: u64,
    /// How often the user was deleted: what the app writes by itself is for the user whom it has seen.
    #[serde(rename = "d", default, skip_serializing_if = "is_zero")]
    pub(crate) deletions: u32,
    #[serde(rename = "p", default)]
    pub(crate) all: Vec<Place>,
}

/// One session's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    #[serde(rename = "s")]
    pub(crate) selector: Selector,
    /// Since when it has the place.
    #[serde(rename = "a")]
    pub(crate) since: Timestamp,
    /// Until when the session lives for certain.
    #[serde(rename = "u")]
    pub(crate) until: Timestamp,
    /// It has no access any more, and is being ended.
    #[serde(rename = "l")]
    pub(crate) leaving: bool,
    /// Up to which number each field that it brought has been credited.
    #[serde(rename = "c", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) credited: BTreeMap<String, u32>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Default for Places {
    fn default() -> Self {
        Self {
            revocations: UNREVOKED,
            deletions: 0,
            all: Vec::new(),
        }
    }
}

impl Places {
    /// Reads the list of a user's record; an empty one if there is none.
    pub(crate) fn of(user: Option<&Record>) -> Self {
        let slot = user.and_then(|user| user.slot(NAME));
        let places = slot.and_then(|slot| serde_json::from_slice(slot.payload()).ok());
        places.unwrap_or_default()
    }

    /// Writes the list into a user's record.
    pub(crate) fn put(&self, user: &mut Record) {
        // Numbers, digits and names: there is nothing in it that has no JSON form.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        user.set(Arc::new(Slot::new(NAME, payload, None)));
    }

    /// Returns the place of a session, be it leaving.
    pub(crate) fn find(&self, selector: Selector) -> Option<&Place> {
        self.all.iter().find(|place| place.selector == selector)
    }

    /// Returns the place of a session that may use the record.
    pub(crate) fn find_mut(&mut self, selector: Selector) -> Option<&mut Place> {
        let mut places = self.all.iter_mut();
        places.find(|place| place.selector == selector && !place.leaving)
    }

    /// Returns `true` if the session may use the record.
    pub(crate) fn admits(&self, selector: Selector) -> bool {
        self.find(selector).is_some_and(|place| !place.leaving)
    }

    /// Returns those that may use the record, without `own`, the oldest first.
    pub(crate) fn staying(&self, own: Selector) -> Vec<&Place> {
        let others = |place: &&Place| !place.leaving && place.selector != own;
        let mut staying: Vec<_> = self.all.iter().filter(others).collect();
        staying.sort_by_key(|place| place.since);
        staying
    }

    /// Returns those that are leaving: whoever marked them so may have been cut off.
    pub(crate) fn leaving(&self) -> Vec<Selector> {
        let leaving = self.all.iter().filter(|place| place.leaving);
        leaving.map(|place| place.selector).collect()
    }

    /// Takes places out of the list.
    pub(crate) fn strike_off(&mut self, gone: &[Selector]) {
        self.all.retain(|place| !gone.contains(&place.selector));
    }
}

/// Tells a user's record from one that was made after the user had been deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    deletions: u32,
    /// When the record was made; `None` if there was none.
    created: Option<Timestamp>,
}

impl Life {
    /// Returns what `user` is told by.
    pub(crate) fn of(user: Option<&Record>) -> Self {
        Self {
            deletions: Places::of(user).deletions,
            created: user.map(|user| user.head.created),
        }
    }

    /// Returns `true` if what is there belongs to the same user, who has not been deleted since.
    pub(crate) fn goes_on_in(self, there: Option<&Record>) -> bool {
        let is_live = there.is_none_or(|there| there.ended().is_none());
        let now = Self::of(there);
        let is_same = self.created.is_none() || self.created == now.created;
        is_live && is_same && self.deletions == now.deletions
    }
}

/// Takes places out of a user's record, or of its tombstone. Returns `true` if they were there.
pub(crate) fn strike_off(user: Option<&Record>, gone: &[Selector]) -> Plan<bool> {
    let places = Places::of(user);
    let mut left = places.clone();
    left.strike_off(gone);
    match user {
        Some(user) if left != places => {
            let mut after = user.next();
            left.put(&mut after);
            Plan::Write(Arc::new(after), true)
        }
        _ => Plan::Leave(false),
    }
}

/// Marks the places of those that `leaves` says as leaving, under a new number of revocations. Returns whom it has
/// marked, and those that were leaving before.
pub(crate) fn revoke(
    user: Option<&Record>,
    leaves: impl Fn(Selector) -> bool,
    number: u64,
    now: Timestamp,
) -> Plan<Vec<Selector>> {
    let after = user.map_or_else(|| Record::new(now, FOREVER), Record::next);
    mark(Places::of(user), after, leaves, number)
}

/// Deletes a user: revokes all, and leaves a tombstone that keeps number, count and places, so that a login that is under way
/// fails, and a record that is made in its stead goes on from them. All in one, or a login slips in between.
pub(crate) fn delete(user: Option<&Record>, number: u64, now: Timestamp) -> Plan<Vec<Selector>> {
    let made = || Record::new(now, FOREVER);
    let after = user.map_or_else(made, Clone::clone);
    let mut places = Places::of(user);
    places.deletions = places.deletions.wrapping_add(1);
    mark(
        places,
        after.tombstone(Ended::Revoked, now),
        |_| true,
        number,
    )
}

fn mark(
    mut places: Places,
    mut after: Record,
    leaves: impl Fn(Selector) -> bool,
    number: u64,
) -> Plan<Vec<Selector>> {
    places.revocations = number;
    for place in &mut places.all {
        place.leaving |= leaves(place.selector);
    }
    let leaving = places.leaving();
    places.put(&mut after);
    Plan::Write(Arc::new(after), leaving)
}
