//! The sessions of one user, wherever they are.

use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::Timestamp;
use crate::commit::{self, Commit, Pending, epoch, fact};
use crate::config::Config;
use crate::error::Error;
use crate::key::{Key, UserId};
use crate::record::{Ended, Record};
use crate::schema::facts;

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
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) key: Key,
    id: String,
    created: Timestamp,
    seen: Timestamp,
    expires: Timestamp,
    address: Option<String>,
    user_agent: Option<String>,
    label: Option<String>,
}

impl Device {
    /// A session under `key`.
    fn of(key: Key, record: &Record) -> Self {
        let text = |row| fact(record, row).filter(|text: &String| !text.is_empty());
        let created = fact(record, &facts::CREATED).map(Timestamp::from_millis);
        Self {
            id: name_of(&key, record),
            key,
            created: created.unwrap_or(record.updated),
            seen: record.seen,
            expires: record.expires,
            address: text(&facts::ADDRESS),
            user_agent: text(&facts::USER_AGENT),
            label: text(&facts::LABEL),
        }
    }

    /// What it is called towards [`Sessions`](crate::Sessions): a random text that stays the same for as long
    /// as the session lives, rotated or not. It opens nothing, so it may stand in a page of its user.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When the user logged in on it.
    pub fn created_at(&self) -> SystemTime {
        self.created.into()
    }

    /// When it was last used or labelled, give or take a tenth of the idle lifetime: reading writes no more often.
    pub fn last_seen(&self) -> SystemTime {
        self.seen.into()
    }

    /// When it expires, unless it is used before.
    pub fn expires_at(&self) -> SystemTime {
        self.expires.into()
    }

    /// Where the user logged in from, if the layer knows how to tell: see
    /// [`SessionLayer::client_address`](crate::SessionLayer::client_address).
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The `User-Agent` that the user logged in with, up to 512 bytes of it. Whatever a client says of itself.
    pub fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }

    /// What the user calls it, if anything.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
}

/// What a session is called. One that was not opened by a login has no name of its own.
pub(crate) fn name_of(key: &Key, record: &Record) -> String {
    fact(record, &facts::DEVICE).unwrap_or_else(|| key.to_string())
}

/// All sessions of a user, the oldest first.
pub(crate) async fn list(config: &Config, user: &UserId) -> Result<Vec<Device>, Error> {
    let mut devices = Vec::new();
    for key in commit::owned_by(config, user).await? {
        if let Some((key, record)) = commit::open(config, key).await? {
            devices.push(Device::of(key, &record));
        }
    }
    devices.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    devices.dedup_by(|a, b| a.id == b.id); // while it moves, it is listed under both its keys
    Ok(devices)
}

/// The session of a user that is called `id`, and where it is, if it is there.
pub(crate) async fn find(
    config: &Config,
    user: &UserId,
    id: &str,
) -> Result<Option<(Key, Arc<Record>)>, Error> {
    for key in commit::owned_by(config, user).await? {
        let found = commit::open(config, key).await?;
        if let Some((key, record)) = found.filter(|(key, record)| name_of(key, record) == id) {
            return Ok(Some((key, record)));
        }
    }
    Ok(None)
}

/// Ends one session of a user. Whether it was still there.
pub(crate) async fn revoke(config: &Config, user: &UserId, key: Key) -> Result<bool, Error> {
    commit::end(config, key, Ended::Revoked, Some(user)).await
}

/// Ends all sessions of a user, and says how many that were.
pub(crate) async fn revoke_all(config: &Config, user: &UserId) -> Result<usize, Error> {
    let mut ended = 0;
    for key in commit::owned_by(config, user).await? {
        ended += usize::from(revoke(config, user, key).await?);
    }
    Ok(ended)
}

/// Ends all but the one that is called `spared`, and says how many that were.
pub(crate) async fn revoke_others(
    config: &Config,
    user: &UserId,
    spared: &str,
) -> Result<usize, Error> {
    let mut ended = 0;
    for device in list(config, user).await? {
        if device.id != spared {
            ended += usize::from(revoke(config, user, device.key).await?);
        }
    }
    Ok(ended)
}

/// Deletes the user's record, and ends all sessions of the user.
pub(crate) async fn delete(config: &Config, user: &UserId) -> Result<(), Error> {
    commit::end(config, Key::User(user.clone()), Ended::Revoked, None).await?;
    revoke_all(config, user).await.map(drop)
}

/// Tells logins of the user that are under way that they have been revoked.
pub(crate) async fn renew_epoch(config: &Config, user: &UserId) -> Result<(), Error> {
    let key = Key::User(user.clone());
    let Some(account) = commit::look_up(config, &key).await? else {
        return Ok(());
    };
    let epoch = epoch::next(&account);
    // A user who is deleted meanwhile has no sessions either.
    let renewed = Commit::of_facts(config, key, account, epoch).finish().await;
    renewed.map(drop)
}

/// Gives a session of the user a label, or takes it away.
pub(crate) async fn label(
    config: &Config,
    user: &UserId,
    id: &str,
    label: Option<String>,
) -> Result<bool, Error> {
    let Some((key, record)) = find(config, user, id).await? else {
        return Ok(false);
    };
    let base = record.slot(facts::LABEL.name()).cloned();
    let label = Pending::fact(&facts::LABEL, base, label.as_ref());
    Commit::of_facts(config, key, record, label).finish().await
}
