//! Records on a Redis or Valkey server, a primary with replicas, one that sentinels name, or a Cluster.
//!
//! A record is a hash. Loading one is one command. A swap is one script, which compares the version and writes what has
//! changed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use redis::aio::MultiplexedConnection;

use crate::key::Key;
use crate::record::{REMEMBERED, Record};
use crate::store::{Scanned, SetupError, Store, StoreError, Swapped, Swept};

#[cfg(feature = "redis-cluster")]
mod cluster;
mod fault;
mod info;
mod link;
mod options;
mod primary;
mod scan;
mod script;
mod sentinel;
mod shard;
#[cfg(feature = "redis-cluster")]
mod topology;
mod wire;

pub use options::RedisOptions;
pub(super) use shard::Shard;

use fault::Failure;
use link::Link;
use script::{Asked, Form};

/// Keeps records on a Redis or Valkey server: for many machines.
///
/// Redis 7.0 or later, or Valkey, without modules: one server, a primary with replicas under one address, one that
/// sentinels name (`redis+sentinel://…`), or a Cluster (feature `redis-cluster`). One connection serves all requests, and is made anew when it breaks. Expired
/// sessions are dropped by the server itself.
///
/// What a swap that was answered survives is the server's setting: with `appendonly yes` and
/// `appendfsync everysec`, its restart but for the last second; with replicas, a failover but for what they have
/// not received yet.
///
/// When the server has reached its `maxmemory` under `noeviction`, swaps that take room answer an error of
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
    prefix: Arc<str>,
}

impl RedisStore {
    /// Connects to one server, or to the primary of several.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::RedisStore;
    /// let store = RedisStore::connect("redis://user:password@redis.internal:6379/0").await?;
    /// let sentinels = "redis+sentinel://user:password@10.0.0.1,10.0.0.2,10.0.0.3/service/0";
    /// let store = RedisStore::connect(sentinels).await?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`RedisOptions::connect`] says what URLs there are.
    ///
    /// # Errors
    ///
    /// If the URL is none, or the server cannot be reached, denies access or is too old.
    pub async fn connect(url: &str) -> Result<Self, SetupError> {
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

    /// Has the server know the script: one that is too old, or lets nobody in, says so.
    async fn prepared(self) -> Result<Self, Failure> {
        for load in script::loads() {
            self.link.ask(&load).await?;
        }
        Ok(self)
    }

    /// Returns `true` if it is known how other connections to its servers are made.
    pub(super) fn has_shards(&self) -> bool {
        self.link.has_shards()
    }

    /// Returns the servers that have the records just now.
    pub(super) async fn shards(&self) -> Result<Vec<Shard>, StoreError> {
        Ok(self.link.shards().await?)
    }

    /// Returns `true` if these are still the servers that have the records; to each of them, there is one of the connections.
    pub(super) async fn is_still(
        &self,
        shards: &[Shard],
        connections: &mut [MultiplexedConnection],
    ) -> Result<bool, StoreError> {
        Ok(self.link.is_still(shards, connections).await?)
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the key of a record, by its name in Redis.
    pub(super) fn key(&self, name: &str) -> Option<Key> {
        Key::parse(name.strip_prefix(self.prefix())?)
    }

    fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn patience(&self) -> Duration {
        self.link.patience()
    }

    /// Sends a command whose answer does not matter.
    pub(super) async fn send(&self, command: &Cmd) {
        drop(self.link.ask(command).await);
    }

    /// Runs the script. A server that does not know it is sent it whole.
    async fn run(
        &self,
        key: &Key,
        before: Option<&Record>,
        after: &Record,
    ) -> Result<(Swapped, Asked), StoreError> {
        let name = self.name(key);
        let call = |form| wire::swap(&name, before, after, form);
        let answer = match self.link.ask_once(&call(Form::Hash)).await {
            Err(failure) if failure.is_no_script() => self.link.ask_once(&call(Form::Text)).await,
            answer => answer,
        };
        let (value, asked) = answer?;
        Ok((wire::swapped(value)?, asked))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &self.link)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    fn name(&self) -> String {
        self.link.name()
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let load = wire::load(&self.name(key));
        wire::record(self.link.read(&load).await?)
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        let before = before.map(AsRef::as_ref);
        match self.run(key, before, after).await? {
            (Swapped::Stale(Some(found)), Asked::Repeatedly) => judge(before, after, found),
            (swapped, _) => Ok(swapped),
        }
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        let from = scan::Cursor::parse(after)?;
        let command = scan::command(self.prefix(), from, limit);
        let answer = self.link.read_at(&command, from.slot).await?;
        let (names, cursor) = scan::found(answer)?;
        let keys = names.iter().filter_map(|name| self.key(name)).collect();
        let next = if cursor > 0 {
            Some(scan::Cursor { cursor, ..from })
        } else {
            let slot = self.link.next_primary(from.slot).await?;
            slot.map(|slot| scan::Cursor { slot, cursor: 0 })
        };
        Ok(Scanned {
            keys,
            next: next.map(|next| next.to_string()),
        })
    }

    /// The server drops what has expired by itself.
    async fn sweep(&self, _limit: usize) -> Result<Swept, StoreError> {
        Ok(Swept::default())
    }
}

/// Tells a swap that a repeat of itself has found done from one that others were faster than.
fn judge(
    before: Option<&Record>,
    after: &Record,
    found: Arc<Record>,
) -> Result<Swapped, StoreError> {
    if found.is_or_was(after.version()) {
        return Ok(Swapped::Done);
    }
    let remembers = match before {
        Some(before) => found.is_or_was(before.version()),
        None => found.earlier().len() < REMEMBERED,
    };
    if remembers {
        return Ok(Swapped::Stale(Some(found)));
    }
    Err(StoreError::unavailable(
        "a swap was repeated, and the record has been written too often since to tell what came of it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    /// A record and the versions that follow it.
    fn history(versions: usize) -> Vec<Arc<Record>> {
        let at = Timestamp::from_millis(0);
        let mut history = vec![Arc::new(Record::new(at, at))];
        while history.len() < versions {
            history.push(Arc::new(history[history.len() - 1].next()));
        }
        history
    }

    #[test]
    fn a_repeat_that_finds_itself_done_says_so() {
        let history = history(2 + REMEMBERED);
        for found in &history[1..] {
            let swapped = judge(Some(&history[0]), &history[1], found.clone());
            assert_eq!(swapped.expect("it is known"), Swapped::Done);
        }
        let swapped = judge(None, &history[0], history[REMEMBERED].clone());
        assert_eq!(swapped.expect("it is known"), Swapped::Done);
    }

    #[test]
    fn a_repeat_that_finds_others_were_faster_says_so() {
        let history = history(1 + REMEMBERED);
        let late = history[0].next();
        for found in &history[1..] {
            let swapped = judge(Some(&history[0]), &late, found.clone());
            let swapped = swapped.expect("it is known");
            assert_eq!(swapped, Swapped::Stale(Some(found.clone())));
        }
        let late = Record::new(late.seen(), late.seen());
        let swapped = judge(None, &late, history[REMEMBERED - 1].clone());
        assert!(matches!(swapped, Ok(Swapped::Stale(Some(_)))));
    }

    #[test]
    fn a_repeat_that_finds_a_record_which_remembers_neither_is_in_doubt() {
        let history = history(3 + REMEMBERED);
        let last = &history[2 + REMEMBERED];
        let late = history[0].next();
        for (before, after) in [
            (Some(&*history[0]), &*history[1]),
            (Some(&*history[0]), &late),
            (None, &*history[0]),
        ] {
            let error = judge(before, after, last.clone()).expect_err("it is forgotten");
            assert!(error.is_unknown());
        }
    }
}
