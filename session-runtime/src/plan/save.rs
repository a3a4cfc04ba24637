//! Saving: what a request has changed of its session, the use it has made of it, and the id it has presented.

use std::sync::Arc;
use std::time::Duration;

use super::Plan;
use super::brought;
use super::edit::{self, Caps, SlotEdit};
use super::lifetime::Lifetimes;
use super::place::{FOREVER, Life, Place, Places};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::key::Selector;
use crate::record::{Ended, Record, Until};
use crate::row::{GUEST, Rows};
use crate::secret::{Opens, RETIRING, SecretHash};
use crate::store::KEPT_AFTER_EXPIRY;

/// A request's changes of the session's own facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FactEdits {
    /// Another idle lifetime for this one session.
    pub(crate) ttl: Option<Duration>,
    /// When it ends at the latest.
    pub(crate) ends: Option<Timestamp>,
    /// Bound to neither address nor user agent any more.
    pub(crate) unbound: bool,
    /// Whether the browser keeps the cookie when it is closed.
    pub(crate) kept: Option<bool>,
}

impl FactEdits {
    pub(crate) fn apply(self, record: &mut Record) -> bool {
        let head = &record.head;
        let before = (head.ttl, head.ends(), head.unbound, head.kept);
        let after = (
            self.ttl.or(before.0),
            self.ends.or(before.1),
            self.unbound || before.2,
            self.kept.or(before.3),
        );
        if before == after {
            return false;
        }
        let head = record.head_mut();
        head.until = Until::of(after.1, head.fingerprint());
        (head.ttl, _, head.unbound, head.kept) = after;
        true
    }

    /// Returns `true` if it says for how long the session lives.
    pub(crate) fn is_of_time(self) -> bool {
        self.ttl.is_some() || self.ends.is_some()
    }

    pub(crate) fn is_any(self) -> bool {
        self != Self::default()
    }

    /// Returns what has been said since `sent` was on its way.
    pub(crate) fn since(self, sent: Self) -> Self {
        Self {
            ttl: self.ttl.filter(|_| self.ttl != sent.ttl),
            ends: self.ends.filter(|_| self.ends != sent.ends),
            unbound: self.unbound && !sent.unbound,
            kept: self.kept.filter(|_| self.kept != sent.kept),
        }
    }
}

/// A session as a request knows it.
#[derive(Clone)]
pub(crate) struct Opened {
    /// The record that it was opened on.
    pub(crate) record: Arc<Record>,
    /// The secret that opens it for this request.
    pub(crate) secret: SecretHash,
    /// The client has presented that: this request has not just issued it.
    pub(crate) presents: bool,
    /// When it was loaded.
    pub(crate) at: Timestamp,
}

/// A write of a session, at the end of a request or before.
pub(crate) struct Save<'a> {
    pub(crate) opened: &'a Opened,
    pub(crate) edits: &'a [SlotEdit],
    pub(crate) facts: FactEdits,
    /// The request counts as use.
    pub(crate) touch: bool,
    /// It goes on: it uses the session now.
    pub(crate) amid: bool,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) caps: Caps,
    /// The secret of an id to be issued.
    pub(crate) rotate: Option<SecretHash>,
    /// The session's place in its user's record, if that was loaded.
    pub(crate) place: Option<&'a Place>,
    /// Rows of fields that are to be set apart where they are found.
    pub(crate) astray: &'a Rows,
}

/// The outcome of saving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The record holds what the request has changed.
    Saved {
        /// More has been written than a time.
        written: bool,
        /// The new secret is in.
        issued: bool,
    },
    /// The request's guest has logged in meanwhile: what it changed is set apart for the user.
    SetApart,
    /// The session is over, or another's by now.
    Ended,
}

/// The access that a request has to the record that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Full,
    /// Its guest has become a user.
    Late,
    Nothing,
}

/// Returns why a session is over for a request that may do nothing to it.
pub(crate) fn why_over(there: Option<&Arc<Record>>, now: Timestamp) -> Ended {
    let live = there.filter(|there| there.is_live(now));
    let login = live.map_or(Ended::Expired, |_| Ended::LoggedIn);
    live.and_then(|there| there.ended().cloned())
        .unwrap_or(login)
}

impl Save<'_> {
    /// Plans the write.
    pub(crate) fn plan(
        &self,
        there: Option<&Arc<Record>>,
        now: Timestamp,
    ) -> Result<Plan<Outcome>, Error> {
        match (self.opened.access(there, now), there) {
            (Access::Full, Some(there)) => self.write(there, now),
            (Access::Late, Some(there)) => self.set_apart(there, now),
            _ => Ok(Plan::Leave(Outcome::Ended)),
        }
    }

    /// Returns `true` if something is to be written though the request has changed nothing.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let record = &self.opened.record;
        self.touch && self.lifetimes.is_due(record, now)
            || self.opened.presents && record.head.secrets.is_news(self.opened.secret)
            // It may be over: then nothing of the user's is written either.
            || !self.opened.is_kept(record, now)
            || self
                .place
                .is_some_and(|place| brought::is_droppable(record, place))
    }

    fn write(&self, there: &Record, now: Timestamp) -> Result<Plan<Outcome>, Error> {
        let mut after = there.next();
        let slots = self.put_edits(there, &mut after, now)?;
        let facts = self.facts.apply(&mut after);
        let apart = brought::set_fields_apart(&mut after, self.astray, now);
        let dropped = self
            .place
            .is_some_and(|place| brought::drop_credited(&mut after, place));
        let issued = self.present(&mut after, now);
        let timed = self.extend(&mut after, facts, now);
        let presented = after.head.secrets != there.head.secrets;
        let written = slots | facts | apart;
        if !(written || dropped || timed || presented) {
            return Ok(Plan::Leave(Outcome::Saved {
                written: false,
                issued: false,
            }));
        }
        self.caps.check(Some(there), &after)?;
        if written {
            after.updated = after.updated.max(now);
        }
        if self.touch || written {
            after.seen = after.seen.max(now);
        }
        let outcome = Outcome::Saved { written, issued };
        Ok(Plan::Write(Arc::new(after), outcome))
    }

    /// Puts the edits in. Those of fields that follow the user, made as a guest's by another handle than has logged in, are set
    /// apart. Returns `true` if anything is changed.
    fn put_edits(&self, there: &Record, after: &mut Record, now: Timestamp) -> Result<bool, Error> {
        if there.user().is_none() || !self.edits.iter().any(|edit| edit.row.follows()) {
            return edit::apply(self.edits, after, self.caps, now);
        }
        let (follows, stays): (Vec<_>, Vec<_>) =
            self.edits.iter().partition(|edit| edit.row.follows());
        brought::set_edits_apart(after, &follows, self.caps)?;
        let mut near = 0;
        for edit in stays {
            edit.apply(after, self.caps, now, &mut near)?;
        }
        Ok(true)
    }

    /// Notes that the request's id was presented, and adds another if one is to be issued.
    fn present(&self, after: &mut Record, now: Timestamp) -> bool {
        let own = self.opened.secret;
        if !self.opened.presents {
            return false;
        }
        if after.head.secrets.is_news(own) {
            brought::settle(after);
        } else if self.rotate.is_none() {
            return false;
        }
        let secrets = &mut after.head_mut().secrets;
        if let Some(hash) = self.rotate {
            return secrets.rotate(own, hash, now);
        }
        secrets.present(own, now);
        false
    }

    /// Extends the session from when it was loaded; from now where it is still live and the request goes on, or says for how
    /// long the session lives. Returns `true` if that is to be written.
    fn extend(&self, after: &mut Record, retimed: bool, now: Timestamp) -> bool {
        let retimed = retimed && self.facts.is_of_time();
        let used = if (self.amid || retimed) && after.is_live(now) {
            now
        } else {
            self.opened.at.max(now - KEPT_AFTER_EXPIRY).min(now)
        };
        let to = self.lifetimes.extended(&after.head, used);
        if retimed {
            let timed = after.expires != to;
            after.expires = to;
            return timed;
        }
        // Also where something else is written: in SQL a later expiry costs as much as that.
        let due = self.touch && self.lifetimes.is_due(after, used);
        if due {
            after.expires = to;
        }
        due
    }

    fn set_apart(&self, there: &Record, now: Timestamp) -> Result<Plan<Outcome>, Error> {
        let mut after = there.next();
        let changes = self.edits.iter().filter(|edit| edit.is_change());
        let (follows, stays): (Vec<_>, Vec<_>) = changes.partition(|edit| edit.row.follows());
        let mut written = !follows.is_empty();
        if written {
            brought::set_edits_apart(&mut after, &follows, self.caps)?;
        }
        let merges = |edit: &&&SlotEdit| edit.row.has_rule() && !edit.name().starts_with(GUEST);
        let mut near = 0;
        for edit in stays.iter().filter(merges) {
            written |= edit.apply(&mut after, self.caps, now, &mut near)?;
        }
        if !written {
            return Ok(Plan::Leave(Outcome::SetApart));
        }
        self.caps.check(Some(there), &after)?;
        after.updated = after.updated.max(now);
        Ok(Plan::Write(Arc::new(after), Outcome::SetApart))
    }
}

impl Opened {
    /// Returns what a request that has opened the session so may do to the record that is there.
    pub(crate) fn access(&self, there: Option<&Arc<Record>>, now: Timestamp) -> Access {
        let is_there = |there: &&Arc<Record>| there.ended().is_none() && self.is_kept(there, now);
        let Some(there) = there.filter(is_there) else {
            return Access::Nothing;
        };
        let (head, before) = (&there.head, &self.record.head);
        let same_login = (&head.user, head.authenticated) == (&before.user, before.authenticated);
        // Whoever was served by it has as long as a login: nobody may have the newer one.
        match head.secrets.look_up_for_login(self.secret, now) {
            Opens::Current | Opens::Retiring | Opens::Retired => Access::Full,
            // Newer ones have pushed it out while the request was running.
            Opens::Nothing if same_login => Access::Full,
            Opens::Superseded if self.is_late(there, now) => Access::Nothing,
            Opens::Superseded if before.user.is_none() => Access::Late,
            Opens::Superseded if before.user == head.user => Access::Full,
            Opens::Superseded | Opens::Nothing => Access::Nothing,
        }
    }

    /// Returns `true` if the client has had the id of its new login for a minute.
    fn is_late(&self, there: &Record, now: Timestamp) -> bool {
        let since = there.head.secrets.superseded_since(self.secret);
        since.is_some_and(|since| since + RETIRING <= now)
    }

    /// Returns `true` if the record has not expired, or was used before it did, ten minutes ago at most.
    pub(super) fn is_kept(&self, there: &Record, now: Timestamp) -> bool {
        there.is_live(now) || there.is_live(self.at) && there.is_live(now - KEPT_AFTER_EXPIRY)
    }
}

/// Who writes to a user's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// A session, which needs a place in it.
    Session(Selector),
    /// The app itself, which has seen the record of this life.
    App(Life),
}

impl Writer {
    fn may(self, there: Option<&Record>) -> bool {
        match self {
            Self::Session(selector) => {
                let live = there.filter(|there| there.ended().is_none());
                live.is_some() && Places::of(live).admits(selector)
            }
            Self::App(life) => life.goes_on_in(there),
        }
    }
}

/// A write to a user's record.
pub(crate) struct SaveUser<'a> {
    pub(crate) writer: Writer,
    pub(crate) edits: &'a [SlotEdit],
    pub(crate) caps: Caps,
}

/// The outcome of saving what follows a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserOutcome {
    /// The record holds what was changed.
    Saved { written: bool },
    /// The session may not use the record any more, or the user has been deleted.
    Revoked,
}

impl SaveUser<'_> {
    /// Plans the write.
    pub(crate) fn plan(
        &self,
        there: Option<&Arc<Record>>,
        now: Timestamp,
    ) -> Result<Plan<UserOutcome>, Error> {
        let there = there.map(AsRef::as_ref);
        if !self.writer.may(there) {
            return Ok(Plan::Leave(UserOutcome::Revoked));
        }
        let mut after = there.map_or_else(|| Record::new(now, FOREVER), Record::next);
        if !edit::apply(self.edits, &mut after, self.caps, now)? {
            return Ok(Plan::Leave(UserOutcome::Saved { written: false }));
        }
        self.caps.check(there, &after)?;
        after.note_write(now);
        Ok(Plan::Write(
            Arc::new(after),
            UserOutcome::Saved { written: true },
        ))
    }
}
