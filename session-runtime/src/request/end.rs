//! Ending the session: logging out, deleting.

use std::sync::Arc;

use tokio::time::Instant;

use super::Request;
use super::client::cut;
use super::state::{CookieAction, WriteBlock};
use super::write::Saved;
use crate::amend::{Failure, Freshness, amend, load};
use crate::credit::credit;
use crate::error::Error;
use crate::event::EventKind;
use crate::key::{Key, Selector, UserId};
use crate::plan::brought;
use crate::plan::confirm::{Credit, Fate};
use crate::plan::end::{self, Ending};
use crate::plan::place::Places;
use crate::plan::save::Opened;
use crate::record::{Ended, Record};
use crate::revoke;
use crate::row::Rows;
use crate::task::to_its_end;

/// How much of a reason is kept, in bytes: an end is never refused for want of room.
const REASON: usize = 1024;

impl Request {
    /// Ends the session; the user's record stays, and what `kept` have of the browser's goes along. Does nothing for a guest.
    pub(crate) async fn logout(self: Arc<Self>, kept: &'static Rows) -> Result<(), Error> {
        to_its_end(self.config.underway.clone(), async move {
            let gate = self.gate().await?;
            let presented = self.state().presented();
            match presented {
                Some((_, opened)) if opened.record.user().is_some() => {
                    self.end(Ended::LoggedOut, kept, gate.deadline).await
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Ends the session, here and in the store.
    pub(crate) async fn delete(self: Arc<Self>, reason: String) -> Result<(), Error> {
        to_its_end(self.config.underway.clone(), async move {
            let gate = self.gate().await?;
            let reason = Ended::Deleted(cut(&reason, REASON).to_owned());
            self.end(reason, &[], gate.deadline).await
        })
        .await
    }

    /// Writes what is the user's, ends the session, then strikes it off. Whoever calls it holds the gate.
    async fn end(&self, reason: Ended, kept: &Rows, deadline: Instant) -> Result<(), Error> {
        self.resolve_unknown(deadline).await?;
        if self.write_user(deadline).await? == Saved::Ended {
            self.state().drop_users();
        }
        let (own, presented) = {
            let state = self.state();
            (state.opened().is_some(), state.presented())
        };
        // A request that comes from before a login ends nothing but itself, unless it logs out.
        let may = own || reason == Ended::LoggedOut;
        let Some((selector, opened)) = presented.filter(|_| may) else {
            self.state().forget();
            return Ok(());
        };
        let ending = self
            .end_in_store(selector, &opened, &reason, deadline)
            .await?;
        let (rows, now) = (self.config.known_rows(), self.config.now());
        let mut state = self.state();
        let may_be_own = state.ends.take();
        let kept = state.take_along(kept, now);
        // A goodbye is a notice.
        let goodbye = (reason == Ended::LoggedOut).then(|| state.take_notices(&rows, now));
        state.drop_users();
        state.forget();
        if let Some(notices) = goodbye {
            state.put_notices(notices, now)?;
        }
        state.take_over(&kept, now)?;
        match ending {
            Ending::GoesOn(why) if may_be_own.as_ref() != Some(&why) => {
                // What comes next begins nothing in place of what the client has.
                state.block.get_or_insert(WriteBlock::Superseded);
                state.ended = Some(why);
            }
            Ending::Done => {
                state.cookie = Some(CookieAction::Remove);
                // It was superseded at most: what comes now may begin anew.
                state.block = state.block.filter(|block| *block == WriteBlock::Panicked);
            }
            _ => {}
        }
        if state.block.is_none() {
            state.ended = Some(reason);
        }
        Ok(())
    }

    /// Ends a session, then strikes it off. What requests have set apart in it for its user, up to the last moment, is
    /// credited before.
    pub(super) async fn end_in_store(
        &self,
        selector: Selector,
        opened: &Opened,
        reason: &Ended,
        deadline: Instant,
    ) -> Result<Ending, Error> {
        let (config, key) = (&self.config, Key::from(selector));
        let (rows, owner) = (config.known_rows(), opened.record.user());
        let mut account = self.account(owner, deadline).await?;
        let (mut seen, mut upto) = (Some(Arc::clone(&opened.record)), None);
        loop {
            let places = Places::of(account.as_deref());
            // What cannot be credited is not waited for.
            let owes = |there: &Record| {
                let place = places.find(selector).filter(|_| config.migrate);
                let due = |place| brought::is_due(there, place, &rows, config.now());
                upto < Some(there.head.brought) && place.is_some_and(due)
            };
            let ended = amend(config, &key, seen, deadline, |there, now| {
                Ok(end::by_holder(there, opened.secret, reason, owes, now))
            });
            let note = |failure: &Failure| {
                self.state().ends = failure.unknown.is_some().then(|| reason.clone());
            };
            let ended = ended.await.inspect_err(note)?;
            if ended.outcome == Ending::Done {
                config.emit(EventKind::Ended(reason.clone()), &key, owner);
                if let Some(owner) = owner {
                    self.strike_off(owner, account, selector, deadline).await;
                }
                return Ok(Ending::Done);
            }
            let (Ending::Owes, Some(session), Some(user)) = (&ended.outcome, &ended.record, owner)
            else {
                return Ok(ended.outcome);
            };
            let plan = Credit {
                fate: Fate::Credited,
                selector,
                session,
                rows: &rows,
                caps: config.caps,
            };
            account = credit(config, user, account, &plan, deadline).await?;
            upto = Some(session.head.brought);
            seen = ended.record;
        }
    }

    /// Returns the record of a session's owner: as the request knows it, or looked up.
    async fn account(
        &self,
        owner: Option<&UserId>,
        deadline: Instant,
    ) -> Result<Option<Arc<Record>>, Error> {
        let Some(owner) = owner else {
            return Ok(None);
        };
        let known = {
            let state = self.state();
            let user = state.user.as_ref().filter(|user| user.id == *owner);
            user.and_then(|user| user.record.stored.clone())
        };
        if known.is_some() {
            return Ok(known);
        }
        let key = Key::User(owner.clone());
        Ok(load(&self.config, &key, Freshness::Latest, deadline).await?)
    }

    /// Takes the place of a session that is over out of its user's record. Where that fails, a later login does it.
    async fn strike_off(
        &self,
        user: &UserId,
        seen: Option<Arc<Record>>,
        selector: Selector,
        deadline: Instant,
    ) {
        let (key, gone) = (Key::User(user.clone()), [selector]);
        let struck_off = revoke::strike_off(&self.config, &key, seen, &gone, deadline);
        if let Err(error) = struck_off.await {
            tracing::warn!(%error, "a session has ended and is still listed: the user's next login sees to it");
        }
    }
}
