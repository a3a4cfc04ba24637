//! SQLite's errors, in this library's terms.

use std::fmt;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::Causes;
use crate::store::{SetupError, StoreError};

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

/// Says why the file at `path` could not be opened, and what to do.
pub(super) fn cannot_open(path: &Path, what: impl fmt::Display) -> SetupError {
    SetupError::new(format!("cannot open `{}`: {what}", path.display()))
}

pub(super) fn no_access(path: &Path, error: io::Error) -> SetupError {
    cannot_open(path, ACCESS).because(error)
}

const ACCESS: &str = "check that its folder exists and that this process may read and write both";

pub(super) fn sqlite(path: &Path, error: rusqlite::Error) -> SetupError {
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => ACCESS,
        Some(ErrorCode::ReadOnly) => "it may only be read: let this process write to it",
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            "it is no SQLite file, or a damaged one: move it away, or name another file"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process has kept it locked: end that one, then try again"
        }
        _ => "SQLite fails",
    };
    cannot_open(path, what).because(error)
}
