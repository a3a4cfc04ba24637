//! The connection, and how commands go over it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
#[cfg(feature = "redis-cluster")]
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, Pipeline, RedisResult, Value};
use tokio::time::{Instant, timeout};

use super::fault::Failure;

/// How often a connection may be given up for a new one.
const RENEWAL: Duration = Duration::from_secs(1);

/// How many commands go in one pipeline, or over a Cluster at a time.
const TOGETHER: usize = 128;

/// One connection for all requests. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    to: To,
    /// How long an answer may take, connecting included.
    patience: Duration,
}

#[derive(Clone)]
enum To {
    Server(Arc<Server>),
    #[cfg(feature = "redis-cluster")]
    Cluster(ClusterConnection),
}

impl Link {
    pub(super) fn to_server(server: Server, patience: Duration) -> Self {
        Self {
            to: To::Server(Arc::new(server)),
            patience,
        }
    }

    #[cfg(feature = "redis-cluster")]
    pub(super) fn to_cluster(cluster: ClusterConnection, patience: Duration) -> Self {
        Self {
            to: To::Cluster(cluster),
            patience,
        }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// What another connection is made with, if that is known.
    pub(super) fn client(&self) -> Option<&Client> {
        match &self.to {
            To::Server(server) => server.client.as_ref(),
            #[cfg(feature = "redis-cluster")]
            To::Cluster(_) => None,
        }
    }

    /// Whether one script can reach all keys.
    pub(super) fn reaches_all(&self) -> bool {
        matches!(self.to, To::Server(_))
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, Failure> {
        match &self.to {
            To::Server(server) => {
                let mut manager = server.manager();
                let answer = manager.req_packed_command(command);
                server.heed(self.wait(answer, Value::extract_error).await)
            }
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => {
                let mut cluster = cluster.clone();
                let answer = cluster.req_packed_command(command);
                let answer = self.wait(answer, Value::extract_error).await;
                answer.map_err(Failure::on_cluster)
            }
        }
    }

    /// Waits for an answer, no longer than there is patience, and takes out of it what the server calls an error.
    async fn wait<T>(
        &self,
        answer: impl Future<Output = RedisResult<T>>,
        without_errors: impl FnOnce(T) -> RedisResult<T>,
    ) -> Result<T, Failure> {
        match timeout(self.patience, answer).await {
            Ok(answer) => answer.and_then(without_errors).map_err(Failure::Redis),
            Err(_) => Err(Failure::TimedOut),
        }
    }

    /// Sends many commands at once. To one server they are a round trip for each hundred or so.
    pub(super) async fn ask_all(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, Failure> {
        let mut answers = Vec::with_capacity(commands.len());
        for some in commands.chunks(TOGETHER) {
            answers.extend(self.ask_some(some).await?);
        }
        Ok(answers)
    }

    async fn ask_some(&self, commands: &[Cmd]) -> Result<Vec<Value>, Failure> {
        match &self.to {
            To::Server(server) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                let mut manager = server.manager();
                let answers = manager.req_packed_commands(&pipeline, 0, commands.len());
                server.heed(self.wait(answers, without_errors).await)
            }
            #[cfg(feature = "redis-cluster")]
            To::Cluster(_) => self.ask_each(commands).await,
        }
    }

    /// The commands may be for different nodes, so each goes by itself.
    #[cfg(feature = "redis-cluster")]
    async fn ask_each(&self, commands: &[Cmd]) -> Result<Vec<Value>, Failure> {
        let asked = commands.iter().map(|command| {
            let (link, command) = (self.clone(), command.clone());
            tokio::spawn(async move { link.ask(&command).await })
        });
        let asked: Vec<_> = asked.collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.await.map_err(Failure::Lost)??);
        }
        Ok(answers)
    }
}

impl fmt::Debug for Link {
    /// The address at most; never what it was opened with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Server(server) => match &server.client {
                Some(client) => write!(f, "{}", client.get_connection_info().addr()),
                None => f.write_str("the app's own connection"),
            },
            #[cfg(feature = "redis-cluster")]
            To::Cluster(_) => f.write_str("a Cluster"),
        }
    }
}

fn without_errors(answers: Vec<Value>) -> RedisResult<Vec<Value>> {
    answers.into_iter().map(Value::extract_error).collect()
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
    fn heed<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
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
