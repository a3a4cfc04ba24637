//! A user's record, and the plans on it: confirming a login, crediting, marking, striking off, deleting.

use super::rules::{Break, Rules};
use super::session::Session;
use super::world::{Key, Moment};

/// A session that may use the user's record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) key: Key,
    /// The number up to which the session's units have been credited.
    pub(crate) credited: u8,
    pub(crate) leaving: bool,
    /// Until when the session lives for certain.
    pub(crate) certain: Moment,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct User {
    pub(crate) deleted: bool,
    pub(crate) units: u8,
    /// The oldest first.
    pub(crate) places: Vec<Place>,
    /// The last revocation's: drawn at random, 0 if there was none.
    pub(crate) number: u8,
    /// Counts the times that the user was deleted.
    pub(crate) deletions: u8,
    /// Counts the times that anybody was struck off: what a login has to know of the record's version.
    pub(crate) struck: u8,
}

/// How many sessions of a user may stay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Limit {
    None,
    EndOldest(usize),
    Refuse(usize),
}

/// What a login saw of the user's record when it began.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Looked {
    pub(crate) number: u8,
    /// How often anybody had been struck off.
    pub(crate) struck: u8,
}

/// What a login asks of the user's record.
pub(crate) struct Confirmation<'a> {
    pub(crate) key: Key,
    /// Whether the login has made the session's record.
    pub(crate) new: bool,
    pub(crate) opened: &'a Session,
    pub(crate) looked: Looked,
    pub(crate) limit: Limit,
    /// Sessions that have been found ended.
    pub(crate) gone: &'a [Key],
    /// Sessions that live longer than their places say.
    pub(crate) alive: &'a [(Key, Moment)],
}

/// What becomes of a confirmation.
pub(crate) enum Verdict {
    /// The session has its place; these have to leave, or were about to.
    Listed(User, Vec<Key>),
    /// There has been a revocation.
    Refused,
    /// The session is leaving.
    Elsewhere,
    /// Somebody has been struck off since this number: it may have been this session.
    LookAgain(u8),
    /// As many as may stay do; these are they.
    Full(Vec<Key>),
}

impl User {
    /// Makes one who has so many units and nothing else.
    pub(crate) fn with(units: u8) -> Self {
        Self {
            units,
            ..Self::default()
        }
    }

    pub(crate) fn place(&self, key: Key) -> Option<&Place> {
        self.places.iter().find(|place| place.key == key)
    }

    /// Returns the place of a session that may use the record.
    pub(crate) fn admits(&self, key: Key) -> Option<&Place> {
        self.place(key)
            .filter(|place| !place.leaving && !self.deleted)
    }

    pub(crate) fn staying(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| !place.leaving)
    }

    pub(crate) fn leaving(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.leaving)
    }

    /// Lists a session, credits what it brings, and marks those that the limit sends away.
    pub(crate) fn confirm(&self, asked: &Confirmation<'_>, rules: Rules) -> Verdict {
        if let Some(verdict) = self.objects(asked, rules) {
            return verdict;
        }
        let mut user = self.clone();
        user.deleted = false;
        user.tend(asked.gone, asked.alive);
        let noted = user.place(asked.key).map_or(0, |place| place.credited);
        user.places.retain(|place| place.key != asked.key);
        let mut leave: Vec<Key> = user.leaving().map(|place| place.key).collect();
        match asked.limit {
            Limit::Refuse(limit) if user.staying().count() >= limit => {
                return Verdict::Full(user.staying().map(|place| place.key).collect());
            }
            Limit::EndOldest(limit) => leave.extend(user.send_away(limit, rules)),
            _ => {}
        }
        user.units += credit(asked.opened, noted, rules);
        let credited = noted.max(asked.opened.count);
        user.places.push(Place {
            key: asked.key,
            credited,
            leaving: false,
            certain: asked.opened.lapses,
        });
        Verdict::Listed(user, leave)
    }

    /// Returns what is to be said against a login's confirmation, the limit aside.
    fn objects(&self, asked: &Confirmation<'_>, rules: Rules) -> Option<Verdict> {
        if self.number != asked.looked.number && !rules.lack(Break::Number) {
            return Some(Verdict::Refused);
        }
        if let Some(place) = self.place(asked.key) {
            let leaving = place.leaving && !rules.lack(Break::ConfirmLeaving);
            return leaving.then_some(Verdict::Elsewhere);
        }
        let doubtful =
            !asked.new && self.struck != asked.looked.struck && !rules.lack(Break::ConfirmGone);
        doubtful.then_some(Verdict::LookAgain(self.struck))
    }

    /// Merges what the session brings above the number noted, and notes the number. Returns `false` if it may not.
    pub(crate) fn credit(&mut self, key: Key, session: &Session, own: u8, rules: Rules) -> bool {
        let Some(place) = self
            .places
            .iter_mut()
            .find(|place| place.key == key && !place.leaving)
        else {
            return false;
        };
        if self.deleted {
            return false;
        }
        self.units += own + credit(session, place.credited, rules);
        place.credited = place.credited.max(session.count);
        true
    }

    /// Notes the number without merging. Returns how many units that leaves out.
    pub(crate) fn discard(&mut self, key: Key, session: &Session, rules: Rules) -> u8 {
        let Some(place) = self
            .places
            .iter_mut()
            .find(|place| place.key == key && !place.leaving)
        else {
            return 0;
        };
        let units = credit(session, place.credited, rules);
        place.credited = place.credited.max(session.count);
        units
    }

    /// Marks all places but one as leaving, and renews the number. Returns who has to leave.
    pub(crate) fn revoke(&mut self, keep: Option<Key>, number: u8) -> Vec<Key> {
        self.number = number;
        let leaving = self
            .places
            .iter_mut()
            .filter(|place| Some(place.key) != keep);
        leaving
            .map(|place| {
                place.leaving = true;
                place.key
            })
            .collect()
    }

    /// Becomes a tombstone that keeps number, places and count.
    pub(crate) fn delete(&mut self, rules: Rules) {
        self.deleted = true;
        self.deletions += u8::from(!rules.lack(Break::DeletionUncounted));
        self.units = 0;
        if rules.lack(Break::DeletionForgetsNumber) {
            self.number = 0;
        }
        if rules.lack(Break::DeletionForgetsPlaces) {
            self.places.clear();
        }
    }

    pub(crate) fn strike_off(&mut self, keys: &[Key]) {
        let before = self.places.len();
        self.places.retain(|place| !keys.contains(&place.key));
        self.struck += u8::from(self.places.len() < before);
    }

    fn tend(&mut self, gone: &[Key], alive: &[(Key, Moment)]) {
        self.strike_off(gone);
        for place in &mut self.places {
            let until = alive
                .iter()
                .find(|(key, _)| *key == place.key)
                .map_or(0, |(_, until)| *until);
            place.certain = place.certain.max(until);
        }
    }

    /// Marks the oldest as leaving, until there is room for one more.
    fn send_away(&mut self, limit: usize, rules: Rules) -> Vec<Key> {
        let surplus = (self.staying().count() + 1).saturating_sub(limit);
        let leave: Vec<Key> = self
            .staying()
            .take(surplus)
            .map(|place| place.key)
            .collect();
        if rules.lack(Break::Leaving) {
            self.strike_off(&leave);
        }
        for place in self
            .places
            .iter_mut()
            .filter(|place| leave.contains(&place.key))
        {
            place.leaving = true;
        }
        leave
    }
}

/// Returns how many of the session's units lie above the number noted.
fn credit(session: &Session, noted: u8, rules: Rules) -> u8 {
    let noted = if rules.lack(Break::Note) { 0 } else { noted };
    session
        .brought
        .iter()
        .filter(|brought| brought.number > noted)
        .map(|brought| brought.units)
        .sum()
}
