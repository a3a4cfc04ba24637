//! The sessions of one user, wherever they are: listing them, ending them, deleting the user.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::amend::{Freshness, amend, load};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Causes, Error};
use crate::event::EventKind;
use crate::key::{Key, Selector, UserId};
use crate::plan::place::{self, Places};
use crate::plan::{Plan, end};
use crate::record::{Ended, Record};
use crate::store::StoreError;
use crate::task::all;

/// One session of a user, as [`Sessions::list`](crate::Sessions::list) tells of it.
///
/// ```
/// use session_runtime::Device;
///
/// fn describe(device: &Device) -> String {
///     let name = device.label().or(device.user_agent()).unwrap_or("A browser");
///     match device.address() {
///         Some(address) => format!("{name}, from {address}"),
///         None => name.to_owned(),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Device {
    id: String,
    record: Arc<Record>,
}

impl Device {
    pub(crate) fn new(selector: Selector, record: Arc<Record>) -> Self {
        Self {
            id: selector.public_name(),
            record,
        }
    }

    /// Returns who is logged in; `None` for a guest, whom only [`Sessions::page`](crate::Sessions::page) tells of.
    pub fn user(&self) -> Option<&UserId> {
        self.record.user()
    }

    /// Returns what the session is called towards [`Sessions`](crate::Sessions): a text that stays the same for as long
    /// as it lives, rotated or not. It opens nothing, so it may stand in a page of its user.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns when the user logged in on it, or a guest's session began.
    pub fn created_at(&self) -> SystemTime {
        self.since().into()
    }

    fn since(&self) -> Timestamp {
        let head = &self.record.head;
        head.authenticated.unwrap_or(head.created)
    }

    /// Returns when it was last used or labelled, give or take a tenth of the idle lifetime: reading writes no more
    /// often.
    pub fn last_seen(&self) -> SystemTime {
        self.record.seen().into()
    }

    /// Returns when it expires, unless it is used before.
    pub fn expires_at(&self) -> SystemTime {
        self.record.expires().into()
    }

    /// Returns where the user logged in from, if the layer knows how to tell: see
    /// [`SessionLayer::client_address`](crate::SessionLayer::client_address).
    pub fn address(&self) -> Option<&str> {
        self.record.head.address.as_deref()
    }

    /// Returns the `User-Agent` that the user logged in with, up to 512 bytes of it. Whatever a client says of itself.
    pub fn user_agent(&self) -> Option<&str> {
        self.record
            .head
            .user_agent
            .as_deref()
            .filter(|agent| !agent.is_empty())
    }

    /// Returns what the user calls it, if anything.
    pub fn label(&self) -> Option<&str> {
        self.record
            .head
            .label
            .as_deref()
            .filter(|label| !label.is_empty())
    }
}

impl fmt::Debug for Device {
    /// Writes what it is called towards [`Sessions`](crate::Sessions). Not whose it is, nor what the client has said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut device = f.debug_struct("Device");
        device.field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whose sessions, and until when the store may take its time.
pub(crate) struct OfUser {
    config: Arc<Config>,
    user: UserId,
    key: Key,
    deadline: Instant,
}

impl OfUser {
    pub(crate) fn new(config: &Arc<Config>, user: &UserId) -> Result<Self, Error> {
        user.check()?;
        Ok(Self {
            config: Arc::clone(config),
            user: user.clone(),
            key: Key::User(user.clone()),
            deadline: Instant::now() + config.deadline,
        })
    }

    async fn load(&self) -> Result<Option<Arc<Record>>, Error> {
        let loaded = load(&self.config, &self.key, Freshness::Latest, self.deadline);
        Ok(loaded.await?)
    }

    /// Returns all live sessions, the oldest first.
    pub(crate) async fn list(&self) -> Result<Vec<Device>, Error> {
        let user = self.load().await?;
        let places = Places::of(user.as_deref());
        self.end_those_leaving(user, &places).await;
        let staying = places.all.iter().filter(|place| !place.leaving);
        let mut devices = Vec::new();
        for device in all(staying.map(|place| self.look_up(place.selector))).await {
            devices.extend(readable(device, &mut None)?.flatten());
        }
        devices.sort_by(|a, b| (a.since(), &a.id).cmp(&(b.since(), &b.id)));
        Ok(devices)
    }

    async fn look_up(&self, selector: Selector) -> Result<Option<Device>, Error> {
        let key = Key::from(selector);
        let there = load(&self.config, &key, Freshness::Latest, self.deadline).await?;
        Ok(there
            .filter(|there| self.is_live(there))
            .map(|record| Device::new(selector, record)))
    }

    fn is_live(&self, record: &Record) -> bool {
        let is_own = record.user() == Some(&self.user);
        record.ended().is_none() && is_own && record.is_live(self.config.now())
    }

    /// Ends what somebody has begun to end who was cut off. Whatever comes of it, they have no access.
    async fn end_those_leaving(&self, user: Option<Arc<Record>>, places: &Places) {
        let leaving = places.leaving();
        if leaving.is_empty() {
            return;
        }
        if let Err(error) = self.end_and_strike_off(user, &leaving).await {
            tracing::warn!(%error, "sessions that were revoked could not be ended yet: they have no access any more");
        }
    }

    /// Finds the session that is called `id`, and the user's record that lists it.
    async fn find(&self, id: &str) -> Result<Option<(Selector, Option<Arc<Record>>)>, Error> {
        let user = self.load().await?;
        let places = Places::of(user.as_deref());
        let mut selectors = places.all.iter().map(|place| place.selector);
        let found = selectors.find(|selector| selector.public_name() == id);
        Ok(found.map(|selector| (selector, user)))
    }

    /// Ends one session, then strikes it off. Returns `true` if it was still there.
    pub(crate) async fn revoke(&self, id: &str) -> Result<bool, Error> {
        let Some((selector, user)) = self.find(id).await? else {
            return Ok(false);
        };
        Ok(self.end_and_strike_off(user, &[selector]).await? > 0)
    }

    async fn end_and_strike_off(
        &self,
        seen: Option<Arc<Record>>,
        selectors: &[Selector],
    ) -> Result<usize, Error> {
        let (config, user) = (&self.config, &self.user);
        let ended = end_and_strike_off(config, user, seen, selectors, self.deadline);
        Ok(ended.await?.0)
    }

    /// Ends all sessions but the one that is called `spared`, and returns how many that were. Logins that are under way
    /// fail.
    pub(crate) async fn revoke_all(&self, spared: Option<&str>) -> Result<usize, Error> {
        let number = place::number();
        let leaves = |selector: Selector| Some(selector.public_name().as_str()) != spared;
        self.end_marked(|there, now| place::revoke(there, leaves, number, now))
            .await
    }

    /// Deletes what follows the user, and ends all sessions.
    pub(crate) async fn delete(&self) -> Result<(), Error> {
        let number = place::number();
        let ended = self.end_marked(|there, now| place::delete(there, number, now));
        ended.await.map(drop)
    }

    /// Has `mark` mark places as leaving, ends their sessions, all at once, then strikes them off.
    async fn end_marked(
        &self,
        mark: impl Fn(Option<&Record>, Timestamp) -> Plan<Vec<Selector>> + Send + Sync,
    ) -> Result<usize, Error> {
        let seen = self.load().await?;
        let marked = amend(
            &self.config,
            &self.key,
            seen,
            self.deadline,
            |there, now| Ok(mark(there.map(AsRef::as_ref), now)),
        );
        let marked = marked.await?;
        self.end_and_strike_off(marked.record, &marked.outcome)
            .await
    }

    fn check_label(&self, label: &str) -> Result<(), Error> {
        let limit = self.config.caps.field;
        let fits = label.len() <= limit;
        fits.then_some(())
            .ok_or_else(|| Error::field_too_large("label", label.as_bytes(), limit))
    }

    /// Gives a session a label, or takes it away. `false` if there is no such session.
    pub(crate) async fn label(&self, id: &str, label: Option<&str>) -> Result<bool, Error> {
        self.check_label(label.unwrap_or_default())?;
        let Some((selector, _)) = self.find(id).await? else {
            return Ok(false);
        };
        let key = Key::from(selector);
        let seen = load(&self.config, &key, Freshness::Latest, self.deadline).await?;
        let labelled = amend(&self.config, &key, seen, self.deadline, |there, now| {
            let Some(there) = there.filter(|there| self.is_live(there)) else {
                return Ok(Plan::Leave(false));
            };
            if there.head.label.as_deref() == label {
                return Ok(Plan::Leave(true));
            }
            let mut after = there.next();
            after.head_mut().label = label.map(Box::from);
            after.seen = after.seen.max(now);
            Ok(Plan::Write(Arc::new(after), true))
        });
        Ok(labelled.await?.outcome)
    }
}

/// Returns what was found, or nothing, with the reason in `unread`, if what is stored cannot be read.
pub(crate) fn readable<T>(
    found: Result<T, Error>,
    unread: &mut Option<Error>,
) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_broken(&error) => {
            tracing::error!(error = %Causes(&error), "a stored session cannot be read: it is passed over");
            unread.get_or_insert(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_broken(error: &Error) -> bool {
    let source = error.source();
    let of_store = source.and_then(|source| source.downcast_ref::<StoreError>());
    of_store.is_some_and(StoreError::is_broken)
}

/// Ends a session if it is that user's. `seen` is its record as it was looked up. Returns `true` if it was live, and ends by
/// this.
pub(crate) async fn end_one(
    config: &Config,
    selector: Selector,
    user: &UserId,
    seen: Option<Arc<Record>>,
    deadline: Instant,
) -> Result<bool, Error> {
    let key = Key::from(selector);
    let ended = amend(config, &key, seen, deadline, |there, now| {
        Ok(end::of_user(there, user, now))
    });
    let ended = ended.await?.outcome;
    let was_live = ended == Some(Ended::Revoked);
    if let Some(reason) = ended {
        config.emit(EventKind::Ended(reason), &key, Some(user));
    }
    Ok(was_live)
}

/// Ends sessions of a user, all at once, then strikes them off. `seen` is the user's record as it was looked up. Returns how
/// many of them have ended by this, and that record as it is now.
pub(crate) async fn end_and_strike_off(
    config: &Config,
    user: &UserId,
    seen: Option<Arc<Record>>,
    selectors: &[Selector],
    deadline: Instant,
) -> Result<(usize, Option<Arc<Record>>), Error> {
    let end = async |selector: &Selector| {
        let key = Key::from(*selector);
        let seen = load(config, &key, Freshness::Latest, deadline).await?;
        end_one(config, *selector, user, seen, deadline).await
    };
    let ended = all(selectors.iter().map(end)).await;
    let ended = ended.into_iter().collect::<Result<Vec<_>, _>>()?;
    let key = Key::User(user.clone());
    let user = strike_off(config, &key, seen, selectors, deadline).await?;
    Ok((ended.into_iter().filter(|ended| *ended).count(), user))
}

/// Takes the places of sessions that are over out of a user's record. `seen` is that record, if it is at hand. Returns it
/// as it is now.
pub(crate) async fn strike_off(
    config: &Config,
    key: &Key,
    seen: Option<Arc<Record>>,
    gone: &[Selector],
    deadline: Instant,
) -> Result<Option<Arc<Record>>, Error> {
    let seen = match seen {
        Some(seen) => Some(seen),
        None => load(config, key, Freshness::Latest, deadline).await?,
    };
    let struck_off = amend(config, key, seen, deadline, |there, _| {
        Ok(place::strike_off(there.map(AsRef::as_ref), gone))
    });
    Ok(struck_off.await?.record)
}
