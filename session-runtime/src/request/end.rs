//! Ending the session: logging out, deleting.

use std::sync::Arc;

use tokio::time::Instant;

use super::Request;
use super::state::{CookieAction, WriteBlock};
use crate::amend::amend;
use crate::error::Error;
use crate::event::EventKind;
use crate::key::{Key, Selector, UserId};
use crate::plan::brought;
use crate::plan::confirm::Fate;
use crate::plan::end::{self, Ending};
use crate::plan::place::{Place, Places};
use crate::plan::save::Opened;
use crate::record::{Ended, Record};
use crate::revoke;
use crate::task::to_its_end;

impl Request {
    /// Ends the session; the user's record stays. Does nothing for a guest.
    pub(crate) async fn logout(self: Arc<Self>) -> Result<(), Error> {
        to_its_end(async move {
            let gate = self.gate().await?;
            let presented = self.state().presented();
            match presented {
                Some((_, opened)) if opened.record.user().is_some() => {
                    self.end(Ended::LoggedOut, gate.deadline).await
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Ends the session, here and in the store.
    pub(crate) async fn delete(self: Arc<Self>, reason: String) -> Result<(), Error> {
        to_its_end(async move {
            let gate = self.gate().await?;
            self.end(Ended::Deleted(reason), gate.deadline).await
        })
        .await
    }

    /// Writes what is the user's, ends the session, then strikes it off. Whoever calls it holds the gate.
    async fn end(&self, reason: Ended, deadline: Instant) -> Result<(), Error> {
        self.resolve_unknown(deadline).await?;
        self.write_user(deadline).await?;
        let presented = self.state().presented();
        let Some((selector, opened)) = presented else {
            self.state().forget();
            return Ok(());
        };
        if opened.record.user().is_some() {
            self.read_user(deadline).await?;
        }
        let ending = self
            .end_in_store(selector, &opened, &reason, deadline)
            .await?;
        if let Some(user) = opened.record.user().filter(|_| ending == Ending::Done) {
            self.strike_off(user, selector, deadline).await;
        }
        let mut state = self.state();
        state.forget();
        if ending == Ending::Done {
            state.cookie = Some(CookieAction::Remove);
            // It was superseded at most: what comes now may begin anew.
            state.block = state.block.filter(|block| *block == WriteBlock::Panicked);
        }
        if state.block.is_none() {
            state.ended = Some(reason);
        }
        Ok(())
    }

    /// Ends the session. What requests have set apart in it for its user, up to the last moment, is credited before.
    pub(super) async fn end_in_store(
        &self,
        selector: Selector,
        opened: &Opened,
        reason: &Ended,
        deadline: Instant,
    ) -> Result<Ending, Error> {
        let (config, key) = (&self.config, Key::from(selector));
        let rows = config.known_rows();
        let mut seen = Some(Arc::clone(&opened.record));
        loop {
            let place = self.place_of(selector);
            let owes = |there: &Record| {
                let now = config.now();
                let due = |place| brought::is_due(there, place, &rows, now);
                config.migrate && place.as_ref().is_some_and(due)
            };
            let ended = amend(config, &key, seen, deadline, |there, now| {
                Ok(end::by_holder(there, opened.secret, reason, owes, now))
            });
            let ended = ended.await?;
            if ended.outcome != Ending::Owes {
                if ended.outcome == Ending::Done {
                    let kind = EventKind::Ended(reason.clone());
                    config.emit(kind, &key, opened.record.user());
                }
                return Ok(ended.outcome);
            }
            seen = ended.record;
            if let Some(session) = &seen {
                let fate = Fate::Credited;
                self.credit(selector, session, &rows, fate, deadline)
                    .await?;
            }
        }
    }

    fn place_of(&self, selector: Selector) -> Option<Place> {
        let state = self.state();
        let user = state.user.as_ref()?.record.stored.as_deref();
        Places::of(user).find(selector).cloned()
    }

    /// Takes the place of a session that is over out of its user's record. Where that fails, a later login does it.
    pub(super) async fn strike_off(&self, user: &UserId, selector: Selector, deadline: Instant) {
        let seen = {
            let state = self.state();
            let own = state.user.as_ref().filter(|own| own.id == *user);
            own.and_then(|own| own.record.stored.clone())
        };
        let key = Key::User(user.clone());
        let gone = [selector];
        let struck_off = revoke::strike_off(&self.config, &key, seen, &gone, deadline);
        if let Err(error) = struck_off.await {
            tracing::warn!(%error, "a session has ended and is still listed: the user's next login sees to it");
        }
    }
}
