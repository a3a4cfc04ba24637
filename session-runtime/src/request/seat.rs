//! Seats: how the number of a user's sessions is kept within its limit, however many logins race.
//!
//! A login reserves a seat in the user's record before it opens its session, by compare-and-set over all
//! reservations. What counts is the sessions that are listed, and reservations that are not listed yet. Where
//! the oldest has to go, its session is ended, or its reservation is taken away; a login that finds its own
//! gone once its session is there takes the session back.
//!
//! Until its login has left the seat again, the session lives no longer than the reservation counts: a login that
//! is broken off, wherever, leaves nothing behind that blocks a seat for longer than that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Request;
use super::account::{change_of, is_credited, mark_frozen, mark_of};
use super::gathered::Gathered;
use super::login::Login;
use crate::change::Committed;
use crate::clock::Timestamp;
use crate::commit::{self, Pending, fact};
use crate::config::WhenFull;
use crate::devices::{self, Device};
use crate::error::Error;
use crate::record::Record;
use crate::schema::facts;

/// How long a reservation counts without a session. A login that takes longer is over.
const RESERVED: Duration = Duration::from_secs(10);

/// Devices with a reservation, and since when. A device that has left its seat stays, with a zero, until the next
/// takes one: so no reservation is ever made and given up unseen by whoever counts meanwhile.
type Seats = BTreeMap<String, i64>;

const LEFT: i64 = 0;

/// A seat that a login has reserved.
pub(super) struct Seat {
    /// Until when the reservation counts.
    pub(super) until: Timestamp,
    /// The devices that have to leave for it.
    leave: Vec<String>,
}

impl Request {
    /// Reserves a seat for a login, if seats are limited.
    pub(super) async fn take_seat(&self, login: &Login<'_>) -> Result<Option<Seat>, Error> {
        let Some((limit, when_full)) = self.config.max_sessions else {
            return Ok(None);
        };
        let deadline = Instant::now() + self.config.deadline;
        while Instant::now() < deadline {
            let account = self.seats_of(login).await?;
            let listed = self.seated(login, &account).await?;
            let now = self.config.now();
            let mut seats = reserved(&account, now);
            let leave = oldest(&listed, &seats, limit.saturating_sub(1));
            if !leave.is_empty() && when_full == WhenFull::Refuse {
                return Err(Error::too_many_sessions());
            }
            seats.retain(|seat, _| !leave.contains(seat));
            seats.insert(login.device.clone(), now.as_millis());
            let change = change_of(&account, &[change_seats(&account, &seats)], now);
            let key = &mut login.account.clone();
            if commit::ask(&self.config, key, &change).await? == Committed::Applied {
                let until = now + RESERVED;
                return Ok(Some(Seat { until, leave }));
            }
        }
        Err(Error::unsettled())
    }

    /// The user's record, unless the login has been stopped.
    async fn seats_of(&self, login: &Login<'_>) -> Result<Arc<Record>, Error> {
        let account = commit::look_up(&self.config, &login.account).await?;
        let account = account.ok_or_else(Error::revoked)?;
        login.check(&account).map(|()| account)
    }

    /// The sessions that take a seat: all of the user's, but not the one that the new one takes the place of, nor
    /// one whose place a new one has taken.
    async fn seated(&self, login: &Login<'_>, account: &Record) -> Result<Vec<Device>, Error> {
        let replaced = login.from.as_ref();
        let replaced = replaced.map(|(key, record)| devices::name_of(key, record));
        let mut seated = devices::list(&self.config, login.user).await?;
        seated.retain(|device| {
            Some(device.id()) != replaced.as_deref() && !is_credited(account, &mark_of(&device.key))
        });
        Ok(seated)
    }

    /// Ends the sessions of those who have to leave, also of those who have come in since. Before the new one is
    /// opened, and not before it is sure that it can be.
    pub(super) async fn unseat(&self, login: &Login<'_>) -> Result<(), Error> {
        let leave = login.seat.as_ref().map_or(&[][..], |seat| &seat.leave);
        if leave.is_empty() {
            return Ok(());
        }
        for device in devices::list(&self.config, login.user).await? {
            if leave.iter().any(|id| id == device.id()) {
                devices::revoke(&self.config, login.user, device.key).await?;
            }
        }
        Ok(())
    }

    /// Gives the reservation of a login up, now that its session is there; an error if it has gone already. The
    /// session that this one takes the place of is over from then on.
    pub(super) async fn leave_seat(
        &self,
        login: &Login<'_>,
        gathered: &Gathered,
    ) -> Result<(), Error> {
        let account = self.seats_of(login).await?;
        let plan = |account: &Record| {
            let (mut seats, now) = (seats_in(account), self.config.now());
            login.check(account)?;
            if login.is_over(now) {
                return Err(Error::unsettled());
            }
            let seat = seats.get_mut(&login.device);
            *seat.ok_or_else(Error::too_many_sessions)? = LEFT;
            let mut pending = vec![change_seats(account, &seats)];
            pending.extend(mark_frozen(account, gathered, now)?);
            Ok(Some(change_of(account, &pending, now)))
        };
        let deadline = Instant::now() + self.config.deadline;
        let left = self.amend(&login.account, account, deadline, plan);
        left.await?.map(drop).ok_or_else(Error::revoked)
    }

    /// Why a session is over a moment after it has been made: most likely a newer one has taken its seat.
    pub(super) fn unseated(&self) -> Error {
        match self.config.max_sessions {
            Some((_, WhenFull::EndOldest)) => Error::too_many_sessions(),
            _ => Error::revoked(),
        }
    }

    /// Gives the reservation of a login up that has failed, for others to take. Where the store cannot be
    /// reached, that waits until it counts no more.
    pub(super) async fn vacate_seat(&self, login: &Login<'_>, failed: &Error) {
        if self.config.max_sessions.is_none() || !failed.is_definite() {
            return;
        }
        if let Err(error) = self.leave_seat(login, &Gathered::default()).await {
            tracing::debug!(%error, "a login failed, and its seat stays taken for ten seconds");
        }
    }
}

fn seats_in(account: &Record) -> Seats {
    fact(account, &facts::SEATS).unwrap_or_default()
}

fn change_seats(account: &Record, seats: &Seats) -> Pending {
    let base = account.slot(facts::SEATS.name()).cloned();
    Pending::fact(&facts::SEATS, base, Some(seats))
}

/// The reservations that count.
fn reserved(account: &Record, now: Timestamp) -> Seats {
    let mut seats = seats_in(account);
    seats.retain(|_, since| now.distance(Timestamp::from_millis(*since)) < RESERVED);
    seats
}

/// The devices that have to leave so that no more than `keep` stay: sessions first, the oldest first.
fn oldest(listed: &[Device], seats: &Seats, keep: usize) -> Vec<String> {
    let is_listed = |seat: &&String| listed.iter().any(|device| device.id() == *seat);
    let mut coming: Vec<_> = seats.iter().filter(|(seat, _)| !is_listed(seat)).collect();
    coming.sort_by_key(|(_, since)| **since);
    let all = listed.iter().map(|device| device.id().to_owned());
    let all: Vec<_> = all
        .chain(coming.into_iter().map(|(seat, _)| seat.clone()))
        .collect();
    let leave = all.len().saturating_sub(keep);
    all.into_iter().take(leave).collect()
}
