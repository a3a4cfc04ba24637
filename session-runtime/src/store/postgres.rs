//! Records in PostgreSQL.
//!
//! A record is a row and a row for each of its slots, so that changing one small field of a large session writes that
//! field alone. A load is one statement. A commit is one call of a function in the database (`schema.sql`), which
//! locks the record, reads it, compares, and writes: [`Change::decide`] and [`Change::apply`] in PL/pgSQL.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use crate::change::{Change, Committed};
use crate::clock::{SweepGuard, Timestamp};
use crate::error::StoreError;
use crate::key::{Key, UserId};
use crate::record::Record;
use crate::store::{Store, Swept};

mod fault;
mod link;
mod migrate;
mod options;
mod schema;
mod statements;
mod wire;

pub use fault::PostgresError;
pub use options::PostgresOptions;

use fault::Fault;
use link::{Links, Parameters};
use schema::Names;
use statements::{Statement, Statements};

/// How often a call is made if transactions are in each other's way.
const TRIES: u32 = 3;

/// How many records a sweep looks at in one transaction, so that requests in between need not wait long.
const SWEEP: usize = 100;

/// How many remembered commits are forgotten in one transaction, and for how many times as long as that took requests
/// have the server to themselves then.
const FORGET: i64 = 200;
const PAUSE: u32 = 4;

/// Records in PostgreSQL, 13 or later: for many machines, with SQL at hand.
///
/// Two changes to one record are put in order by the server: neither is lost. What was acknowledged is as durable as
/// the server's `synchronous_commit` says. It connects through a pool of its own, without TLS, or through the app's
/// ([`PostgresOptions::pool`]). The tables have to be made first, with [`migrate`](Self::migrate) or with
/// [`schema_sql`](Self::schema_sql).
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
    names: Names,
    statements: Statements,
    links: Links,
    guard: SweepGuard,
}

impl PostgresStore {
    /// A store with a pool of its own, which connects when it is first used. Connections are **not encrypted**: see
    /// [`PostgresOptions::pool`] for TLS.
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
    /// If the URL cannot be used. Whether the server is up, [`migrate`](Self::migrate) is the first to tell.
    pub fn connect(url: &str) -> Result<Self, PostgresError> {
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

    /// Makes the tables and functions, or brings them up to date. Call it before the app serves: it is the first to
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
    pub async fn migrate(&self) -> Result<(), PostgresError> {
        migrate::migrate(&self.inner)
            .await
            .map_err(PostgresError::migration)
    }

    /// What [`migrate`](Self::migrate) runs, for teams with a tool of their own for that. Running it again changes
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
        self.inner.names.sql()
    }
}

impl Inner {
    /// Asks until no other transaction is in the way, three times at most.
    async fn ask(
        &self,
        statement: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Fault> {
        let mut tries = 1;
        loop {
            match self.links.query(statement, parameters).await {
                Err(Fault::Undone(_)) if tries < TRIES => pause(tries).await,
                answer => return answer,
            }
            tries += 1;
        }
    }

    /// The same for what changes nothing, and so may be asked again if the connection breaks: it may have been broken
    /// for long.
    async fn read(
        &self,
        statement: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Fault> {
        let mut tries = 1;
        loop {
            match self.ask(statement, parameters).await {
                Err(Fault::Lost(_)) if tries < TRIES => tries += 1,
                answer => return answer,
            }
        }
    }

    /// Looks at no more than `limit` records that are due, and says at how many.
    async fn sweep(
        &self,
        cutoff: Timestamp,
        limit: usize,
        swept: &mut Swept,
    ) -> Result<usize, StoreError> {
        let (cutoff, limit) = (cutoff.as_millis(), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.ask(&self.statements.sweep, &[&cutoff, &limit]).await?;
        wire::add_swept(swept, &rows)?;
        Ok(rows.len())
    }

    /// Forgets the commits that are over a minute old.
    async fn forget(&self) -> Result<(), StoreError> {
        loop {
            let begun = Instant::now();
            let rows = self.ask(&self.statements.forget, &[&FORGET]).await?;
            if wire::count(&rows)? < FORGET {
                return Ok(());
            }
            tokio::time::sleep(PAUSE * begun.elapsed()).await;
        }
    }
}

/// A random wait that grows with the tries.
async fn pause(tries: u32) {
    let longest = Duration::from_millis(10) * tries;
    tokio::time::sleep(longest.mul_f64(rand::random())).await;
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
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let key = wire::key_bytes(key)?;
        let rows = self
            .inner
            .read(&self.inner.statements.load, &[&key])
            .await?;
        Ok(wire::record(&rows)?.map(Arc::new))
    }

    async fn commit(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        self.inner.guard.observe(change.now);
        let ask = wire::Ask::new(key, change)?;
        let rows = self
            .inner
            .ask(&self.inner.statements.commit, &ask.parameters())
            .await?;
        wire::committed(&rows)
    }

    async fn owned_by(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        let owner = wire::user_bytes(owner)?;
        let rows = self
            .inner
            .read(&self.inner.statements.owned_by, &[&owner])
            .await?;
        wire::keys(&rows)
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        self.inner.forget().await?;
        let Some(cutoff) = self.inner.guard.cutoff() else {
            return Ok(swept);
        };
        while swept.deleted < limit {
            let batch = SWEEP.min(limit - swept.deleted);
            match self.inner.sweep(cutoff, batch, &mut swept).await {
                Ok(looked_at) if looked_at < batch => break,
                Ok(_) => {}
                // What has been deleted by now is told all the same; the next sweep fails too, if need be.
                Err(_) if swept.deleted > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(swept)
    }
}
