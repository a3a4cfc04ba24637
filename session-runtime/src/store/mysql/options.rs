//! How a store is to be set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::{Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};

use super::fault::{self, no_url};
use super::link::{Links, SETUP};
use super::schema;
use super::statements::Statements;
#[cfg(feature = "mysql-tls")]
use super::tls;
use super::{Inner, MysqlStore};
use crate::clock::{Clock, SystemClock};
use crate::store::{SetupError, SweepGuard};

/// Says how a [`MysqlStore`] is to be set up; from [`MysqlStore::options`].
///
/// ```
/// use session_runtime::store::MysqlStore;
/// let options = MysqlStore::options().table("shop_sessions").pool_size(8);
/// # let _ = options;
/// ```
#[must_use = "call `connect` or `pool` on it"]
pub struct MysqlOptions {
    database: Option<String>,
    table: String,
    pool_size: usize,
    wait: Duration,
    /// By another clock than the machines', if one was given.
    guard: Option<SweepGuard>,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        Self {
            database: None,
            table: "sessions".to_owned(),
            pool_size: 16,
            wait: Duration::from_secs(1),
            guard: None,
        }
    }
}

impl MysqlOptions {
    /// Makes a connection what the store needs: the statement that it sends on each before it uses it. Put it among the
    /// `setup` of the app's own [`pool`](Self::pool), and it need not be told with each call.
    ///
    /// ```
    /// use session_runtime::store::MysqlOptions;
    /// assert!(MysqlOptions::SETUP.contains("READ COMMITTED"));
    /// ```
    pub const SETUP: &str = SETUP;

    /// Puts the tables into another database of the server than the one that the URL names, or the app's pool uses;
    /// [`migrate`](MysqlStore::migrate) makes it, if need be.
    ///
    /// ```
    /// use session_runtime::store::MysqlStore;
    /// let options = MysqlStore::options().database("shop");
    /// # let _ = options;
    /// ```
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// Names the table of records; what else there is has names that begin with it. The default is `sessions`. Stores with
    /// different names can share a database.
    ///
    /// ```
    /// use session_runtime::store::MysqlStore;
    /// let options = MysqlStore::options().table("shop_sessions");
    /// # let _ = options;
    /// ```
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Limits the connections that [`connect`](Self::connect) has in use. The default is 16. A server has 151 to give by
    /// default, to all instances of all apps together. A call that was given up may take one more for a moment, by which
    /// the server is told so.
    ///
    /// ```
    /// use session_runtime::store::MysqlStore;
    /// let options = MysqlStore::options().pool_size(8);
    /// # let _ = options;
    /// ```
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// Limits how long a call waits for a connection that others use, and then for a new one if it takes that. The
    /// default is a second; more than the layer's deadline is of no use.
    ///
    /// ```
    /// use session_runtime::store::MysqlStore;
    /// use std::time::Duration;
    /// let options = MysqlStore::options().wait(Duration::from_millis(500));
    /// # let _ = options;
    /// ```
    pub fn wait(mut self, longest: Duration) -> Self {
        self.wait = longest;
        self
    }

    /// Sweeps by `clock` instead of the earlier of the system's and the server's. For tests.
    ///
    /// ```
    /// use session_runtime::SystemClock;
    /// use session_runtime::store::MysqlStore;
    /// let options = MysqlStore::options().clock(SystemClock::default());
    /// # let _ = options;
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.guard = Some(SweepGuard::new(clock));
        self
    }

    /// Makes a store with a pool of its own, which connects when it is first used. Connections are **not encrypted** unless the URL says
    /// so, as [`MysqlStore::connect`] tells: have it say so for a server that is reached through anything but the machine or network one
    /// trusts. A server on the same machine is reached through its socket if the URL says where it is:
    /// `?socket=/run/mysqld/mysqld.sock`.
    ///
    /// ```
    /// use session_runtime::store::MysqlStore;
    ///
    /// let store = MysqlStore::options()
    ///     .pool_size(8)
    ///     .connect("mysql://shop:secret@localhost/shop")?;
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the URL or a name cannot be used, the URL asks for TLS without the feature `mysql-tls` or for authorities whose certificates cannot be
    /// read, or no database is named. Whether the server is up,
    /// [`migrate`](MysqlStore::migrate) is the first to tell.
    pub fn connect(self, url: &str) -> Result<MysqlStore, SetupError> {
        #[cfg(feature = "mysql-tls")]
        let (url, ssl) = tls::read(url)?;
        #[cfg(feature = "mysql-tls")]
        let url = url.as_str();
        let opts = Opts::from_url(url).map_err(fault::url)?;
        #[cfg(feature = "mysql-tls")]
        let opts = tls::encrypted(opts, ssl);
        #[cfg(not(feature = "mysql-tls"))]
        if opts.ssl_opts().is_some() {
            return Err(fault::tls());
        }
        if !has_host(url) && opts.socket().is_none() {
            return Err(no_url());
        }
        if opts.db_name().is_none() && self.database.is_none() {
            return Err(SetupError::new(
                "no database is named: write `mysql://host/database`, or call `MysqlOptions::database`",
            ));
        }
        let size = PoolConstraints::new(self.pool_size, self.pool_size).ok_or_else(|| {
            SetupError::new("a pool of no connections serves nobody: set `pool_size`")
        })?;
        let pool = PoolOpts::new()
            .with_constraints(size)
            // Nobody else leaves anything on its connections, and they are to know the statements.
            .with_reset_connection(false);
        let host = opts.ip_or_hostname().trim_matches(['[', ']']).to_owned();
        let server = match opts.socket() {
            Some(socket) => format!("at {socket}"),
            None => format!("at {host}:{}", opts.tcp_port()),
        };
        let opts = OptsBuilder::from_opts(opts)
            .ip_or_hostname(host)
            // A path that the server tells is that of another one, if there is a tunnel in between.
            .prefer_socket(false)
            .setup(vec![SETUP])
            .pool_opts(pool);
        let links = Links::own(Pool::new(opts), self.pool_size, self.wait);
        self.store(links, server)
    }

    /// Makes a store that uses the app's own pool: with TLS, with settings of its own, shared with the rest of the app.
    /// [`pool_size`](Self::pool_size) has no say then.
    ///
    /// With [`SETUP`](Self::SETUP) among what the pool tells its connections, a call costs no more than over a pool of the
    /// store's own. The app's own statements are then at `READ COMMITTED`, too. Without, each call takes one round trip more,
    /// and the pool has to reset connections that it gets back, as it does by default.
    ///
    /// ```
    /// use mysql_async::{Opts, OptsBuilder, Pool};
    /// use session_runtime::store::{MysqlOptions, MysqlStore};
    ///
    /// let opts = Opts::from_url("mysql://shop:secret@localhost/shop")?;
    /// let opts = OptsBuilder::from_opts(opts).setup(vec![MysqlOptions::SETUP]); // and the TLS of your choice
    /// let store = MysqlStore::options().pool(Pool::new(opts))?;
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a name cannot be used.
    pub fn pool(self, pool: Pool) -> Result<MysqlStore, SetupError> {
        let links = Links::shared(pool, self.wait);
        self.store(links, "in the app's pool".to_owned())
    }

    fn store(self, links: Links, server: String) -> Result<MysqlStore, SetupError> {
        let names = schema::names(self.database.as_deref(), &self.table)?;
        Ok(MysqlStore {
            inner: Arc::new(Inner {
                server,
                // That of one machine may be wrong, and what it deletes is gone for all.
                statements: Arc::new(Statements::new(&names, self.guard.is_none())),
                names,
                links,
                guard: self
                    .guard
                    .unwrap_or_else(|| SweepGuard::new(SystemClock::default())),
            }),
        })
    }
}

/// Returns `true` if a URL names a host: without, the client takes this machine for it, and what may be a part of the
/// password for a database.
fn has_host(url: &str) -> bool {
    let (_, server) = url.split_once("://").unwrap_or_default();
    let server = server.split(['/', '?', '#']).next().unwrap_or_default();
    !server.is_empty() && !server.ends_with('@')
}

impl fmt::Debug for MysqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlOptions")
            .field("database", &self.database)
            .field("table", &self.table)
            .field("pool_size", &self.pool_size)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
