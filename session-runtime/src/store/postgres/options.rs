//! How a store is to be set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;
#[cfg(feature = "postgres-tls")]
use tokio_postgres::config::SslMode;

use super::link::{Cancel, Links, cancel_over};
use super::schema;
use super::statements::Statements;
use super::url::{self, Database};
use super::{Inner, PostgresStore};
use crate::clock::{Clock, SystemClock};
use crate::store::{SetupError, SweepGuard};

/// Says how a [`PostgresStore`] is to be set up; from [`PostgresStore::options`].
///
/// ```
/// use session_runtime::store::PostgresStore;
/// let options = PostgresStore::options().schema("shop").pool_size(8);
/// # let _ = options;
/// ```
#[must_use = "call `connect` or `pool` on it"]
pub struct PostgresOptions {
    schema: String,
    table: String,
    pool_size: usize,
    wait: Duration,
    prepare: bool,
    /// By another clock than the machines', if one was given.
    guard: Option<SweepGuard>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            schema: "public".to_owned(),
            table: "sessions".to_owned(),
            pool_size: 16,
            wait: Duration::from_secs(1),
            prepare: true,
            guard: None,
        }
    }
}

impl PostgresOptions {
    /// Puts the tables into a schema; [`migrate`](PostgresStore::migrate) makes it, if need be. The default is
    /// `public`.
    ///
    /// ```
    /// use session_runtime::store::PostgresStore;
    /// let options = PostgresStore::options().schema("shop");
    /// # let _ = options;
    /// ```
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Names the table of records; what else there is has names that begin with it. The default is `sessions`. Stores with different names can share a schema.
    ///
    /// ```
    /// use session_runtime::store::PostgresStore;
    /// let options = PostgresStore::options().table("shop_sessions");
    /// # let _ = options;
    /// ```
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Limits the connections that [`connect`](Self::connect) has in use. The default is 16. A server has 100 to give by
    /// default, to all instances of all apps together. While it is slow to end calls that were given up, as many
    /// again may be there at most.
    ///
    /// ```
    /// use session_runtime::store::PostgresStore;
    /// let options = PostgresStore::options().pool_size(8);
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
    /// use session_runtime::store::PostgresStore;
    /// use std::time::Duration;
    /// let options = PostgresStore::options().wait(Duration::from_millis(500));
    /// # let _ = options;
    /// ```
    pub fn wait(mut self, longest: Duration) -> Self {
        self.wait = longest;
        self
    }

    /// Has statements prepared, once for each connection, or not. The default is `true`. Behind a pooler that
    /// hands a connection from one transaction to the next and does not know of them (pgbouncer before 1.21, with
    /// `pool_mode = transaction`), set it to `false`: each call is one round trip still, and the server plans each
    /// anew.
    ///
    /// ```
    /// use session_runtime::store::PostgresStore;
    /// let options = PostgresStore::options().prepare(false);
    /// # let _ = options;
    /// ```
    pub fn prepare(mut self, prepare: bool) -> Self {
        self.prepare = prepare;
        self
    }

    /// Sweeps by `clock` instead of the earlier of the system's and the server's. For tests.
    ///
    /// ```
    /// use session_runtime::SystemClock;
    /// use session_runtime::store::PostgresStore;
    /// let options = PostgresStore::options().clock(SystemClock::default());
    /// # let _ = options;
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.guard = Some(SweepGuard::new(clock));
        self
    }

    /// Makes a store with a pool of its own, which connects when it is first used. Without the feature `postgres-tls` connections
    /// are **not encrypted**: turn it on for a server that is reached through anything but the machine or network one trusts. What the URL
    /// may say then, [`PostgresStore::connect`] tells.
    ///
    /// ```
    /// use session_runtime::store::PostgresStore;
    ///
    /// let store = PostgresStore::options()
    ///     .pool_size(8)
    ///     .connect("postgres://shop:secret@localhost/shop")?;
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the URL or a name cannot be used, or the URL asks for TLS (`sslmode=require`) without the feature, or for authorities whose
    /// certificates cannot be read. Whether the server is up, [`migrate`](PostgresStore::migrate) is the first to tell.
    pub fn connect(self, url: &str) -> Result<PostgresStore, SetupError> {
        let mut database = url::read(url)?;
        if database.config.get_application_name().is_none() {
            database.config.application_name("session-runtime");
        }
        let server = url::server(&database.config);
        let (manager, cancel) = manager(database)?;
        let pool = Pool::builder(manager)
            .max_size(self.pool_size)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|why| {
                SetupError::new(format!("the pool of connections cannot be made: {why}"))
            })?;
        self.store(pool, cancel, server)
    }

    /// Makes a store that uses the app's own pool: with TLS, with settings of its own, shared with the rest of the app.
    /// [`pool_size`](Self::pool_size) has no say then. It needs a runtime, to measure time by, and is best with
    /// `RecyclingMethod::Fast`: the others cost a round trip more for each call. Of several hosts it is to connect to the one that takes
    /// writes (`target_session_attrs`), and to give no connection back whose transaction is open.
    ///
    /// ```
    /// use deadpool_postgres::{Config, Runtime, tokio_postgres::NoTls};
    /// use session_runtime::store::PostgresStore;
    ///
    /// let mut config = Config::new();
    /// config.url = Some("postgres://shop:secret@localhost/shop".to_owned());
    /// let pool = config.create_pool(Some(Runtime::Tokio1), NoTls)?; // or the TLS of your choice
    /// let store = PostgresStore::options().pool(pool)?;
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a name cannot be used.
    pub fn pool(self, pool: Pool) -> Result<PostgresStore, SetupError> {
        self.store(pool, cancel_over(NoTls), "in the app's pool".to_owned())
    }

    fn store(
        self,
        pool: Pool,
        cancel: Cancel,
        server: String,
    ) -> Result<PostgresStore, SetupError> {
        let names = schema::names(&self.schema, &self.table)?;
        Ok(PostgresStore {
            inner: Arc::new(Inner {
                server,
                // That of one machine may be wrong, and what it deletes is gone for all.
                statements: Statements::new(&names, self.guard.is_none()),
                names,
                links: Links::new(pool, cancel, self.prepare, self.wait),
                guard: self
                    .guard
                    .unwrap_or_else(|| SweepGuard::new(SystemClock::default())),
            }),
        })
    }
}

/// Returns what makes the pool's connections, and what stops a call on one.
fn manager(database: Database) -> Result<(Manager, Cancel), SetupError> {
    let how = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let config = database.config;
    #[cfg(feature = "postgres-tls")]
    if config.get_ssl_mode() != SslMode::Disable {
        let tls = database.tls.connector()?;
        let cancel = cancel_over(tls.clone());
        return Ok((Manager::from_config(config, tls, how), cancel));
    }
    Ok((Manager::from_config(config, NoTls, how), cancel_over(NoTls)))
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("schema", &self.schema)
            .field("table", &self.table)
            .field("pool_size", &self.pool_size)
            .field("wait", &self.wait)
            .field("prepare", &self.prepare)
            .finish_non_exhaustive()
    }
}
