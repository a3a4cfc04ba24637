//! Records in MySQL and MariaDB.
//!
//! A record is a row, and a row beside it for each of its larger payloads, so that changing one small field of a large
//! session does not write the others. A load is one statement. So is a swap that changes nothing beside the row: an update
//! of the row that has the version compared. Any other is a transaction that begins with it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::Timestamp;
use crate::key::Key;
use crate::record::Record;
use crate::store::names::Names;
use crate::store::rows;
use crate::store::tries::{self, Fault};
use crate::store::{Scanned, SetupError, Store, StoreError, Swapped, SweepGuard, Swept};

mod fault;
mod link;
mod migrate;
mod options;
mod schema;
mod statements;
#[cfg(feature = "mysql-tls")]
mod tls;
mod wire;

pub use options::MysqlOptions;

use link::Links;
use statements::Statements;

/// What it is called in errors.
const NAME: &str = "MysqlStore";

/// Keeps records in MySQL 8 or MariaDB 10.6, or later: for many machines, with SQL at hand.
///
/// Of two swaps of one version the server lets one through. What was acknowledged is as durable as the server's
/// `innodb_flush_log_at_trx_commit` says. It connects through a pool of its own, with the feature `mysql-tls`
/// [encrypted](Self::connect) if the URL says so, or through the app's ([`MysqlOptions::pool`]). The tables have to be made first, with [`migrate`](Self::migrate) or with
/// [`schema_sql`](Self::schema_sql).
///
/// A call waits for whoever has locked the record or the table, as long as its caller does, and no longer than the server's
/// `innodb_lock_wait_timeout`.
///
/// Clones are handles to the same pool.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::SessionLayer;
/// use session_runtime::store::MysqlStore;
///
/// let store = MysqlStore::connect("mysql://shop:secret@localhost/shop")?;
/// store.migrate().await?;
/// let layer = SessionLayer::new(store);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MysqlStore {
    inner: Arc<Inner>,
}

struct Inner {
    /// Where it is, as logs have it.
    server: String,
    names: Names,
    statements: Arc<Statements>,
    links: Links,
    guard: SweepGuard,
}

impl MysqlStore {
    /// Makes a store with a pool of its own, which connects when it is first used.
    ///
    /// Connections are **not encrypted**, unless with the feature `mysql-tls` the URL says so. `ssl-mode` has the meaning that it has
    /// for MySQL's own client, but that there is no `PREFERRED` and no `VERIFY_CA`:
    ///
    /// | `ssl-mode` | connections | the server's certificate |
    /// |---|---|---|
    /// | `DISABLED`, or none | not encrypted | |
    /// | `REQUIRED` | encrypted | not looked at |
    /// | `VERIFY_IDENTITY` | encrypted | from an authority that is known, and for the host's name |
    ///
    /// Only `VERIFY_IDENTITY` keeps out whoever can put a server of their own in between. `ssl-ca` names a file with the certificates of the
    /// authorities that are known (PEM); without it, they are those that Mozilla trusts. For certificates of the client's own,
    /// see [`MysqlOptions::pool`].
    ///
    /// ```
    /// use session_runtime::store::MysqlStore;
    ///
    /// let store = MysqlStore::connect("mysql://shop:secret@localhost/shop")?;
    /// assert!(!format!("{store:?}").contains("secret"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the URL cannot be used, or asks for TLS without the feature `mysql-tls`. Whether the server is up, [`migrate`](Self::migrate) is the first to tell.
    pub fn connect(url: &str) -> Result<Self, SetupError> {
        Self::options().connect(url)
    }

    /// Sets a store up otherwise than by default.
    ///
    /// ```
    /// use session_runtime::store::MysqlStore;
    /// let options = MysqlStore::options().table("shop_sessions").pool_size(8);
    /// # let _ = options;
    /// ```
    pub fn options() -> MysqlOptions {
        MysqlOptions::default()
    }

    /// Makes the tables, or brings them up to date. Call it before the app serves: it is the first to
    /// tell whether the server can be reached. Any number of instances may call it at once, and where nothing is to
    /// be done it takes one look and needs no right to make tables.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::MysqlStore;
    ///
    /// let store = MysqlStore::connect("mysql://shop:secret@localhost/shop")?;
    /// store.migrate().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or the app's user may not make tables there.
    pub async fn migrate(&self) -> Result<(), SetupError> {
        let migrated = migrate::migrate(&self.inner).await;
        migrated.map_err(|fault| SetupError::migration(&self.name(), fault))
    }

    /// Returns what [`migrate`](Self::migrate) runs, for teams with a tool of their own for that. Running it again changes
    /// nothing.
    ///
    /// ```
    /// use session_runtime::store::MysqlStore;
    ///
    /// let store = MysqlStore::options().table("visits").connect("mysql://localhost/shop")?;
    /// assert!(store.schema_sql().contains("CREATE TABLE IF NOT EXISTS `visits`"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn schema_sql(&self) -> String {
        schema::sql(&self.inner.names)
    }
}

impl Inner {
    async fn load(&self, key: &[u8]) -> Result<Option<Arc<Record>>, StoreError> {
        let load = || {
            let (statements, key) = (Arc::clone(&self.statements), key.to_vec());
            self.links
                .run(move |conn| Box::pin(async move { statements.load(conn, key).await }))
        };
        wire::record(tries::read(load).await?)
    }

    /// Writes `after` if `before`'s version is there, and says whether it was.
    async fn write(
        &self,
        key: &[u8],
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<bool, Fault> {
        let statements = Arc::clone(&self.statements);
        let (key, before, after) = (key.to_vec(), before.cloned(), Arc::clone(after));
        let write = self.links.run(move |conn| {
            Box::pin(async move {
                let swap = rows::RowSwap::new(&key, before.as_deref(), &after);
                statements.write(conn, &swap).await
            })
        });
        write.await
    }

    /// Looks at no more than `limit` records that are due, and says at how many.
    async fn sweep(&self, cutoff: Timestamp, limit: usize) -> Result<(usize, Swept), StoreError> {
        let sweep = || {
            let statements = Arc::clone(&self.statements);
            self.links.run(move |conn| {
                Box::pin(async move { statements.sweep(conn, cutoff.as_millis(), limit).await })
            })
        };
        let due = tries::ask(sweep).await?;
        Ok((due.len(), wire::swept(due)))
    }
}

impl fmt::Debug for MysqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics = self.inner.links.pool.metrics();
        f.debug_struct("MysqlStore")
            .field("table", &self.inner.names.records())
            .field(
                "connections",
                &metrics.connection_count.load(Ordering::Relaxed),
            )
            .finish_non_exhaustive()
    }
}

impl Store for MysqlStore {
    fn name(&self) -> String {
        format!("MySQL {}", self.inner.server)
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.inner.load(&rows::key_bytes(key, NAME)?).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        let key = rows::key_bytes(key, NAME)?;
        let inner = &self.inner;
        inner.guard.observe_swap(before.map(AsRef::as_ref), after);
        let write = || inner.write(&key, before, after);
        tries::swap(before.map(AsRef::as_ref), write, || inner.load(&key)).await
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        let (after, limit) = (Scanned::begins_after(after)?, limit.max(1));
        let scan = || {
            let statements = Arc::clone(&self.inner.statements);
            let after = after.to_owned();
            self.inner
                .links
                .run(move |conn| Box::pin(async move { statements.scan(conn, after, limit).await }))
        };
        rows::scanned(&tries::read(scan).await?, limit)
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        let batch = |cutoff, size| self.inner.sweep(cutoff, size);
        tries::sweep(&self.inner.guard, limit, batch).await
    }
}
