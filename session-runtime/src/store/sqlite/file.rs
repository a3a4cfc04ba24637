//! The file: opening it, knowing it for one's own, and its schema.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::Durability;
use super::error::{self, cannot_open};
use super::table::SCHEMA;
use crate::store::SetupError;

/// How many connections read.
const READERS: usize = 2;

/// Marks a file as this library's: `sess` in ASCII.
const APPLICATION: i32 = 0x7365_7373;

/// The version of the [`SCHEMA`].
const VERSION: i32 = 1;

/// Small pages, since SQLite writes whole ones: a small change of a session writes one, and two more if it extends it.
const PAGE: i64 = 1 << 10;

/// How large the log grows before what is in it is copied into the file.
const LOG: i64 = 4 << 20;

/// The log is cut back to this after one long read has let it grow.
const LOG_LIMIT: i64 = 64 << 20;

/// How long to wait for another process to let go of the file, in steps.
const STEP: Duration = Duration::from_micros(500);
const STEPS: i32 = 10_000;

/// The connections to a file.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) writer: Connection,
    pub(super) readers: Vec<Connection>,
}

pub(super) fn open(
    path: &Path,
    durability: Durability,
    max_bytes: Option<u64>,
) -> Result<File, SetupError> {
    refuse_other_names(path)?;
    // Made absolute, so that SQLite finds no meaning of its own in it, as in `:memory:`.
    let path = std::path::absolute(path).map_err(|error| error::no_access(path, error))?;
    make(&path).map_err(|error| error::no_access(&path, error))?;
    let writer = open_writer(&path, durability, max_bytes)?;
    let readers = (0..READERS)
        .map(|_| connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY))
        .collect::<Result<_, _>>()
        .map_err(|error| error::sqlite(&path, error))?;
    Ok(File {
        path,
        writer,
        readers,
    })
}

/// Refuses what names a database to SQLite or to `sqlx` and is no path: a file of that name would be made.
fn refuse_other_names(path: &Path) -> Result<(), SetupError> {
    let name = path.to_str().unwrap_or_default();
    let url = ["sqlite:", "sqlite3:", "file:"];
    let rest = url.iter().find_map(|scheme| name.strip_prefix(scheme));
    let is_url = |name: &str| name == ":memory:" || name.contains('?') && !name.contains('/');
    let Some(rest) = rest.or_else(|| is_url(name).then_some(name)) else {
        return Ok(());
    };
    let (file, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let file = file.strip_prefix("//").unwrap_or(file);
    Err(
        if file == ":memory:" || parameters.contains("mode=memory") {
            cannot_open(path, "that is in memory: name a file, or use `MemoryStore`")
        } else {
            let instead = format_args!(
                "that is a URL: write the file's path alone, `{file}`; a folder before it makes any name a path"
            );
            cannot_open(path, instead)
        },
    )
}

/// Makes the file if there is none, for this user's eyes only. SQLite gives the same rights to its log.
fn make(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn open_writer(
    path: &Path,
    durability: Durability,
    max_bytes: Option<u64>,
) -> Result<Connection, SetupError> {
    let sqlite = |error| error::sqlite(path, error);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sqlite)?;
    // Before anything is written: it may be someone else's.
    identify(&connection, path)?;
    connection
        .pragma_update(None, "page_size", PAGE)
        .map_err(sqlite)?;
    let mode = write_ahead(&connection).map_err(sqlite)?;
    if mode != "wal" {
        return Err(cannot_open(
            path,
            format_args!(
                "its journal stays in mode `{mode}` where `wal` is needed: put it on a local disk, not on a network drive"
            ),
        ));
    }
    configure(&connection, durability, max_bytes).map_err(sqlite)?;
    create(&mut connection, path)?;
    Ok(connection)
}

#[allow(unused_mut, reason = "rusqlite wants it from 0.41 on")]
fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let mut connection =
        Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_handler(Some(wait))?;
    Ok(connection)
}

/// Short steps of one length: two processes that both write all the time get their turns.
fn wait(tried: i32) -> bool {
    thread::sleep(STEP);
    tried < STEPS
}

/// Returns `true` if the file has its tables already. If it is not ours, that is an error.
fn identify(connection: &Connection, path: &Path) -> Result<bool, SetupError> {
    // In one statement, which sees one state: somebody else may be making the tables.
    let found = connection.query_row(
        "SELECT application_id, user_version, NOT EXISTS (SELECT 1 FROM sqlite_schema)
         FROM pragma_application_id, pragma_user_version",
        [],
        |row| {
            Ok((
                row.get::<_, i32>(0)?,
                row.get::<_, i32>(1)?,
                row.get::<_, bool>(2)?,
            ))
        },
    );
    match found.map_err(|error| error::sqlite(path, error))? {
        (APPLICATION, VERSION, _) => Ok(true),
        (APPLICATION, version, _) if version > VERSION => Err(cannot_open(
            path,
            format_args!(
                "a newer version of this library has written it (schema {version}): use that version, or name another file"
            ),
        )),
        (0, 0, true) => Ok(false),
        _ => Err(cannot_open(
            path,
            "it holds the data of another program: name a file for the sessions alone",
        )),
    }
}

/// Switches to the write-ahead log, and returns the mode that this leaves the file in.
///
/// SQLite does not wait by itself if another process does the same just now.
fn write_ahead(connection: &Connection) -> rusqlite::Result<String> {
    let mut tried = 0;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && wait(tried) =>
            {
                tried += 1;
            }
            mode => return mode,
        }
    }
}

fn configure(
    connection: &Connection,
    durability: Durability,
    max_bytes: Option<u64>,
) -> rusqlite::Result<()> {
    let full = durability == Durability::Full;
    connection.pragma_update(None, "synchronous", if full { "full" } else { "normal" })?;
    // Elsewhere than on macOS this changes nothing; there, only it makes the disk write its cache.
    connection.pragma_update(None, "fullfsync", full)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG / PAGE)?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    connection.pragma_update(None, "cache_size", -16 << 10)?;
    max_bytes.map_or(Ok(()), |bytes| limit(connection, bytes))
}

/// Lets the file grow to that size and no further. One that is larger stays so.
pub(super) fn limit(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / PAGE;
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}

/// Makes the tables, unless they are there: another process may just have made them.
fn create(connection: &mut Connection, path: &Path) -> Result<(), SetupError> {
    let sqlite = |error| error::sqlite(path, error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sqlite)?;
    if identify(&transaction, path)? {
        return Ok(());
    }
    let fill = || {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)
    };
    fill().map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}
