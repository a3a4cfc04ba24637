//! How a store comes to its connection.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "redis-tls")]
use redis::TlsCertificates;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
#[cfg(feature = "redis-cluster")]
use redis::cluster::{ClusterClient, ClusterClientBuilder};
#[cfg(feature = "redis-cluster")]
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError};

use super::RedisStore;
#[cfg(feature = "redis-cluster")]
use super::cluster::Cluster;
use super::fault::{Failure, SENTINEL_URL, SERVER_URL, no_url, unconnected};
#[cfg(feature = "redis-tls")]
use super::info::has_tls;
use super::link::{Link, Server, To};
use super::primary::Primary;
use super::sentinel::{SentinelUrl, Sentinels};
use crate::store::SetupError;

/// Half of the time that the layer allows a store by default, so that a second try fits in.
const PATIENCE: Duration = Duration::from_secs(1);

/// A day: no clock can tell a time that is as far off as a [`Duration`] can be.
const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// How often connecting is tried again before those who wait are told, and how long to wait in between.
const RETRIES: usize = 3;
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(100);

/// How often a command goes after a slot of a Cluster that moves.
#[cfg(feature = "redis-cluster")]
const REDIRECTS: u32 = 8;

/// How long a connection may be idle before the peer is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Says how a [`RedisStore`] is to be opened; from [`RedisStore::options`].
///
/// ```
/// use session_runtime::store::RedisStore;
/// let options = RedisStore::options().prefix("shop:");
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use = "call `connect` on it"]
pub struct RedisOptions {
    prefix: String,
    patience: Duration,
    #[cfg(feature = "redis-tls")]
    certificates: Option<TlsCertificates>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            patience: PATIENCE,
            #[cfg(feature = "redis-tls")]
            certificates: None,
        }
    }
}

impl RedisOptions {
    /// Sets what the name of each key begins with, such as `shop:`. The default is nothing: keys are `session:…`
    /// and `user:…`. Two apps on one server need two prefixes, else they share users.
    ///
    /// With another prefix, none of the sessions stored before is found.
    ///
    /// ```
    /// use session_runtime::store::RedisStore;
    /// let options = RedisStore::options().prefix("shop:");
    /// # let _ = options;
    /// ```
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long the server may take to answer, 1 s by default, a day at most. After that the connection is given up for a new
    /// one, and the call is answered with an error that is [transient](super::super::StoreError::is_transient).
    ///
    /// Keep it below the layer's deadline, so that a second try fits in.
    ///
    /// ```
    /// use session_runtime::store::RedisStore;
    /// use std::time::Duration;
    /// let options = RedisStore::options().timeout(Duration::from_millis(500));
    /// # let _ = options;
    /// ```
    pub fn timeout(mut self, patience: Duration) -> Self {
        self.patience = patience.min(LONGEST_PATIENCE);
        self
    }

    /// Sets which certificates count for `rediss://`, `rediss+sentinel://` and a Cluster over TLS: who signs those of the servers, in place of whom this
    /// machine trusts, which is the default; and this client's own, for servers that ask for one (`tls-auth-clients`).
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// use session_runtime::store::RedisStore;
    /// let certificates = redis::TlsCertificates {
    ///     root_cert: Some(std::fs::read("/etc/redis/authority.pem")?),
    ///     client_tls: None,
    /// };
    /// let options = RedisStore::options().certificates(certificates);
    /// # let _ = options;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "redis-tls")]
    pub fn certificates(mut self, certificates: TlsCertificates) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// Connects to one server, or to the primary of several: `redis://user:password@host:6379/0`, or
    /// `unix:///path/to/socket`. `rediss://` is over TLS (feature `redis-tls`).
    ///
    /// Sentinels are named by `redis+sentinel://user:password@host:26379,host:26379/service/0`, or `rediss+sentinel://…`: they are
    /// asked for the primary, now and after each failover. The password is the primary's; if the sentinels have one,
    /// `?sentinel_password=…` follows, and `&sentinel_username=…` if it is not that of their default user.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::RedisStore;
    /// let store = RedisStore::options().connect("redis://127.0.0.1").await?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the URL is none, or the server cannot be reached, denies access or is too old.
    pub async fn connect(self, url: &str) -> Result<RedisStore, SetupError> {
        match SentinelUrl::parse(url) {
            Some(Ok(url)) => self.connect_sentinels(url).await,
            Some(Err(())) => Err(SetupError::new(SENTINEL_URL)),
            None => self.connect_server(url).await,
        }
    }

    async fn connect_server(self, url: &str) -> Result<RedisStore, SetupError> {
        let client = self
            .connection_info(url)
            .and_then(Client::open)
            .map_err(|error| no_url(&error, SERVER_URL))?;
        let server = client.get_connection_info().addr().to_string();
        let at = |failure| unconnected(&server, failure);

        let settings = settings(self.patience);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), settings.clone())
            .map_err(|error| at(Failure::Redis(error)))?;
        let server = Server::new(manager, Some(client), settings);
        self.store(To::Server(Arc::new(server)))
            .prepared()
            .await
            .map_err(at)
    }

    async fn connect_sentinels(self, url: SentinelUrl) -> Result<RedisStore, SetupError> {
        let fault = |error| no_url(&error, SENTINEL_URL);
        let sentinels = url.sentinels.iter().map(|url| self.connection_info(url));
        let sentinels = sentinels.collect::<Result<_, _>>().map_err(fault)?;
        let sentinels = Sentinels::new(sentinels, url.service, self.patience).map_err(fault)?;
        let primary = self.connection_info(&url.primary).map_err(fault)?;
        let primary = Arc::new(Primary::new(sentinels, primary, self.patience));

        let store = self.store(To::Primary(Arc::clone(&primary)));
        let store = store.prepared().await;
        let store = store.map_err(|failure| unconnected(&primary.address(), failure))?;
        tokio::spawn(Primary::follow(Arc::downgrade(&primary), primary.changed()));
        Ok(store)
    }

    /// Uses a connection that the app has already. If nobody answers on it, it is not given up for another:
    /// this store does not know the way.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::RedisStore;
    /// let client = redis::Client::open("redis://127.0.0.1")?;
    /// let manager = client.get_connection_manager().await?;
    /// let store = RedisStore::options().over(manager);
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    pub fn over(self, manager: ConnectionManager) -> RedisStore {
        let server = Server::new(manager, None, ConnectionManagerConfig::new());
        self.store(To::Server(Arc::new(server)))
    }

    /// Connects to a Cluster, of which one node or several are named. Each node gets two connections: over one a swap is
    /// sent once and never repeated, over the other commands follow slots that move.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::RedisStore;
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2"];
    /// let store = RedisStore::options().connect_cluster(&nodes).await?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If a URL is none, or no node can be reached, or they deny access or are too old.
    #[cfg(feature = "redis-cluster")]
    pub async fn connect_cluster(self, nodes: &[&str]) -> Result<RedisStore, SetupError> {
        let nodes = nodes.iter().map(|url| self.connection_info(url));
        let nodes = nodes
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| no_url(&error, SERVER_URL))?;
        let names: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
        let at = |failure| unconnected(&names.join(", "), failure);

        let client = |retries| {
            let client = self.cluster_client(&nodes, retries);
            client.map_err(|error| no_url(&error, SERVER_URL))
        };
        let (once, following) = (client(0)?, client(REDIRECTS)?);
        let connecting = async {
            Ok(Cluster {
                info: nodes.first().cloned(),
                once: Some(once.get_async_connection().await?),
                following: following.get_async_connection().await?,
            })
        };
        let cluster = match tokio::time::timeout(self.patience * 4, connecting).await {
            Ok(cluster) => cluster.map_err(|error| at(Failure::Redis(error)))?,
            Err(_) => return Err(at(Failure::TimedOut)),
        };
        self.store(To::Cluster(Arc::new(cluster)))
            .prepared()
            .await
            .map_err(at)
    }

    /// Uses a connection to a Cluster that the app has already.
    ///
    /// Such a connection may repeat a command that has been run, and does not tell. So a swap that finds a record which has
    /// been written sixteen times since is answered with an error that is
    /// [unknown](super::super::StoreError::is_unknown). [`connect_cluster`](Self::connect_cluster) knows.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::RedisStore;
    /// let client = redis::cluster::ClusterClient::new(vec!["redis://10.0.0.1"])?;
    /// let store = RedisStore::options().over_cluster(client.get_async_connection().await?);
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "redis-cluster")]
    pub fn over_cluster(self, following: ClusterConnection) -> RedisStore {
        let cluster = Cluster {
            info: None,
            once: None,
            following,
        };
        self.store(To::Cluster(Arc::new(cluster)))
    }

    #[cfg(feature = "redis-cluster")]
    fn cluster_client(
        &self,
        nodes: &[ConnectionInfo],
        retries: u32,
    ) -> Result<ClusterClient, RedisError> {
        let builder = ClusterClientBuilder::new(nodes.to_vec());
        #[cfg(feature = "redis-tls")]
        let builder = match (&self.certificates, nodes.iter().any(has_tls)) {
            (Some(certificates), true) => builder.certs(certificates.clone()),
            _ => builder,
        };
        builder
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(tcp_settings())
            .connection_timeout(self.patience)
            .response_timeout(self.patience)
            .retries(retries)
            .min_retry_wait(5)
            .max_retry_wait(100)
            .build()
    }

    /// Reads the URL. If it names no protocol, the newest one, in which the loss of a connection is noticed at
    /// once and not by the next command.
    fn connection_info(&self, url: &str) -> Result<ConnectionInfo, RedisError> {
        let info = url.into_connection_info()?.set_tcp_settings(tcp_settings());
        #[cfg(feature = "redis-tls")]
        let info = self.over_tls(info)?;
        if url.contains("protocol=") {
            return Ok(info);
        }
        let settings = info.redis_settings().clone();
        Ok(info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3)))
    }

    /// Says which certificates count, where the URL asks for TLS.
    #[cfg(feature = "redis-tls")]
    fn over_tls(&self, info: ConnectionInfo) -> Result<ConnectionInfo, RedisError> {
        if !has_tls(&info) {
            return Ok(info);
        }
        // What the app has chosen stays.
        drop(rustls::crypto::ring::default_provider().install_default());
        match self.certificates.clone() {
            Some(certificates) => {
                let client = Client::build_with_tls(info, certificates)?;
                Ok(client.get_connection_info().clone())
            }
            None => Ok(info),
        }
    }

    fn store(self, to: To) -> RedisStore {
        RedisStore {
            link: Link::new(to, self.patience),
            prefix: self.prefix.into(),
        }
    }
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
}

fn settings(patience: Duration) -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(patience))
        // It is [`Link`] that waits, connecting included.
        .set_response_timeout(None)
        .set_number_of_retries(RETRIES)
        .set_min_delay(SHORTEST)
        .set_max_delay(LONGEST)
}
