//! The connections on which the servers tell of changes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::{
    AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, RedisResult, Value, cmd,
};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::near::Near;
use crate::error::Causes;
use crate::store::StoreError;
use crate::store::redis::{RedisStore, Shard};

/// How many beats there are while a record may be served: some may be late, or get lost.
const BEATS: u32 = 4;

/// How long to wait before new connections are made, at most; and how often that doubles if none can be.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST: u32 = 5;

/// Changes a key that is not there, and leaves none. A server that is the primary no more refuses it. It takes no room.
const BEAT: &str = "#!lua flags=allow-oom
redis.call('HSET', KEYS[1], 'n', 1)
redis.call('HDEL', KEYS[1], 'n')";

/// The keys that are watched, and for whom.
pub(super) struct Watch {
    store: RedisStore,
    near: Weak<Near>,
    /// What the keys of its beats begin with, behind the prefix of the store.
    beats: String,
}

/// A server that tells of changes: the number is that of its part of each beat.
struct Teller {
    part: usize,
    near: Weak<Near>,
    store: RedisStore,
    /// What the keys of beats begin with.
    beats: String,
    /// Whom to tell that its connection is lost.
    lost: Arc<Notify>,
}

impl Watch {
    pub(super) fn new(store: &RedisStore, near: &Arc<Near>) -> Self {
        Self {
            near: Arc::downgrade(near),
            beats: format!("beat:{:016x}:", rand::random::<u64>()),
            store: store.clone(),
        }
    }

    /// Watches until nobody wants the records any more.
    pub(super) async fn run(self) {
        let mut failures = 0;
        while let Some(near) = self.near.upgrade() {
            failures = match self.connect_and_beat(near).await {
                Ok(()) => 0,
                Err(error) => {
                    if failures == 0 {
                        let error = Causes(&error);
                        tracing::warn!(%error, "sessions are not cached just now: Redis does not tell of changes");
                    }
                    failures + 1
                }
            };
            if let Some(near) = self.near.upgrade() {
                near.end();
            }
            let pause = PAUSE * (1 << failures.min(LONGEST));
            tokio::time::sleep(pause.mul_f64(rand::random())).await;
        }
    }

    /// Until a connection is lost, no beat comes back, or other servers have the records.
    async fn connect_and_beat(&self, near: Arc<Near>) -> Result<(), StoreError> {
        let (period, patience) = (near.staleness() / BEATS, self.store.patience());
        let lost = Arc::new(Notify::new());
        let shards = self.store.shards().await?;
        let mut connections = Vec::new();
        for (part, shard) in shards.iter().enumerate() {
            let connection = timeout(patience * 2, self.connect(part, shard, &lost)).await;
            let connection = connection.map_err(|_| StoreError::timeout())?;
            connections.push(connection.map_err(StoreError::unavailable)?);
        }
        let silence = near.staleness().max(patience) * 2;
        drop(near);
        let mut heard = Instant::now();
        while let Some(near) = self.near.upgrade() {
            let is_still = self.beat(&near, &shards, &mut connections).await?;
            heard = near.proven().unwrap_or(heard);
            drop(near);
            let is_over = !is_still || heard.elapsed() > silence;
            if is_over || timeout(period, lost.notified()).await.is_ok() {
                break;
            }
        }
        Ok(())
    }

    async fn connect(
        &self,
        part: usize,
        shard: &Shard,
        lost: &Arc<Notify>,
    ) -> RedisResult<MultiplexedConnection> {
        let teller = Teller {
            part,
            near: Weak::clone(&self.near),
            store: self.store.clone(),
            beats: format!("{}{}", self.store.prefix(), self.beats),
            lost: Arc::clone(lost),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.store.patience()))
            .set_response_timeout(Some(self.store.patience()))
            .set_push_sender(move |push| {
                teller.tell(push);
                Ok::<_, SendError>(())
            });
        let settings = shard.info().redis_settings().clone();
        let settings = settings.set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(shard.info().clone().set_redis_settings(settings))?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut track = cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST");
        for prefix in ["session:", "user:", &self.beats] {
            track
                .arg("PREFIX")
                .arg(format!("{}{prefix}", self.store.prefix()));
        }
        track.exec_async(&mut connection).await?;
        Ok(connection)
    }

    /// Sends a beat the way that loads and commits go, to each server that may have a record; and asks whether they are still
    /// the ones that have. Without an answer it does not come back either.
    async fn beat(
        &self,
        near: &Near,
        shards: &[Shard],
        connections: &mut [MultiplexedConnection],
    ) -> Result<bool, StoreError> {
        let prefix = self.store.prefix();
        let parts = (0..shards.len()).filter(|part| shards[*part].may_have(prefix));
        // One part more: that these are the servers.
        let number = near.beat(parts.clone().chain([shards.len()]));
        for part in parts {
            let key = shards[part].key(prefix, &format!("{}{number}:{part}", self.beats));
            let mut beat = cmd("EVAL");
            beat.arg(BEAT).arg(1).arg(key);
            self.store.send(&beat).await;
        }
        let is_still = self.store.is_still(shards, connections).await?;
        if is_still {
            near.prove(number, shards.len());
        }
        Ok(is_still)
    }
}

impl Teller {
    /// Does what the server says. It is called in the order of its messages, by whoever reads the connection.
    fn tell(&self, push: PushInfo) {
        let Some(near) = self.near.upgrade() else {
            return self.lost.notify_one();
        };
        match push.kind {
            PushKind::Invalidate => match push.data.into_iter().next() {
                Some(Value::Array(keys)) => {
                    for key in keys.iter().filter_map(text) {
                        self.changed(&near, key);
                    }
                }
                // All that there was is gone.
                _ => near.forget_all(),
            },
            PushKind::Disconnection => self.lost.notify_one(),
            _ => {}
        }
    }

    /// Takes note of a key that has changed: of a record, or of a beat.
    fn changed(&self, near: &Near, key: &str) {
        if let Some(beat) = key.strip_prefix(&self.beats) {
            // It may have come from where another one was expected.
            let mut words = beat.split(':');
            let (number, part) = (words.next(), words.next());
            if let (Some(Ok(number)), Some(Ok(part))) =
                (number.map(str::parse), part.map(str::parse))
                && part == self.part
            {
                near.prove(number, part);
            }
        } else if let Some(key) = self.store.key(key) {
            near.forget(&key);
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use redis::aio::{ConnectionManager, ConnectionManagerConfig};

    use super::*;

    #[tokio::test]
    async fn a_part_of_a_beat_counts_only_from_the_server_that_has_it() {
        let client = Client::open("redis://127.0.0.1").expect("a URL");
        let settings = ConnectionManagerConfig::new();
        let manager = ConnectionManager::new_lazy_with_config(client, settings);
        let store = RedisStore::options().over(manager.expect("it connects when it is used"));
        let near = Arc::new(Near::new(Duration::from_secs(60), 10_000));
        let teller = |part| Teller {
            part,
            near: Arc::downgrade(&near),
            store: store.clone(),
            beats: "beat:".to_owned(),
            lost: Arc::default(),
        };
        let number = near.beat([0, 1]);
        let (first, second) = (format!("beat:{number}:0"), format!("beat:{number}:1"));
        teller(0).changed(&near, &first);
        teller(0).changed(&near, &second);
        assert_eq!(near.proven(), None, "where the slot has gone to");
        teller(1).changed(&near, &second);
        assert!(near.proven().is_some());
    }
}
