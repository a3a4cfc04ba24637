//! Logging in: the session is opened for the user, then confirmed in the user's record. Only then is its id sent.
//!
//! What the two swaps do, and what comes next if they are cut off, is in `docs/users.md`.

use std::sync::Arc;

use tokio::time::Instant;

use crate::amend::{Failure, Freshness, UnknownOutcome, amend, create, load};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Error;
use crate::event::EventKind;
use crate::id::SessionId;
use crate::key::{Key, Selector, UserId};
use crate::plan::confirm::{Confirm, Confirmed, Findings, Sure, WhenFull};
use crate::plan::edit::SlotEdit;
use crate::plan::lifetime::Lifetimes;
use crate::plan::open::{ClientFacts, Open};
use crate::plan::place::{Place, Places};
use crate::plan::save::{FactEdits, Opened};
use crate::plan::{Plan, undo};
use crate::record::{Ended, Record};
use crate::revoke;
use crate::row::Rows;
use crate::secret::{RETIRING, SecretHash};
use crate::store::KEPT_AFTER_EXPIRY;
use crate::task::all;

/// How many places a login looks up whose certain time has passed.
const LOOK_UPS: usize = 8;

/// One login.
pub(crate) struct Login<'a> {
    pub(crate) config: &'a Config,
    pub(crate) user: &'a UserId,
    /// The fingerprint that the app logs that user in by.
    pub(crate) fingerprint: Option<SecretHash>,
    /// The session that the client has presented, if it is of a guest or of this user.
    pub(crate) from: Option<(Selector, Opened)>,
    /// What the request has changed of it.
    pub(crate) edits: &'a [SlotEdit],
    pub(crate) facts: FactEdits,
    pub(crate) client: ClientFacts,
    pub(crate) rows: &'a Rows,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) deadline: Instant,
}

/// A login that is done.
pub(crate) struct LoggedIn {
    /// The id to send.
    pub(crate) id: SessionId,
    pub(crate) session: Arc<Record>,
    pub(crate) user: Arc<Record>,
}

/// A login that failed.
pub(crate) struct LoginFailure {
    pub(crate) error: Error,
    /// The session as it is now, if what the request has changed is in it.
    pub(crate) session: Option<Arc<Record>>,
    /// An id that opens it and that nobody has been sent, if the login has made it.
    pub(crate) id: Option<SessionId>,
    /// It is not known whether the session was opened.
    pub(crate) unknown: Option<UnknownOutcome>,
}

impl From<Error> for LoginFailure {
    fn from(error: Error) -> Self {
        Self {
            error,
            session: None,
            id: None,
            unknown: None,
        }
    }
}

/// A session that was opened.
struct OpenedSession {
    id: SessionId,
    record: Arc<Record>,
    /// It was made by this login.
    is_new: bool,
}

impl OpenedSession {
    /// Returns as of when the session is sure to be there: what made it leaves the user's record as it is.
    fn sure(&self, seen: Option<&Arc<Record>>) -> Sure {
        if self.is_new {
            Sure::New
        } else {
            Sure::At(seen.map(|seen| seen.version()))
        }
    }
}

impl Login<'_> {
    /// Looks, opens, confirms.
    pub(crate) async fn run(&self) -> Result<LoggedIn, LoginFailure> {
        let key = Key::User(self.user.clone());
        let seen = load(self.config, &key, Freshness::Latest, self.deadline).await;
        let seen = seen.map_err(Error::from)?;
        let places = Places::of(seen.as_deref());
        let findings = self.look_up(&places).await;
        self.check_limit(&places, &findings)?;
        let mut opened = self.open(&places).await?;
        let mut sure = opened.sure(seen.as_ref());
        let mut there = seen;
        loop {
            let confirm = self.confirm(&opened, &places, sure, &findings);
            let confirmed = amend(self.config, &key, there, self.deadline, |there, now| {
                Ok(confirm.plan(there, now))
            });
            let amended = match confirmed.await {
                Ok(amended) => amended,
                Err(failure) => return Err(self.failed(opened, failure).await),
            };
            match (amended.outcome, amended.record) {
                (Confirmed::Placed { leaving, credited }, Some(user)) => {
                    self.emit(&opened, credited);
                    let user = self.end_leaving(user, leaving).await;
                    return Ok(LoggedIn {
                        id: opened.id,
                        session: opened.record,
                        user,
                    });
                }
                (Confirmed::Full, _) => {
                    return Err(self.refused(opened, Error::too_many_sessions()).await);
                }
                (Confirmed::Unsure, record) => {
                    let places = Places::of(record.as_deref());
                    let place = places.find(opened.id.selector());
                    let leaves = place.is_some_and(|place| place.leaving);
                    let is_over = if leaves {
                        Ok(true)
                    } else {
                        self.is_over(&opened).await
                    };
                    let is_over = match is_over {
                        Ok(is_over) => is_over,
                        Err(error) => return Err(self.refused(opened, error).await),
                    };
                    if is_over {
                        opened = self.open_another().await?;
                        sure = Sure::New;
                    } else {
                        sure = Sure::At(record.as_ref().map(|record| record.version()));
                    }
                    there = record;
                }
                _ => return Err(self.refused(opened, Error::revoked()).await),
            }
        }
    }

    /// Returns `true` if the session that was opened has been ended since, to make room for another say.
    async fn is_over(&self, opened: &OpenedSession) -> Result<bool, Error> {
        let key = Key::from(&opened.id);
        let there = load(self.config, &key, Freshness::Latest, self.deadline).await?;
        Ok(there.is_none_or(|there| there.ended().is_some()))
    }

    /// A confirmation that failed. Where nobody knows whether it happened, nothing is undone: the user's next login from
    /// this browser goes on from here.
    async fn failed(&self, opened: OpenedSession, failure: Failure) -> LoginFailure {
        if failure.unknown.is_none() {
            return self.refused(opened, failure.error).await;
        }
        self.emit(&opened, false);
        LoginFailure {
            id: opened.is_new.then_some(opened.id),
            session: Some(opened.record),
            ..failure.error.into()
        }
    }

    fn confirm<'a>(
        &'a self,
        opened: &'a OpenedSession,
        look: &Places,
        sure: Sure,
        findings: &'a Findings,
    ) -> Confirm<'a> {
        let (limit, when_full) = self.config.max_sessions;
        Confirm {
            selector: opened.id.selector(),
            session: &opened.record,
            revocations: look.revocations,
            sure,
            findings,
            limit,
            when_full,
            credits: self.config.migrate,
            rows: self.rows,
            caps: self.config.caps,
        }
    }

    /// Looks up sessions whose places may be free, all at once. A store that fails here keeps nobody out.
    async fn look_up(&self, places: &Places) -> Findings {
        let now = self.config.now();
        let (limit, when_full) = self.config.max_sessions;
        let own = self.from.as_ref().map(|(selector, _)| *selector);
        let others = || {
            places
                .all
                .iter()
                .filter(|place| Some(place.selector) != own)
        };
        let is_full = when_full == WhenFull::Refuse && others().count() >= limit;
        let (mut certain, mut doubtful): (Vec<_>, Vec<_>) =
            others().partition(|place| now < place.until && !place.leaving);
        doubtful.sort_by_key(|place| (!place.leaving, place.until));
        doubtful.truncate(LOOK_UPS);
        if is_full {
            doubtful.append(&mut certain);
        }
        let found = all(doubtful
            .iter()
            .map(|place| self.examine(place, is_full, now)))
        .await;
        let mut findings = Findings::default();
        for (place, found) in doubtful.into_iter().zip(found) {
            match found {
                Ok(None) => findings.gone.push(place.selector),
                Ok(Some(until)) => findings.renewed.push((place.selector, until)),
                Err(error) => {
                    tracing::warn!(%error, "a session of the user could not be looked up at a login");
                }
            }
        }
        findings
    }

    /// Returns until when a session lives; `None` if it is over, be it by this.
    async fn examine(
        &self,
        place: &Place,
        is_full: bool,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let key = Key::from(place.selector);
        let there = load(self.config, &key, Freshness::Latest, self.deadline).await?;
        let own = |there: &Arc<Record>| there.ended().is_none() && there.user() == Some(self.user);
        let Some(record) = there.filter(own) else {
            return Ok(None);
        };
        if place.leaving {
            let (user, seen) = (self.user, Some(record));
            revoke::end_one(self.config, place.selector, user, seen, self.deadline).await?;
            return Ok(None);
        }
        let may_end = |there: &Record, now: Timestamp| {
            // After that no slow request brings it back.
            let lapsed = !there.is_live(now - KEPT_AFTER_EXPIRY);
            let over = lapsed || is_full && is_unclaimed(there, now);
            over && self.config.watch.is_steady(now)
        };
        if !may_end(&record, now) {
            return Ok(Some(record.expires()));
        }
        let ended = amend(
            self.config,
            &key,
            Some(record),
            self.deadline,
            |there, now| {
                Ok(match there.filter(|there| there.ended().is_none()) {
                    Some(there) if may_end(there, now) => {
                        Plan::Write(Arc::new(there.tombstone(Ended::Expired, now)), None)
                    }
                    there => Plan::Leave(there.map(|there| there.expires())),
                })
            },
        );
        let ended = ended.await?;
        if ended.written {
            let kind = EventKind::Ended(Ended::Expired);
            self.config.emit(kind, &key, Some(self.user));
        }
        Ok(ended.outcome)
    }

    /// Refuses before anything is written, where that can be told.
    fn check_limit(&self, places: &Places, findings: &Findings) -> Result<(), Error> {
        let (limit, when_full) = self.config.max_sessions;
        let own = self.from.as_ref().map(|(selector, _)| *selector);
        let stays = |place: &&Place| {
            !place.leaving
                && Some(place.selector) != own
                && !findings.gone.contains(&place.selector)
        };
        let is_full = places.all.iter().filter(stays).count() >= limit;
        if is_full && when_full == WhenFull::Refuse {
            return Err(Error::too_many_sessions());
        }
        Ok(())
    }

    async fn open(&self, places: &Places) -> Result<OpenedSession, LoginFailure> {
        let leaves = |selector| places.find(selector).is_some_and(|place| place.leaving);
        if let Some((selector, opened)) = &self.from
            && !leaves(*selector)
            && let Some(opened) = self.open_presented(*selector, opened).await?
        {
            return Ok(opened);
        }
        self.create().await
    }

    /// Opens the session that was presented; `None` if it is over by now, or another's.
    async fn open_presented(
        &self,
        selector: Selector,
        opened: &Opened,
    ) -> Result<Option<OpenedSession>, LoginFailure> {
        let id = SessionId::of(selector)?;
        let (key, seen) = (Key::from(selector), Arc::clone(&opened.record));
        let open = self.opening(id);
        let amended = amend(
            self.config,
            &key,
            Some(seen),
            self.deadline,
            |there, now| open.plan(opened, there, now),
        );
        let amended = amended.await.map_err(|failure: Failure| LoginFailure {
            unknown: failure.unknown,
            ..failure.error.into()
        })?;
        match amended.record.filter(|_| amended.outcome) {
            // It was opened, and its answer was lost; by the time that it was known again, it had been ended.
            Some(record) if record.ended().is_some() => self.open_another().await.map(Some),
            Some(record) => Ok(Some(OpenedSession {
                id,
                record,
                is_new: false,
            })),
            None => Ok(None),
        }
    }

    /// Goes on in a new session after the one that was opened has been ended. What this request has changed of what follows
    /// the user was set apart in that, and may have been credited by whoever ended it: it is not brought along again.
    async fn open_another(&self) -> Result<OpenedSession, LoginFailure> {
        let follows = |edit: &SlotEdit| edit.row.follows() && edit.is_change();
        if self.edits.iter().any(follows) {
            return Err(Error::revoked().into());
        }
        self.create().await
    }

    async fn create(&self) -> Result<OpenedSession, LoginFailure> {
        loop {
            let id = SessionId::generate()?;
            let (key, open) = (Key::from(&id), self.opening(id));
            let created = create(self.config, &key, self.deadline, |now| open.create(now));
            // Another record of that selector: one in 2^64, or a generator that repeats itself.
            let created = created.await.map_err(|failure| failure.error)?;
            if let Some(record) = created.record.filter(|_| created.outcome) {
                return Ok(OpenedSession {
                    id,
                    record,
                    is_new: true,
                });
            }
        }
    }

    fn opening(&self, id: SessionId) -> Open<'_> {
        Open {
            user: self.user,
            fingerprint: self.fingerprint,
            issues: id.secret(),
            edits: self.edits,
            facts: self.facts,
            client: &self.client,
            rows: self.rows,
            lifetimes: self.lifetimes,
            caps: self.config.caps,
        }
    }

    /// Takes the opening back.
    async fn refused(&self, opened: OpenedSession, error: Error) -> LoginFailure {
        let (key, secret) = (Key::from(&opened.id), opened.id.secret());
        let seen = Some(Arc::clone(&opened.record));
        let undone = amend(self.config, &key, seen, self.deadline, |there, now| {
            Ok(undo::plan(there, secret, self.rows, self.lifetimes, now))
        });
        let record = match undone.await {
            Ok(amended) => amended.record,
            Err(failure) => {
                tracing::warn!(error = %failure.error, "a login was refused, and could not be taken back: nobody can open its session until the user's next login");
                Some(opened.record)
            }
        };
        LoginFailure {
            session: record.filter(|_| !opened.is_new),
            ..error.into()
        }
    }

    /// Ends the sessions that have to leave for this one, and returns the user's record as it is then. The login is good
    /// whatever comes of it: the next one sees to those that are left.
    async fn end_leaving(&self, user: Arc<Record>, leaving: Vec<Selector>) -> Arc<Record> {
        if leaving.is_empty() {
            return user;
        }
        let (config, seen) = (self.config, Some(Arc::clone(&user)));
        let ended = revoke::end_and_strike_off(config, self.user, seen, &leaving, self.deadline);
        match ended.await {
            Ok((_, struck_off)) => struck_off.unwrap_or(user),
            Err(error) => {
                tracing::warn!(%error, "sessions that have to leave could not be ended yet: they have no access any more");
                user
            }
        }
    }

    fn emit(&self, opened: &OpenedSession, credited: bool) {
        let key = Key::from(&opened.id);
        if opened.is_new {
            self.config.emit(EventKind::Created, &key, Some(self.user));
        }
        if credited {
            self.config.emit(EventKind::Merged, &key, Some(self.user));
        }
    }
}

/// Returns `true` if nobody has presented the session's id within a minute of its login.
fn is_unclaimed(session: &Record, now: Timestamp) -> bool {
    let secrets = &session.head.secrets;
    let issued = secrets.last_issued();
    secrets.presented().is_none() && issued.is_none_or(|issued| issued + RETIRING <= now)
}
