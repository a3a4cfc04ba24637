//! Records in PostgreSQL.
//!
//! A record is a row, and a row beside it for each of its larger payloads, so that changing one small field of a large
//! session does not write the others. A load is one statement. So is a swap: an update of the row that has the version
//! compared, with what changes beside it hanging on that.

use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::key::{self, Key};
use crate::record::Record;
use crate::store::names::Names;
use crate::store::rows::{self, RowSwap};
use crate::store::tries;
use crate::store::{Scanned, SetupError, Store, StoreError, Swapped, SweepGuard, Swept};

mod fault;
mod link;
mod migrate;
mod options;
mod schema;
mod statements;
#[cfg(feature = "postgres-tls")]
mod tls;
mod url;
mod wire;

pub use options::PostgresOptions;

use link::{Links, Parameters};
use statements::Statements;

/// What it is called in errors.
const NAME: &str = "PostgresStore";

/// Keeps records in PostgreSQL, 13 or later: for many machines, with SQL at hand.
///
/// Of two swaps of one version the server lets one through, at every isolation level. What was acknowledged is as
/// durable as the server's `synchronous_commit` says. It connects through a pool of its own, with the feature `postgres-tls`
/// [encrypted](Self::connect), or through the app's ([`PostgresOptions::pool`]). The tables have to be made first, with [`migrate`](Self::migrate) or with
/// [`schema_sql`](Self::schema_sql).
///
/// A call waits for whoever has locked the record or the table, as long as its caller does. A `lock_timeout` of the
/// server's, or of the URL's (`?options=-c%20lock_timeout%3D1s`), sets a limit to that.
///
/// Clones are handles to the same pool.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::SessionLayer;
/// use session_runtime::store::PostgresStore;
///
/// let store = PostgresStore::connect("postgres://shop:secret@localhost/shop")?;
/// store.migrate().await?;
/// let layer = SessionLayer::new(store);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    /// Where it is, as logs have it.
    server: String,
    names: Names,
    statements: Statements,
    links: Links,
    guard: SweepGuard,
}

impl PostgresStore {
    /// Makes a store with a pool of its own, which connects when it is first used.
    ///
    /// Without the feature `postgres-tls` connections are **not encrypted**. With it, `sslmode` in the URL has the meaning that it has for
    /// PostgreSQL's own client:
    ///
    /// | `sslmode` | connections | the server's certificate |
    /// |---|---|---|
    /// | `disable` | not encrypted | |
    /// | `prefer`, or none | encrypted if the server can | not looked at |
    /// | `require` | encrypted | not looked at; as for `verify-ca`, if `sslrootcert` names a file |
    /// | `verify-ca` | encrypted | from an authority that is known |
    /// | `verify-full` | encrypted | that, and for the host's name |
    ///
    /// Of several hosts it asks the one that takes writes (`target_session_attrs=read-write`; `any` means that, too).
    ///
    /// Only `verify-full` keeps out whoever can put a server of their own in between. `sslrootcert` names a file with the certificates of the
    /// authorities that are known (PEM); without it, or with `sslrootcert=system`, they are the system's. For certificates of the client's own,
    /// see [`PostgresOptions::pool`].
    ///
    /// ```
    /// use session_runtime::store::PostgresStore;
    ///
    /// let store = PostgresStore::connect("postgres://shop:secret@localhost/shop")?;
    /// assert!(!format!("{store:?}").contains("secret"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the URL cannot be used, or asks for TLS (`sslmode=require`) without the feature `postgres-tls`. Whether the server is up,
    /// [`migrate`](Self::migrate) is the first to tell.
    pub fn connect(url: &str) -> Result<Self, SetupError> {
        Self::options().connect(url)
    }

    /// Sets a store up otherwise than by default.
    ///
    /// ```
    /// use session_runtime::store::PostgresStore;
    /// let options = PostgresStore::options().schema("shop").pool_size(8);
    /// # let _ = options;
    /// ```
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    /// Makes the tables, or brings them up to date. Call it before the app serves: it is the first to
    /// tell whether the server can be reached. Any number of instances may call it at once, and where nothing is to
    /// be done it takes one look and needs no right to change the schema.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_runtime::store::PostgresStore;
    ///
    /// let store = PostgresStore::connect("postgres://shop:secret@localhost/shop")?;
    /// store.migrate().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or the app's role may not make tables there.
    pub async fn migrate(&self) -> Result<(), SetupError> {
        let migrated = migrate::migrate(&self.inner).await;
        migrated.map_err(|fault| SetupError::migration(&self.name(), fault))
    }

    /// Returns what [`migrate`](Self::migrate) runs, for teams with a tool of their own for that. Running it again changes
    /// nothing.
    ///
    /// ```
    /// use session_runtime::store::PostgresStore;
    ///
    /// let store = PostgresStore::options().schema("shop").connect("postgres://localhost")?;
    /// assert!(store.schema_sql().contains(r#"CREATE TABLE IF NOT EXISTS "shop"."sessions""#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn schema_sql(&self) -> String {
        schema::sql(&self.inner.names)
    }
}

impl Inner {
    async fn load(&self, key: &[u8]) -> Result<Option<Arc<Record>>, StoreError> {
        let parameters: Parameters<'_> = &[&key];
        let rows = tries::read(|| self.links.query(&self.statements.load, parameters)).await?;
        wire::record(&rows)
    }

    /// Looks at no more than `limit` records that are due, and says at how many.
    async fn sweep(&self, cutoff: Timestamp, limit: usize) -> Result<(usize, Swept), StoreError> {
        let (cutoff, limit) = (cutoff.as_millis(), i64::try_from(limit).unwrap_or(i64::MAX));
        let parameters: Parameters<'_> = &[&cutoff, &limit];
        let sweep = || self.links.query(&self.statements.sweep, parameters);
        let rows = tries::ask(sweep).await?;
        Ok((rows.len(), wire::swept(&rows)?))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.inner.links.pool.status();
        f.debug_struct("PostgresStore")
            .field("table", &self.inner.names.records())
            .field("connections", &status.size)
            .field("waiting", &status.waiting)
            .finish_non_exhaustive()
    }
}

impl Store for PostgresStore {
    fn name(&self) -> String {
        format!("PostgreSQL {}", self.inner.server)
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
        let (key, before) = (rows::key_bytes(key, NAME)?, before.map(AsRef::as_ref));
        self.inner.guard.observe_swap(before, after);
        let swap = RowSwap::new(&key, before, after);
        let statement = self.inner.statements.of(&swap);
        let parameters = wire::parameters(&swap);
        let write = async || {
            let written = self.inner.links.query(statement, &parameters).await?;
            Ok(!written.is_empty())
        };
        tries::swap(before, write, || self.inner.load(&key)).await
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        let (limit, (_, end)) = (limit.max(1), key::sessions());
        let (after, end) = (Scanned::begins_after(after)?.as_bytes(), end.as_bytes());
        let count = i64::try_from(limit).unwrap_or(i64::MAX);
        let parameters: Parameters<'_> = &[&after, &end, &count];
        let scan = &self.inner.statements.scan;
        let rows = tries::read(|| self.inner.links.query(scan, parameters)).await?;
        rows::scanned(&wire::keys(&rows)?, limit)
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        let batch = |cutoff, size| self.inner.sweep(cutoff, size);
        tries::sweep(&self.inner.guard, limit, batch).await
    }
}
