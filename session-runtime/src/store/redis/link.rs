//! The connection, and how commands go over it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{
    ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection,
};
use redis::{Client, Cmd, Value};
use tokio::time::{Instant, timeout};

#[cfg(feature = "redis-cluster")]
use super::cluster::Cluster;
use super::fault::{Failure, extracted};
use super::primary::{Primary, RENEWAL};
use super::script::Asked;
use super::shard::Shard;
#[cfg(feature = "redis-cluster")]
use super::topology;
use crate::store::StoreError;

/// How often a read is tried that has failed for a reason which may pass. Reading twice does no harm.
const READS: u32 = 3;

/// How long to wait before the second try, at most.
const PAUSE: Duration = Duration::from_millis(20);

/// One connection for all requests. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    to: To,
    /// How long an answer may take, connecting included.
    patience: Duration,
}

/// The servers at the other end.
#[derive(Clone)]
pub(super) enum To {
    Server(Arc<Server>),
    Primary(Arc<Primary>),
    #[cfg(feature = "redis-cluster")]
    Cluster(Arc<Cluster>),
}

impl Link {
    pub(super) fn new(to: To, patience: Duration) -> Self {
        Self { to, patience }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Returns `true` if it is known how other connections to the servers are made.
    pub(super) fn has_shards(&self) -> bool {
        match &self.to {
            To::Server(server) => server.client.is_some(),
            To::Primary(_) => true,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => cluster.info.is_some(),
        }
    }

    /// Returns the servers that have the records just now, in an order that stays.
    pub(super) async fn shards(&self) -> Result<Vec<Shard>, Failure> {
        match &self.to {
            To::Server(server) => {
                let info = server.client.iter().map(Client::get_connection_info);
                Ok(info.cloned().map(Shard::whole).collect())
            }
            To::Primary(primary) => Ok(vec![Shard::whole(self.wait(primary.info()).await?)]),
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => self.wait(cluster.shards()).await,
        }
    }

    /// Returns `true` if these are still the servers that have the records; to each of them, there is one of the
    /// connections. On a Cluster all of them have to say so.
    pub(super) async fn is_still(
        &self,
        shards: &[Shard],
        connections: &mut [MultiplexedConnection],
    ) -> Result<bool, Failure> {
        match &self.to {
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => {
                for connection in connections {
                    let ask = topology::ask();
                    let view = extracted(connection.req_packed_command(&ask));
                    if cluster.read(self.wait(view).await?)? != shards {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => {
                #[cfg(not(feature = "redis-cluster"))]
                let _ = connections;
                Ok(self.shards().await? == shards)
            }
        }
    }

    /// Returns where the server is, and nothing else of what it was opened with.
    pub(super) fn name(&self) -> String {
        format!("Redis at {self:?}")
    }

    /// Asks what may be asked twice, as long as that may help.
    pub(super) async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        let mut tries = 1;
        loop {
            match self.ask(command).await.map_err(StoreError::from) {
                Err(error) if error.is_transient() && !error.is_refused() && tries < READS => {
                    tokio::time::sleep((PAUSE * tries).mul_f64(rand::random())).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Reads from the primary that has a slot; one server has them all.
    pub(super) async fn read_at(&self, command: &Cmd, slot: u16) -> Result<Value, StoreError> {
        match &self.to {
            To::Server(_) | To::Primary(_) => {
                let _ = slot;
                self.read(command).await
            }
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => Ok(self.wait(cluster.ask_at(command, slot)).await?),
        }
    }

    /// Returns the lowest slot of the primary that comes after the one that has `slot`.
    #[cfg_attr(
        not(feature = "redis-cluster"),
        expect(clippy::unused_async, reason = "one server is all there is")
    )]
    pub(super) async fn next_primary(&self, slot: u16) -> Result<Option<u16>, StoreError> {
        match &self.to {
            To::Server(_) | To::Primary(_) => {
                let _ = slot;
                Ok(None)
            }
            #[cfg(feature = "redis-cluster")]
            To::Cluster(_) => {
                let mut slots = redis::cmd("CLUSTER");
                slots.arg("SLOTS");
                super::scan::next_primary(self.read_at(&slots, slot).await?, slot)
            }
        }
    }

    /// Sends a command and waits for its answer. A Cluster's connection may send it several times.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, Failure> {
        match &self.to {
            To::Server(server) => {
                let mut manager = server.manager();
                let answer = extracted(manager.req_packed_command(command));
                let answer = self.wait(answer).await.map_err(Failure::of_server);
                server.heed(answer)
            }
            To::Primary(primary) => {
                let answer = self.wait(primary.ask(command)).await;
                if answer.as_ref().is_err_and(Failure::leads_nowhere) {
                    primary.renew();
                }
                answer
            }
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => self.wait(cluster.ask(command)).await,
        }
    }

    /// Sends a command once, if it can, and waits for its answer.
    pub(super) async fn ask_once(&self, command: &Cmd) -> Result<(Value, Asked), Failure> {
        match &self.to {
            To::Server(_) | To::Primary(_) => Ok((self.ask(command).await?, Asked::Once)),
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => self.wait(cluster.ask_once(command)).await,
        }
    }

    /// Waits for an answer, no longer than there is patience.
    async fn wait<T, E>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        match timeout(self.patience, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::TimedOut),
        }
    }
}

impl fmt::Debug for Link {
    /// Writes the address at most; never what it was opened with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Server(server) => match &server.client {
                Some(client) => write!(f, "{}", client.get_connection_info().addr()),
                None => f.write_str("the app's own connection"),
            },
            To::Primary(primary) => write!(f, "the primary of {primary}"),
            #[cfg(feature = "redis-cluster")]
            To::Cluster(_) => f.write_str("a Cluster"),
        }
    }
}

/// A server, or the primary among several that share an address.
pub(super) struct Server {
    /// What a new connection is made with. `None` if it is the app's own, which is never given up.
    client: Option<Client>,
    settings: ConnectionManagerConfig,
    current: Mutex<Current>,
}

struct Current {
    manager: ConnectionManager,
    since: Instant,
}

impl Server {
    pub(super) fn new(
        manager: ConnectionManager,
        client: Option<Client>,
        settings: ConnectionManagerConfig,
    ) -> Self {
        let since = Instant::now();
        Self {
            client,
            settings,
            current: Mutex::new(Current { manager, since }),
        }
    }

    fn manager(&self) -> ConnectionManager {
        self.current().manager.clone()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what came of a command, and gives the connection up if it leads nowhere: the manager notices
    /// that a connection has broken, but not that nobody answers, or that the server is the primary no more.
    fn heed(&self, answer: Result<Value, Failure>) -> Result<Value, Failure> {
        if answer.as_ref().is_err_and(Failure::leads_nowhere) {
            self.renew();
        }
        answer
    }

    fn renew(&self) {
        let Some(client) = &self.client else { return };
        let mut current = self.current();
        if current.since.elapsed() < RENEWAL {
            return;
        }
        let renewed =
            ConnectionManager::new_lazy_with_config(client.clone(), self.settings.clone());
        match renewed {
            Ok(manager) => {
                tracing::warn!("Redis does not answer, or is no primary: connecting anew");
                (current.manager, current.since) = (manager, Instant::now());
            }
            Err(error) => tracing::error!(%error, "no new connection to Redis can be set up"),
        }
    }
}
