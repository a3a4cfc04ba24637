//! SQLite's errors, in this library's terms.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::error::{Causes, StoreError};

/// Says what an error of SQLite's means to whoever asked for a load, a swap or a sweep.
///
/// The error's text goes along, not the error, since one may have to answer many callers.
pub(super) fn store_error(error: &rusqlite::Error) -> StoreError {
    let text = Causes(error).to_string();
    match error.sqlite_error_code() {
        // What is written takes its lock first, so nothing was.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::contended(text),
        Some(ErrorCode::DiskFull) => StoreError::full(text),
        // A commit that the disk has not confirmed may still be found in the log when the file is opened again.
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory) => {
            StoreError::unavailable(text)
        }
        _ => StoreError::broken(text),
    }
}

/// Says why a [`SqliteStore`](super::SqliteStore) could not be opened: its message names the file and what to do.
///
/// ```
/// use session_runtime::store::SqliteStore;
///
/// let error = SqliteStore::open("/no/such/folder/sessions.db").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "cannot open `/no/such/folder/sessions.db`: check that its folder exists and that this process may \
///      read and write both",
/// );
/// ```
pub struct OpenError {
    path: PathBuf,
    kind: OpenErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Debug, PartialEq, Eq)]
enum OpenErrorKind {
    InMemory,
    Url(String),
    Access,
    ReadOnly,
    NotSqlite,
    Foreign,
    Newer(i32),
    Busy,
    NoWal(String),
    Thread,
    Other,
}

impl OpenError {
    fn new(path: &Path, kind: OpenErrorKind) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            source: None,
        }
    }

    pub(super) fn in_memory(path: &Path) -> Self {
        Self::new(path, OpenErrorKind::InMemory)
    }

    pub(super) fn url(path: &Path, file: String) -> Self {
        Self::new(path, OpenErrorKind::Url(file))
    }

    pub(super) fn sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => OpenErrorKind::Access,
            Some(ErrorCode::ReadOnly) => OpenErrorKind::ReadOnly,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenErrorKind::NotSqlite,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenErrorKind::Busy,
            _ => OpenErrorKind::Other,
        };
        Self {
            source: Some(error.into()),
            ..Self::new(path, kind)
        }
    }

    pub(super) fn path(path: &Path, error: io::Error) -> Self {
        Self {
            source: Some(error.into()),
            ..Self::new(path, OpenErrorKind::Access)
        }
    }

    pub(super) fn thread(path: &Path, error: io::Error) -> Self {
        Self {
            source: Some(error.into()),
            ..Self::new(path, OpenErrorKind::Thread)
        }
    }

    pub(super) fn foreign(path: &Path) -> Self {
        Self::new(path, OpenErrorKind::Foreign)
    }

    pub(super) fn newer(path: &Path, version: i32) -> Self {
        Self::new(path, OpenErrorKind::Newer(version))
    }

    pub(super) fn no_wal(path: &Path, mode: String) -> Self {
        Self::new(path, OpenErrorKind::NoWal(mode))
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot open `{}`: ", self.path.display())?;
        match &self.kind {
            OpenErrorKind::InMemory => {
                f.write_str("that is in memory: name a file, or use `MemoryStore`")
            }
            OpenErrorKind::Url(file) => write!(
                f,
                "that is a URL: write the file's path alone, `{file}`; a folder before it makes any name a path"
            ),
            OpenErrorKind::Access => f.write_str(
                "check that its folder exists and that this process may read and write both",
            ),
            OpenErrorKind::ReadOnly => {
                f.write_str("it may only be read: let this process write to it")
            }
            OpenErrorKind::NotSqlite => f.write_str(
                "it is no SQLite file, or a damaged one: move it away, or name another file",
            ),
            OpenErrorKind::Foreign => f.write_str(
                "it holds the data of another program: name a file for the sessions alone",
            ),
            OpenErrorKind::Newer(version) => write!(
                f,
                "a newer version of this library has written it (schema {version}): use that version, or name another file"
            ),
            OpenErrorKind::Busy => {
                f.write_str("another process has kept it locked: end that one, then try again")
            }
            OpenErrorKind::NoWal(mode) => write!(
                f,
                "its journal stays in mode `{mode}` where `wal` is needed: put it on a local disk, not on a network drive"
            ),
            OpenErrorKind::Thread => {
                f.write_str("the operating system starts no thread to serve it")
            }
            OpenErrorKind::Other => f.write_str("SQLite fails"),
        }
    }
}

impl fmt::Debug for OpenError {
    /// As `Display`, and what it came from: a `main` that returns it shows this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Causes(self))
    }
}

impl StdError for OpenError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
