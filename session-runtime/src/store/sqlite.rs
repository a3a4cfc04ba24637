//! Records in one SQLite file.
//!
//! SQLite has one writer at a time, and a durable write waits for the disk. So one thread writes: it takes all swaps that
//! have come while the disk was busy and commits them together. Two more threads read. The app's own threads never wait
//! for the file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::clock::{Clock, SystemClock};
use crate::key::Key;
use crate::record::Record;
use crate::store::{Scanned, SetupError, Store, StoreError, Swapped, SweepGuard, Swept};

mod error;
mod file;
mod job;
mod table;
mod threads;

use job::{Jobs, QUEUE, ask, ask_for_swap};

/// Keeps records in one SQLite file: for one machine, across restarts.
///
/// A swap that was answered is in the file, also after `kill -9` and, unless [`Durability::Fast`] is chosen, after a
/// power loss. Swaps that come at the same time share one wait for the disk. Several processes on one machine may share
/// the file; it must not lie on a network drive. Room that sweeping frees is used again; the file itself does not shrink.
///
/// Clones are handles to the same file. When the last is dropped, what waits to be written is written, then the threads
/// end.
///
/// A call fails with an error that is [transient](StoreError::is_transient) if another process keeps the file locked for
/// five seconds, and with one that is [full](StoreError::is_full) if the disk is. After an error of the disk itself it is
/// [unknown](StoreError::is_unknown) whether the swap happened.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::store::{Record, SqliteStore, Store, Swapped};
/// use session_runtime::{Clock, Key, SessionId, SystemClock};
/// use std::{sync::Arc, time::Duration};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.db");
/// let store = SqliteStore::open(path)?;
/// let key = Key::from(&SessionId::generate()?);
/// let now = SystemClock::default().now();
/// let record = Arc::new(Record::new(now, now + Duration::from_secs(7_200)));
/// assert_eq!(store.swap(&key, None, &record).await?, Swapped::Done);
/// assert_eq!(store.load(&key).await?, Some(record));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writes: Jobs,
    reads: Jobs,
    guard: SweepGuard,
}

impl SqliteStore {
    /// Opens the file, and makes it if there is none. Waits for the disk: call it before the app serves.
    ///
    /// ```
    /// use session_runtime::store::SqliteStore;
    ///
    /// let error = SqliteStore::open("/no/such/folder/sessions.db").unwrap_err();
    /// assert!(error.to_string().contains("/no/such/folder/sessions.db"));
    /// ```
    ///
    /// # Errors
    ///
    /// If the file cannot be opened, read or written, or holds something else; and for a URL or `:memory:`, which are
    /// no paths.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SetupError> {
        Self::options().open(path)
    }

    /// Returns options to open a file with, otherwise than by default.
    ///
    /// ```
    /// use session_runtime::store::{Durability, SqliteStore};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions.db");
    /// let store = SqliteStore::options().durability(Durability::Fast).open(path)?;
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn options() -> SqliteOptions {
        SqliteOptions::default()
    }
}

/// Says how a [`SqliteStore`] is to be opened; from [`SqliteStore::options`].
///
/// ```
/// use session_runtime::store::SqliteStore;
/// let options = SqliteStore::options().max_bytes(1 << 30);
/// # let _ = options;
/// ```
#[must_use = "call `open` on it"]
pub struct SqliteOptions {
    durability: Durability,
    max_bytes: Option<u64>,
    guard: SweepGuard,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        let guard = SweepGuard::new(SystemClock::default());
        Self {
            durability: Durability::default(),
            max_bytes: None,
            guard,
        }
    }
}

impl SqliteOptions {
    /// Chooses what a swap that was answered survives. The default is [`Durability::Full`]; the other is faster, and
    /// risks the last seconds at a power loss.
    ///
    /// ```
    /// use session_runtime::store::{Durability, SqliteStore};
    /// let options = SqliteStore::options().durability(Durability::Full);
    /// # let _ = options;
    /// ```
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Lets the file grow to about `bytes` and no further; swaps that need more answer an error of which
    /// [`StoreError::is_full`] is true. Those that end a session, or take something out, may need a sixteenth more. The default is whatever the
    /// disk holds. It is of this handle, not of the file.
    ///
    /// ```
    /// use session_runtime::store::SqliteStore;
    /// let options = SqliteStore::options().max_bytes(1 << 30);
    /// # let _ = options;
    /// ```
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Sweeps by `clock` instead of the system's. For tests.
    ///
    /// ```
    /// use session_runtime::SystemClock;
    /// use session_runtime::store::SqliteStore;
    /// let options = SqliteStore::options().clock(SystemClock::default());
    /// # let _ = options;
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.guard = SweepGuard::new(clock);
        self
    }

    /// Opens the file, and makes it if there is none. Waits for the disk: call it before the app serves.
    ///
    /// ```
    /// use session_runtime::store::SqliteStore;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions.db");
    /// let store = SqliteStore::options().open(path)?;
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the file cannot be opened, read or written, or holds something else; and for a URL or `:memory:`, which are
    /// no paths.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, SetupError> {
        let file = file::open(path.as_ref(), self.durability, self.max_bytes)?;
        let (writes, waiting_writes) = mpsc::channel(QUEUE);
        let (reads, waiting_reads) = mpsc::channel(QUEUE);
        threads::start_writer(file.writer, self.max_bytes, waiting_writes)
            .and_then(|()| threads::start_readers(file.readers, waiting_reads))
            .map_err(|error| {
                let what = "the operating system starts no thread to serve it";
                error::cannot_open(&file.path, what).because(error)
            })?;
        Ok(SqliteStore {
            inner: Arc::new(Inner {
                path: file.path,
                writes,
                reads,
                guard: self.guard,
            }),
        })
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("durability", &self.durability)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

/// Says what a swap that was answered survives.
///
/// ```
/// use session_runtime::store::Durability;
/// assert_eq!(Durability::default(), Durability::Full);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The end of the process and of the power: the answer waits until the disk has the commit.
    #[default]
    Full,
    /// The end of the process, `kill -9` included. A power loss may take the last seconds' swaps, and
    /// leaves the file whole.
    Fast,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("waiting_writes", &(QUEUE - self.inner.writes.capacity()))
            .field("waiting_reads", &(QUEUE - self.inner.reads.capacity()))
            .finish_non_exhaustive()
    }
}

impl Store for SqliteStore {
    fn name(&self) -> String {
        format!("SQLite in {}", self.inner.path.display())
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let key = key.clone();
        ask(&self.inner.reads, move |connection| {
            table::load(connection, &key)
        })
        .await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.inner
            .guard
            .observe_swap(before.map(AsRef::as_ref), after);
        let (key, before, after) = (key.clone(), before.cloned(), Arc::clone(after));
        let shrinks = |before: &Arc<Record>| after.size() < before.size();
        let relieves = after.ended().is_some() || before.as_ref().is_some_and(shrinks);
        ask_for_swap(&self.inner.writes, relieves, move |connection| {
            table::swap(connection, &key, before.as_deref(), &after)
        })
        .await
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        let (after, limit) = (Scanned::begins_after(after)?.to_owned(), limit.max(1));
        let keys = ask(&self.inner.reads, move |connection| {
            table::scan(connection, &after, limit)
        });
        Ok(Scanned::ordered(keys.await?, limit))
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        let Some(cutoff) = self.inner.guard.cutoff() else {
            return Ok(Swept::default());
        };
        ask(&self.inner.writes, move |connection| {
            table::sweep(connection, cutoff, limit)
        })
        .await
    }
}
