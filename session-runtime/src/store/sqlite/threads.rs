//! The threads: one that writes, and those that read. They end when nobody can ask any more and all is done.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::file;
use super::job::{Job, WaitingJobs};

/// How many jobs share a transaction at most. More would gain little and make the first wait for the last.
const BATCH: usize = 256;

/// A file may hold this part of its size besides, so that sessions can end when it is full: pages of indexes split, too.
const RESERVE: u64 = 16;

/// Starts the thread that writes: it takes all that has come while the disk was busy and commits it together.
pub(super) fn start_writer(
    connection: Connection,
    max_bytes: Option<u64>,
    mut jobs: WaitingJobs,
) -> io::Result<()> {
    let mut writer = Writer {
        connection,
        max_bytes,
    };
    start("session-write", move || {
        let mut batch = Vec::with_capacity(BATCH);
        while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
            writer.write(&mut batch);
            batch.drain(..).for_each(Job::answer);
        }
    })
}

/// Starts a thread for each connection to read.
pub(super) fn start_readers(connections: Vec<Connection>, jobs: WaitingJobs) -> io::Result<()> {
    let jobs = Arc::new(Mutex::new(jobs));
    for connection in connections {
        let jobs = Arc::clone(&jobs);
        start("session-read", move || {
            while let Some(job) = next(&jobs) {
                read(&connection, job);
            }
        })?;
    }
    Ok(())
}

fn start(name: &str, serve: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(serve).map(drop)
}

struct Writer {
    connection: Connection,
    /// How large the file may grow.
    max_bytes: Option<u64>,
}

impl Writer {
    /// Runs the batch in one transaction. If that fails, runs each job by itself, so that one which cannot be written does
    /// not stop the others.
    fn write(&mut self, batch: &mut [Box<dyn Job>]) {
        let Err(error) = self.transact(batch) else {
            return;
        };
        // Each would wait as long for a lock again.
        let locked = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        if locked || batch.len() == 1 {
            for job in batch {
                job.fail(&error);
            }
            return;
        }
        tracing::warn!(%error, writes = batch.len(), "a batch could not be written: writing one by one");
        for job in batch.chunks_mut(1) {
            self.write(job);
        }
    }

    /// Runs the batch in one transaction; in a file that is full, if it relieves that, with what is kept for it.
    fn transact(&mut self, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        let written = transact(&mut self.connection, batch);
        let code = written
            .as_ref()
            .err()
            .map(rusqlite::Error::sqlite_error_code);
        let may_grow =
            code == Some(Some(ErrorCode::DiskFull)) && batch.iter().all(|job| job.relieves());
        let Some(bytes) = self.max_bytes.filter(|_| may_grow) else {
            return written;
        };
        file::limit(&self.connection, bytes.saturating_add(bytes / RESERVE))?;
        let written = transact(&mut self.connection, batch);
        if let Err(error) = file::limit(&self.connection, bytes) {
            tracing::warn!(%error, "the file may go on growing by what is kept for sessions that end");
        }
        written
    }
}

fn transact(connection: &mut Connection, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    if batch.iter().all(|job| job.is_abandoned()) {
        return Ok(());
    }
    // Locked from the start: what is read stays true until the commit, whoever else has the file open.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // A caller that has given up, be it while the file was locked, does not expect a write to happen after all.
    for job in batch.iter_mut().filter(|job| !job.is_abandoned()) {
        job.run(&transaction)?;
    }
    transaction.commit()
}

/// Takes the next job. One reader waits in the queue, the others for their turn to.
fn next(jobs: &Mutex<WaitingJobs>) -> Option<Box<dyn Job>> {
    let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
    jobs.blocking_recv()
}

fn read(connection: &Connection, mut job: Box<dyn Job>) {
    if job.is_abandoned() {
        return;
    }
    if let Err(error) = job.run(connection) {
        job.fail(&error);
    }
    job.answer();
}
