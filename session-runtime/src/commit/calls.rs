//! Calls of the store, each with its deadline: what is under a key, and changes that need no merging.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Pending, Policy, check_sizes};
use crate::change::{Change, Committed, Expiry, Kind, SlotChange};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Error, StoreError};
use crate::event::EventKind;
use crate::id::SessionId;
use crate::key::{Key, UserId};
use crate::record::{Ended, Record, Slot, State};
use crate::schema::facts;
use crate::store::Answer;

/// How old a claim has to be to count as abandoned: whoever made it would have finished long since.
const ABANDONED: Duration = Duration::from_secs(10);

/// For how long requests with an id that a login or logout has replaced are served as an empty guest who
/// writes nothing, so that they cannot overwrite the newer id.
pub(crate) const SUPERSEDED: Duration = Duration::from_secs(5 * 60);

/// Creates a session of what is pending, under a fresh id. With `until`, it lives no longer than that.
pub(crate) async fn create(
    config: &Config,
    policy: Policy,
    pending: &[Pending],
    owner: Option<&UserId>,
    until: Option<Timestamp>,
) -> Result<(SessionId, Key, Arc<Record>), Error> {
    let deadline = Instant::now() + config.deadline;
    loop {
        let id = SessionId::generate()?;
        let key = Key::from(&id);
        let mut change = plan_create(config, policy, pending)?;
        change.owner = owner.cloned();
        if let (Expiry::Set(expires), Some(until)) = (change.expiry, until) {
            change.expiry = Expiry::Set(expires.min(until));
        }
        match commit(config, &key, &change, deadline).await? {
            Committed::Applied => {
                let mut record = Record::new(change.now, change.now);
                change.apply(&mut record);
                config.tell(EventKind::Created, &key, owner);
                return Ok((id, key, Arc::new(record)));
            }
            // One in 2^160, or a generator that repeats itself.
            _ if Instant::now() < deadline => {}
            _ => return Err(Error::unsettled()),
        }
    }
}

/// Refuses to create a session of what is pending if that is too large.
pub(crate) fn check_create(config: &Config, pending: &[Pending]) -> Result<(), Error> {
    check_sizes(config, None, &slots_of_new(pending, config.now()))
}

fn slots_of_new(pending: &[Pending], now: Timestamp) -> Vec<SlotChange> {
    let created = Pending::fact(&facts::CREATED, None, Some(&now.as_millis()));
    let slots = pending.iter().chain([&created]);
    slots.flat_map(Pending::to_changes).collect()
}

fn plan_create(config: &Config, policy: Policy, pending: &[Pending]) -> Result<Change, Error> {
    let now = config.now();
    let mut change = Change::new(Kind::Create, now);
    change.slots = slots_of_new(pending, now);
    check_sizes(config, None, &change.slots)?;
    let ttl = pending
        .iter()
        .find(|change| change.name.as_str() == facts::TTL.name());
    let ttl = ttl.and_then(|change| {
        facts::TTL
            .decode_payload(change.ours.as_ref()?.payload())
            .ok()
    });
    change.expiry = Expiry::Set(policy.initial(now, ttl.map(Duration::from_millis)));
    Ok(change)
}

/// Lets a session that was created to live for a moment live on. The record that comes of it; `None` if it has
/// ended since.
pub(crate) async fn prolong(
    config: &Config,
    policy: Policy,
    key: &Key,
    mut record: Arc<Record>,
) -> Result<Option<Arc<Record>>, Error> {
    let mut change = Change::new(Kind::Update, config.now());
    if let Some(to) = policy.extended(&record, change.now) {
        change.expiry = Expiry::Extend(to);
    }
    match ask(config, &mut key.clone(), &change).await? {
        Committed::Applied => {
            change.apply(Arc::make_mut(&mut record));
            Ok(Some(record))
        }
        _ => Ok(None),
    }
}

/// Ends the session under `key`, of `user` if that is known. Whether it was still there to be ended.
pub(crate) async fn end(
    config: &Config,
    mut key: Key,
    reason: Ended,
    user: Option<&UserId>,
) -> Result<bool, Error> {
    let change = Change::new(Kind::End(reason.clone()), config.now());
    match ask(config, &mut key, &change).await? {
        Committed::Applied => {
            config.tell(EventKind::Ended(reason), &key, user);
            Ok(true)
        }
        Committed::Gone => Ok(false),
        _ => Err(Error::unsettled()),
    }
}

/// Takes the slot `name` out of the record under `key`, whichever value it has by then, and returns that.
pub(crate) async fn take_out(
    config: &Config,
    mut key: Key,
    slot: &Arc<Slot>,
) -> Result<Option<Arc<Slot>>, Error> {
    let deadline = Instant::now() + config.deadline;
    let mut slot = Arc::clone(slot);
    while Instant::now() < deadline {
        let mut change = Change::new(Kind::Update, config.now());
        change.slots.push(SlotChange::drop(Arc::clone(&slot)));
        match ask_until(config, &mut key, &change, deadline).await? {
            Committed::Applied => return Ok(Some(slot)),
            Committed::Conflict(record) => {
                match record.live_slot(slot.name().as_str(), config.now()) {
                    Some(newer) => slot = Arc::clone(newer),
                    None => return Ok(None),
                }
            }
            Committed::Gone | Committed::Exists | Committed::Moved(_) => return Ok(None),
        }
    }
    Err(Error::unsettled())
}

/// What is under a key.
pub(crate) enum Found {
    /// A session, under the key it has moved to.
    Live(Key, Arc<Record>),
    /// None any more, or there never was one.
    Ended(Ended),
    /// The client has just logged in or out, and will soon present a newer id.
    Superseded(Ended),
    /// A login of the client is under way, or was broken off a moment ago. What it has frozen, and where.
    Claimed(Key, Arc<Record>),
    /// A session that is frozen for a login that was never finished.
    Abandoned {
        key: Key,
        by: UserId,
        at: Timestamp,
        record: Arc<Record>,
    },
}

/// The record under `key`, wherever it has moved, or why there is none.
pub(crate) async fn find(config: &Config, mut key: Key) -> Result<Found, Error> {
    let Some(record) = follow(config, &mut key).await? else {
        return Ok(Found::Ended(Ended::Expired));
    };
    let since = |at| config.now().distance(at);
    Ok(match record.state.clone() {
        State::Live => Found::Live(key, record),
        State::Ended(reason) => ended(reason, since(record.seen)),
        State::Claimed { at, .. } if since(at) < ABANDONED => Found::Claimed(key, record),
        State::Claimed { by, at, .. } => Found::Abandoned {
            key,
            by,
            at,
            record,
        },
        State::Moved(_) => return Err(Error::timeout()),
    })
}

/// What `key` leads to, through all moves; still a signpost if there are more than there is time for.
async fn follow(config: &Config, key: &mut Key) -> Result<Option<Arc<Record>>, Error> {
    let deadline = Instant::now() + config.deadline;
    loop {
        let found = within(deadline, config.store.load(key)).await?;
        let found = found.filter(|record| record.is_live(config.now()));
        match found.as_ref().map(|record| &record.state) {
            Some(State::Moved(to)) if Instant::now() < deadline => *key = to.clone(),
            _ => return Ok(found),
        }
    }
}

fn ended(reason: Ended, ago: Duration) -> Found {
    let replaced = matches!(reason, Ended::LoggedIn | Ended::LoggedOut);
    if replaced && ago < SUPERSEDED {
        Found::Superseded(reason)
    } else {
        Found::Ended(reason)
    }
}

/// The session under `key`, wherever it has moved, live or frozen for a login.
pub(crate) async fn open(
    config: &Config,
    mut key: Key,
) -> Result<Option<(Key, Arc<Record>)>, Error> {
    let Some(record) = follow(config, &mut key).await? else {
        return Ok(None);
    };
    match record.state {
        State::Live | State::Claimed { .. } => Ok(Some((key, record))),
        State::Ended(_) => Ok(None),
        State::Moved(_) => Err(Error::timeout()),
    }
}

/// The keys of all sessions that are listed under `user`.
pub(crate) async fn owned_by(config: &Config, user: &UserId) -> Result<Vec<Key>, Error> {
    let deadline = Instant::now() + config.deadline;
    Ok(within(deadline, config.store.owned_by(user)).await?)
}

/// The record under exactly this key, if it is there and live.
pub(crate) async fn look_up(config: &Config, key: &Key) -> Result<Option<Arc<Record>>, Error> {
    let deadline = Instant::now() + config.deadline;
    let found = within(deadline, config.store.load(key)).await?;
    let live = |record: &Arc<Record>| record.is_live(config.now()) && record.state == State::Live;
    Ok(found.filter(live))
}

/// The record that is frozen under `key` for the login of `user`, since when, and whether for another login, too;
/// `None` if that is over already.
pub(crate) async fn claimed(
    config: &Config,
    key: &Key,
    user: &UserId,
) -> Result<Option<(Timestamp, bool, Arc<Record>)>, Error> {
    let deadline = Instant::now() + config.deadline;
    let found = within(deadline, config.store.load(key)).await?;
    Ok(found.and_then(|record| match &record.state {
        State::Claimed { by, at, shared } if by == user => Some((*at, *shared, record)),
        _ => None,
    }))
}

/// For whose login the record under `key` is frozen, if it is.
pub(crate) async fn claimant(config: &Config, key: &Key) -> Result<Option<UserId>, Error> {
    let deadline = Instant::now() + config.deadline;
    let found = within(deadline, config.store.load(key)).await?;
    Ok(found.and_then(|record| match &record.state {
        State::Claimed { by, .. } if record.is_live(config.now()) => Some(by.clone()),
        _ => None,
    }))
}

/// Asks for one change of the record under `key`, wherever it has moved.
pub(crate) async fn ask(
    config: &Config,
    key: &mut Key,
    change: &Change,
) -> Result<Committed, Error> {
    ask_until(config, key, change, Instant::now() + config.deadline).await
}

/// The same, no longer than until `latest`.
pub(crate) async fn ask_until(
    config: &Config,
    key: &mut Key,
    change: &Change,
    latest: Instant,
) -> Result<Committed, Error> {
    let deadline = latest.min(Instant::now() + config.deadline);
    loop {
        match commit(config, key, change, deadline).await? {
            Committed::Moved(to) if Instant::now() < deadline => *key = to,
            committed => return Ok(committed),
        }
    }
}

/// Asks the store to commit; while the outcome is unknown, again under the same id, until the deadline.
pub(super) async fn commit(
    config: &Config,
    key: &Key,
    change: &Change,
    deadline: Instant,
) -> Result<Committed, StoreError> {
    let mut tries = 0;
    loop {
        match within(deadline, config.store.commit(key, change)).await {
            Err(error) if error.is_repeatable() && Instant::now() < deadline => {
                tries += 1;
                Box::pin(sleep_until(deadline.min(Instant::now() + jitter(tries)))).await;
            }
            // That this try has failed for good says nothing of those before it.
            Err(error) if tries > 0 && !error.is_transient() => {
                return Err(StoreError::unavailable(error));
            }
            outcome => return outcome,
        }
    }
}

/// The answer, if it comes before the deadline. A store that answers at once costs no timer; nor, since it has
/// a box of its own, the room for one in futures that are made for each request.
async fn within<T>(deadline: Instant, mut answer: Answer<'_, T>) -> Result<T, StoreError> {
    use std::task::Poll;

    let at_once = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
    if let Poll::Ready(answer) = at_once {
        return answer;
    }
    match Box::pin(timeout_at(deadline, answer)).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::timeout()),
    }
}

/// A random wait that grows with the tries, to a tenth of a second.
pub(super) fn jitter(tries: u32) -> Duration {
    let longest = Duration::from_millis(1 << tries.min(6)).min(Duration::from_millis(100));
    longest.mul_f64(rand::random())
}
