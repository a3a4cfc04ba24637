//! Records on a Redis or Valkey server, a primary with replicas, or a Cluster.
//!
//! A record is a hash, each of its slots a field. Loading one is one command. A commit is one script, which
//! compares and writes where the record is: only what has changed travels.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, Cmd, Value, cmd};

use crate::change::{Change, Committed, Kind};
use crate::error::StoreError;
use crate::key::{Key, UserId};
use crate::record::Record;
use crate::store::{Store, Swept};

mod fault;
mod index;
mod link;
mod names;
mod options;
mod script;
mod wire;

pub use fault::RedisConnectError;
pub use options::RedisOptions;

use link::Link;
use names::Names;
use script::Form;
use wire::{Index, Reply};

/// How often a read is tried that has failed for a reason which may pass. Reading twice does no harm.
const READS: u32 = 3;

/// How long to wait before the second try, at most.
const PAUSE: Duration = Duration::from_millis(20);

/// How often a record may change its owner while it is being listed.
const LISTINGS: usize = 8;

/// Records on a Redis or Valkey server: for many machines.
///
/// Redis 7.0 or later, or Valkey, without modules: one server, a primary with replicas under one address, or
/// a Cluster (feature `redis-cluster`). One connection serves all requests, and is made anew when it breaks. Expired
/// sessions are dropped by the server itself.
///
/// What a commit that was answered survives is the server's setting: with `appendonly yes` and
/// `appendfsync everysec`, its restart but for the last second; with replicas, a failover but for what they have
/// not received yet.
///
/// When the server has reached its `maxmemory` under `noeviction`, commits that take room answer an error of
/// which [`StoreError::is_full`] is true, while loading, ending, and taking things out of sessions goes on. Under `volatile-lru`
/// and its like the server throws sessions out instead; such a session is over, and nothing recreates it.
/// The records of users have no lifetime, so these policies spare them. `allkeys-*` does not: do not use it.
///
/// Clones share the connection.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::SessionLayer;
/// use session_runtime::store::RedisStore;
///
/// let store = RedisStore::connect("redis://127.0.0.1").await?;
/// let sessions = SessionLayer::new(store);
/// # let _ = sessions;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    link: Link,
    names: Names,
}

impl RedisStore {
    /// Connects to one server, or to the primary of several.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::RedisStore;
    /// let store = RedisStore::connect("redis://user:password@redis.internal:6379/0").await?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the URL is none, or the server cannot be reached, denies access or is too old.
    pub async fn connect(url: &str) -> Result<Self, RedisConnectError> {
        Self::options().connect(url).await
    }

    /// Connects otherwise than by default.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::RedisStore;
    /// let store = RedisStore::options().prefix("shop:").connect("redis://127.0.0.1").await?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    /// What another connection to its server is made with, if that is known.
    pub(super) fn client(&self) -> Option<&Client> {
        self.link.client()
    }

    pub(super) fn prefix(&self) -> &str {
        self.names.prefix()
    }

    /// The key of a record, by its name in Redis.
    pub(super) fn key(&self, record: &str) -> Option<Key> {
        self.names.key(record)
    }

    pub(super) fn patience(&self) -> Duration {
        self.link.patience()
    }

    /// Sends a command whose answer does not matter.
    pub(super) async fn send(&self, command: &Cmd) {
        drop(self.link.ask(command).await);
    }

    /// Asks what may be asked twice. On a Cluster the connection does so by itself.
    async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        let most = if self.link.reaches_all() { READS } else { 1 };
        let mut tries = 1;
        loop {
            match self.link.ask(command).await.map_err(StoreError::from) {
                Err(error) if error.is_transient() && tries < most => {
                    tokio::time::sleep((PAUSE * tries).mul_f64(rand::random())).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Runs the script. A server that does not know it is sent it whole.
    async fn run(&self, key: &Key, change: &Change, index: Index<'_>) -> Result<Reply, StoreError> {
        let call = |form| wire::commit(&self.names, key, change, index, form);
        let value = match self.link.ask(&call(Form::Hash)).await {
            Err(failure) if failure.is_no_script() => self.link.ask(&call(Form::Text)).await?,
            answer => answer?,
        };
        wire::reply(&self.names, value)
    }

    /// Commits where the owner index may lie on another node than the record: lists first, and if the record
    /// turns out to have an owner it moves along with, lists it under that one and comes again.
    async fn list_and_run(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        let entry = wire::entry(key, change);
        let mut listed = change
            .owner
            .as_ref()
            .filter(|_| lists(change))
            .map(names::tag);
        for _ in 0..LISTINGS {
            if let Some(owner) = &listed {
                self.list(owner, &entry, change).await?;
            }
            let index = Index::Listed(listed.as_deref().unwrap_or_default());
            match self.run(key, change, index).await? {
                Reply::Committed(committed) => return Ok(committed),
                Reply::Left(owner) => {
                    self.unlist_later(&owner, names::entry(key));
                    return Ok(Committed::Applied);
                }
                Reply::Unlisted(owner) => listed = Some(owner),
            }
        }
        Err(StoreError::unavailable("the record's owner keeps changing"))
    }
}

/// Whether the change lists the record under its owner.
fn lists(change: &Change) -> bool {
    change.owner.is_some() && !matches!(change.kind, Kind::End(_))
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &self.link)
            .field("prefix", &self.names.prefix())
            .finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let mut load = cmd("HGETALL");
        load.arg(self.names.record(key));
        wire::record(&self.names, self.read(&load).await?)
    }

    async fn commit(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        let committed = if self.link.reaches_all() {
            match self.run(key, change, Index::Within).await? {
                Reply::Committed(committed) => committed,
                _ => return Err(StoreError::broken("the script lists by itself")),
            }
        } else {
            self.list_and_run(key, change).await?
        };
        let trimmed = match (key, &change.kind) {
            (Key::User(user), Kind::End(_)) => Some(user),
            _ => change.owner.as_ref().filter(|_| lists(change)),
        };
        if let Some(owner) = trimmed {
            self.trim_later(owner, change.now);
        }
        Ok(committed)
    }

    async fn owned_by(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        self.listed(owner).await
    }

    /// The server drops what has expired by itself.
    async fn sweep(&self, _limit: usize) -> Result<Swept, StoreError> {
        Ok(Swept::default())
    }
}
