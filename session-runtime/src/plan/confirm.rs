//! Confirming a login: the user's record gets a place for the session, and the credit of what it brought.

use std::sync::Arc;

use super::Plan;
use super::brought;
use super::edit::Caps;
use super::place::{FOREVER, Place, Places};
use crate::clock::Timestamp;
use crate::key::Selector;
use crate::record::{Record, Version};
use crate::row::Rows;

/// Says what a login does that finds the user's number of sessions at its limit.
///
/// ```
/// use session_runtime::{SessionLayer, WhenFull, store::MemoryStore};
/// let layer = SessionLayer::new(MemoryStore::new()).max_sessions(3, WhenFull::EndOldest);
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It fails: [`Error::is_too_many_sessions`](crate::Error::is_too_many_sessions); unless one of them has ended, or
    /// nobody has presented its id within a minute.
    Refuse,
    /// It ends the user's oldest session.
    EndOldest,
}

/// The findings of a login about other sessions of the user.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// These are no more.
    pub(crate) gone: Vec<Selector>,
    /// These live on, for certain until then.
    pub(crate) renewed: Vec<(Selector, Timestamp)>,
}

/// One confirmation.
pub(crate) struct Confirm<'a> {
    pub(crate) selector: Selector,
    /// The session as it was opened.
    pub(crate) session: &'a Record,
    /// The number of revocations when the login began.
    pub(crate) revocations: u64,
    /// The version of the user's record as of which the session is sure to be there, be it without a place; none needs
    /// to be looked at where the login has just made the session.
    pub(crate) sure: Sure,
    pub(crate) findings: &'a Findings,
    pub(crate) limit: usize,
    pub(crate) when_full: WhenFull,
    /// What was brought is credited.
    pub(crate) credits: bool,
    pub(crate) rows: &'a Rows,
    pub(crate) caps: Caps,
}

/// The moment from which it is sure that a session without a place has not lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sure {
    /// Always: nobody else knows of it yet.
    New,
    /// While the user's record is of this version; without one, while there is none.
    At(Option<Version>),
}

/// The outcome of a confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// The session has its place. Those that have to leave for it are to be ended.
    Placed {
        leaving: Vec<Selector>,
        credited: bool,
    },
    /// All sessions of the user were revoked meanwhile.
    Revoked,
    /// The session may have had a place, and lost it.
    Unsure,
    /// The user has as many sessions as are allowed.
    Full,
}

impl Confirm<'_> {
    /// Plans the write.
    pub(crate) fn plan(&self, there: Option<&Arc<Record>>, now: Timestamp) -> Plan<Confirmed> {
        let mut places = Places::of(there.map(AsRef::as_ref));
        if places.revocations != self.revocations {
            return Plan::Leave(Confirmed::Revoked);
        }
        if !self.is_sure(&places, there) {
            return Plan::Leave(Confirmed::Unsure);
        }
        self.update(&mut places);
        let surplus = (places.staying(self.selector).len() + 1).saturating_sub(self.limit);
        if surplus > 0 && self.when_full == WhenFull::Refuse {
            return Plan::Leave(Confirmed::Full);
        }
        let leaving = self.make_room(&mut places, surplus);
        let mut after = live(there, now);
        let mut place = self.place(&places, now);
        let (session, rows) = (self.session, self.rows);
        let credited =
            self.credits && brought::credit(&mut after, &mut place, session, rows, self.caps, now);
        places.strike_off(&[self.selector]);
        places.all.push(place);
        places.put(&mut after);
        after.note_write(now);
        Plan::Write(Arc::new(after), Confirmed::Placed { leaving, credited })
    }

    /// Returns `true` if the session has its place, or has never had one.
    fn is_sure(&self, places: &Places, there: Option<&Arc<Record>>) -> bool {
        match places.find(self.selector) {
            Some(place) => !place.leaving,
            None => match self.sure {
                Sure::New => true,
                Sure::At(version) => version == there.map(|there| there.version()),
            },
        }
    }

    fn update(&self, places: &mut Places) {
        places.strike_off(&self.findings.gone);
        for (selector, until) in &self.findings.renewed {
            if let Some(place) = places.find_mut(*selector) {
                place.until = place.until.max(*until);
            }
        }
    }

    /// Marks the oldest as leaving. Returns them.
    fn make_room(&self, places: &mut Places, surplus: usize) -> Vec<Selector> {
        let staying = places.staying(self.selector).into_iter();
        let oldest: Vec<_> = staying.take(surplus).map(|place| place.selector).collect();
        for place in &mut places.all {
            place.leaving |= oldest.contains(&place.selector);
        }
        oldest
    }

    fn place(&self, places: &Places, now: Timestamp) -> Place {
        let credited = places
            .find(self.selector)
            .map(|place| place.credited.clone());
        Place {
            selector: self.selector,
            since: now,
            until: self.session.expires(),
            leaving: false,
            credited: credited.unwrap_or_default(),
        }
    }
}

/// Returns the next record of a user: one that was deleted begins anew.
fn live(there: Option<&Arc<Record>>, now: Timestamp) -> Record {
    let Some(there) = there else {
        return Record::new(now, FOREVER);
    };
    let mut after = there.next();
    if after.ended.take().is_some() {
        after.expires = FOREVER;
        after.head_mut().created = now;
        after.put_sorted(Vec::new());
    }
    after
}

/// The fate of the edits that a session has set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Credited,
    Discarded,
}

/// A write of a user's record that credits the edits which a session has set apart since.
pub(crate) struct Credit<'a> {
    pub(crate) fate: Fate,
    pub(crate) selector: Selector,
    pub(crate) session: &'a Record,
    pub(crate) rows: &'a Rows,
    pub(crate) caps: Caps,
}

impl Credit<'_> {
    /// Plans the write. Returns `true` if there is anything, and nothing is if the session has no place.
    pub(crate) fn plan(&self, there: Option<&Arc<Record>>, now: Timestamp) -> Plan<bool> {
        let Some(there) = there.filter(|there| there.ended().is_none()) else {
            return Plan::Leave(false);
        };
        let mut places = Places::of(Some(there));
        let Some(place) = places.find_mut(self.selector) else {
            return Plan::Leave(false);
        };
        let mut after = there.next();
        let (session, rows) = (self.session, self.rows);
        let any = match self.fate {
            Fate::Credited => brought::credit(&mut after, place, session, rows, self.caps, now),
            Fate::Discarded => brought::discard(place, session, now),
        };
        if !any {
            return Plan::Leave(false);
        }
        places.put(&mut after);
        after.note_write(now);
        Plan::Write(Arc::new(after), true)
    }
}
