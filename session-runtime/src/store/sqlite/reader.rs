//! The threads that read.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::fault::store_error;
use super::job::Job;
use super::table;
use crate::error::StoreError;
use crate::key::{Key, UserId};
use crate::record::Record;

/// What a reader is asked for.
pub(super) enum Read {
    Load(Job<Key, Option<Arc<Record>>>),
    OwnedBy(Job<UserId, Vec<Key>>),
}

/// Starts a thread for each connection. They end when nobody can ask any more.
pub(super) fn start(connections: Vec<Connection>, queue: mpsc::Receiver<Read>) -> io::Result<()> {
    let queue = Arc::new(Mutex::new(queue));
    for connection in connections {
        let queue = Arc::clone(&queue);
        let serve = move || {
            while let Some(read) = next(&queue) {
                answer(&connection, read);
            }
        };
        thread::Builder::new()
            .name("session-read".to_owned())
            .spawn(serve)?;
    }
    Ok(())
}

/// One reader waits in the queue, the others for their turn to.
fn next(queue: &Mutex<mpsc::Receiver<Read>>) -> Option<Read> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .blocking_recv()
}

fn answer(connection: &Connection, read: Read) {
    match read {
        Read::Load(job) => serve(job, |key| {
            table::record(connection, key).map_err(StoreError::from)
        }),
        Read::OwnedBy(job) => serve(job, |owner| {
            table::owned_by(connection, owner).map_err(|error| store_error(&error))
        }),
    }
}

fn serve<Q, A>(mut job: Job<Q, A>, read: impl FnOnce(&Q) -> Result<A, StoreError>) {
    if !job.is_abandoned() {
        job.answer = Some(read(&job.question));
        job.send();
    }
}
