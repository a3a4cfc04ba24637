//! The connection on which the server tells of changes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::{
    AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, RedisResult, Value, cmd,
};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::near::Near;
use crate::store::redis::RedisStore;

/// How many beats there are while a record may be served: some may be late, or get lost.
const BEATS: u32 = 4;

/// How long to wait before a new connection is made, at most; and how often that doubles if none can be.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST: u32 = 5;

/// Publishes a beat. It need not say what it writes, so that a server which is the primary no more refuses it,
/// where it would take a mere `PUBLISH`; and it takes no room.
const BEAT: &str = "#!lua flags=allow-oom
return redis.call('PUBLISH', ARGV[1], ARGV[2])";

/// What is watched, and for whom.
pub(super) struct Watch {
    store: RedisStore,
    client: Client,
    near: Weak<Near>,
    /// Where beats come back.
    channel: String,
}

impl Watch {
    /// `None` if the store does not know the way to its server.
    pub(super) fn new(store: &RedisStore, near: &Arc<Near>) -> Option<Self> {
        let info = store.client()?.get_connection_info().clone();
        let settings = info.redis_settings().clone();
        let info = info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3));
        Some(Self {
            client: Client::open(info).ok()?,
            near: Arc::downgrade(near),
            channel: format!("{}beat:{:016x}", store.prefix(), rand::random::<u64>()),
            store: store.clone(),
        })
    }

    /// Watches until nobody wants the records any more.
    pub(super) async fn run(self) {
        let mut failures = 0;
        while let Some(near) = self.near.upgrade() {
            failures = match self.connect_and_beat(near).await {
                Ok(()) => 0,
                Err(error) => {
                    if failures == 0 {
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

    /// Until the connection is lost, or no beat comes back.
    async fn connect_and_beat(&self, near: Arc<Near>) -> RedisResult<()> {
        let (period, patience) = (near.staleness() / BEATS, self.store.patience());
        let lost = Arc::new(Notify::new());
        let _connection = match timeout(patience * 2, self.connect(&near, &lost)).await {
            Ok(connection) => connection?,
            Err(_) => return Ok(()),
        };
        let silence = near.staleness().max(patience) * 2;
        drop(near);
        let mut heard = Instant::now();
        while let Some(near) = self.near.upgrade() {
            self.beat(&near).await;
            heard = near.proven().unwrap_or(heard);
            drop(near);
            if heard.elapsed() > silence || timeout(period, lost.notified()).await.is_ok() {
                break;
            }
        }
        Ok(())
    }

    async fn connect(
        &self,
        near: &Arc<Near>,
        lost: &Arc<Notify>,
    ) -> RedisResult<MultiplexedConnection> {
        let (told, names, gone) = (Arc::downgrade(near), self.store.clone(), Arc::clone(lost));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.store.patience()))
            .set_push_sender(move |push| {
                match told.upgrade() {
                    Some(near) => tell(&near, &names, push, &gone),
                    None => gone.notify_one(),
                }
                Ok::<_, SendError>(())
            });
        let client = &self.client;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        connection.subscribe(&self.channel).await?;
        let mut track = cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST");
        for prefix in ["session:", "user:"] {
            track
                .arg("PREFIX")
                .arg(format!("{}{prefix}", self.store.prefix()));
        }
        track.exec_async(&mut connection).await?;
        Ok(connection)
    }

    /// Sends a beat the way that loads and commits go. Without an answer it does not come back either.
    async fn beat(&self, near: &Near) {
        let number = near.beat();
        let mut beat = cmd("EVAL");
        beat.arg(BEAT).arg(0).arg(&self.channel).arg(number);
        self.store.send(&beat).await;
    }
}

/// Does what the server says. It is called in the order of its messages, by whoever reads the connection.
fn tell(near: &Near, names: &RedisStore, push: PushInfo, lost: &Notify) {
    match push.kind {
        PushKind::Invalidate => match push.data.into_iter().next() {
            Some(Value::Array(records)) => {
                for record in &records {
                    if let Some(key) = text(record).and_then(|record| names.key(record)) {
                        near.forget(&key);
                    }
                }
            }
            // All that there was is gone.
            _ => near.forget_all(),
        },
        PushKind::Message => {
            let number = push.data.get(1).and_then(text);
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                near.prove(number);
            }
        }
        PushKind::Disconnection => lost.notify_one(),
        _ => {}
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
