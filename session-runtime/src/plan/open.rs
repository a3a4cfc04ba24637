//! Opening a login: the session gets a new secret and a user, and what follows the user is set apart.

use std::sync::Arc;

use super::Plan;
use super::brought;
use super::edit::{Caps, SlotEdit};
use super::lifetime::Lifetimes;
use super::save::{FactEdits, Opened};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::key::UserId;
use crate::record::{Record, Until};
use crate::row::{GUEST, Rows};
use crate::secret::{Opens, SecretHash, Secrets};

/// The facts that a session keeps of the client that logs in.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientFacts {
    pub(crate) address: Option<Box<str>>,
    pub(crate) user_agent: Option<Box<str>>,
}

/// One opening.
pub(crate) struct Open<'a> {
    pub(crate) user: &'a UserId,
    /// The fingerprint that the app logs that user in by.
    pub(crate) fingerprint: Option<SecretHash>,
    /// The secret that it issues.
    pub(crate) issues: SecretHash,
    /// What the request has changed as a guest, or of the browser's fields, in all its handles.
    pub(crate) edits: &'a [SlotEdit],
    pub(crate) facts: FactEdits,
    pub(crate) client: &'a ClientFacts,
    pub(crate) rows: &'a Rows,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) caps: Caps,
}

impl Open<'_> {
    /// Plans to open the session that the request knows. Leaves it, with `false`, if that is over or another's by now.
    pub(crate) fn plan(
        &self,
        opened: &Opened,
        there: Option<&Arc<Record>>,
        now: Timestamp,
    ) -> Result<Plan<bool>, Error> {
        // It may have lapsed while the handler ran, as for whoever writes to it.
        let is_there = |there: &&Arc<Record>| there.ended().is_none() && opened.is_kept(there, now);
        let Some(there) = there.filter(is_there) else {
            return Ok(Plan::Leave(false));
        };
        let same_user = there.user() == Some(self.user);
        if there.user().is_some() && !same_user {
            return Ok(Plan::Leave(false));
        }
        let supersedes = match there.head.secrets.look_up_for_login(opened.secret, now) {
            Opens::Current | Opens::Retiring | Opens::Retired => true,
            // Another tab has logged in, or the answer was lost.
            Opens::Superseded if same_user => false,
            _ => return Ok(Plan::Leave(false)),
        };
        let mut after = there.next();
        if supersedes {
            after.head_mut().undo = Some(there.head.without_undo());
            after.head_mut().secrets.supersede(now);
        }
        let late = there.user().is_some() && opened.record.user().is_none();
        self.take_along(Some(there), &mut after, late, now)?;
        after.head_mut().secrets.issue(self.issues, now);
        self.finish(&mut after, now);
        Ok(Plan::Write(Arc::new(after), true))
    }

    /// Makes a new session of what the request has changed.
    pub(crate) fn create(&self, now: Timestamp) -> Result<Record, Error> {
        let mut record = Record::new(now, now);
        self.take_along(None, &mut record, true, now)?;
        record.head_mut().secrets = Secrets::unpresented(self.issues, now);
        self.finish(&mut record, now);
        Ok(record)
    }

    /// Puts the request's edits in. Unless what is there is a guest's, those of fields that follow are set apart as what they
    /// change; where the request comes `late`, from before a login, what is a guest's alone has no place any more.
    fn take_along(
        &self,
        before: Option<&Record>,
        record: &mut Record,
        late: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let apart = before.is_none_or(|before| before.user().is_some());
        let (mut follows, mut near) = (Vec::new(), 0);
        for edit in self.edits.iter().filter(|edit| edit.is_change()) {
            if edit.row.follows() && apart {
                follows.push(edit);
            } else if !late || !edit.name().starts_with(GUEST) {
                // What is a guest's alone is set apart below: it comes back if the login is refused.
                edit.apply(record, self.caps, now, &mut near)?;
            }
        }
        if !follows.is_empty() {
            brought::set_edits_apart(record, &follows, self.caps)?;
        }
        self.caps.check(before, record)?;
        // That makes names longer: no reason to refuse a guest whose session is full.
        brought::set_apart(record, self.rows, now);
        Ok(())
    }

    fn finish(&self, record: &mut Record, now: Timestamp) {
        let head = record.head_mut();
        head.user = Some(self.user.clone());
        head.authenticated = Some(now);
        head.until = Until::of(head.ends(), self.fingerprint);
        head.limit = Some(now + self.lifetimes.absolute);
        head.address.clone_from(&self.client.address);
        head.user_agent.clone_from(&self.client.user_agent);
        self.facts.apply(record);
        record.expires = self.lifetimes.extended(&record.head, now);
        record.note_write(now);
    }
}
