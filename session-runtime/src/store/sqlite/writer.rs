//! The thread that writes, and what a commit is in terms of the tables.

use std::io;
use std::mem;
use std::thread;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::mpsc;

use super::fault::{Fault, store_error};
use super::job::Job;
use super::table::{self, Held};
use crate::change::{Change, Committed, Kind};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::{Key, UserId};
use crate::record::{Record, State};
use crate::store::Swept;
use crate::store::remembered::Remembered;
use crate::store::token::Token;

/// How many calls share a transaction at most. More would gain little and make the first wait for the last.
const BATCH: usize = 256;

/// What the writer is asked for.
pub(super) enum Write {
    Commit(Job<Box<(Key, Change)>, Committed>),
    Sweep(Job<(Timestamp, usize), Swept>),
}

impl Write {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Commit(job) => job.is_abandoned(),
            Self::Sweep(job) => job.is_abandoned(),
        }
    }

    /// The app's time, if it comes with one.
    fn now(&self) -> Option<Timestamp> {
        match self {
            Self::Commit(job) => Some(job.question.1.now),
            Self::Sweep(_) => None,
        }
    }

    fn fail(&mut self, error: StoreError) {
        match self {
            Self::Commit(job) => job.answer = Some(Err(error)),
            Self::Sweep(job) => job.answer = Some(Err(error)),
        }
    }

    fn send(self) {
        match self {
            Self::Commit(job) => job.send(),
            Self::Sweep(job) => job.send(),
        }
    }
}

/// Starts the thread. It ends when nobody can ask any more and all that was asked is done.
pub(super) fn start(connection: Connection, mut queue: mpsc::Receiver<Write>) -> io::Result<()> {
    let mut writer = Writer {
        connection,
        recent: Recent::default(),
    };
    let serve = move || {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            // Whoever has given up would not learn of it, and comes again under the same id.
            batch.retain(|write| !write.is_abandoned());
            if !batch.is_empty() {
                writer.write(&mut batch);
            }
            batch.drain(..).for_each(Write::send);
        }
    };
    thread::Builder::new()
        .name("session-write".to_owned())
        .spawn(serve)?;
    Ok(())
}

struct Writer {
    connection: Connection,
    recent: Recent,
}

impl Writer {
    /// Writes the batch in one transaction. If that fails, it writes each by itself, so that one which cannot
    /// be written does not stop the others.
    fn write(&mut self, batch: &mut [Write]) {
        let Err(error) = self.transact(batch) else {
            return;
        };
        let locked = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        if locked || batch.len() < 2 {
            for write in batch {
                write.fail(store_error(&error));
            }
            return;
        }
        tracing::warn!(%error, writes = batch.len(), "a batch could not be written: writing one by one");
        batch.chunks_mut(1).for_each(|one| self.write(one));
    }

    fn transact(&mut self, batch: &mut [Write]) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(now) = batch.iter().filter_map(Write::now).max() {
            self.recent.catch_up(&transaction, now)?;
        }
        let mut applied = Vec::new();
        for write in batch {
            perform(&transaction, &self.recent, &mut applied, write)?;
        }
        let last = self.recent.keep(&transaction, &applied)?;
        transaction.commit()?;
        self.recent.add(applied, last);
        Ok(())
    }
}

/// The commits of the last minute: those of this process, and what others have left in the file.
#[derive(Default)]
struct Recent {
    remembered: Remembered,
    /// The last batch that is remembered.
    last: i64,
    /// The last batch of the generation before the current one.
    previous: i64,
    /// The last batch that may be deleted.
    forgotten: i64,
}

impl Recent {
    /// Takes in what other processes have committed since.
    fn catch_up(&mut self, connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        if self.remembered.forget(now).is_some() {
            self.forgotten = mem::replace(&mut self.previous, self.last);
        }
        self.last =
            table::commits_since(connection, self.last, |token| self.remembered.insert(token))?;
        Ok(())
    }

    /// Writes down what is to be remembered, and says in which batch.
    fn keep(&self, connection: &Connection, applied: &[Token]) -> rusqlite::Result<i64> {
        if applied.is_empty() {
            return Ok(self.last);
        }
        table::forget_commits(connection, self.forgotten)?;
        table::keep_commits(connection, applied)
    }

    fn add(&mut self, applied: Vec<Token>, last: i64) {
        for token in applied {
            self.remembered.insert(token);
        }
        self.last = last;
    }
}

/// Does what is asked and notes the answer. An error is one of the whole transaction.
fn perform(
    connection: &Connection,
    recent: &Recent,
    applied: &mut Vec<Token>,
    write: &mut Write,
) -> rusqlite::Result<()> {
    match write {
        Write::Commit(job) => {
            let (key, change) = &*job.question;
            let token = Token::new(key, change.id);
            let repeated = recent.remembered.has(token) || applied.contains(&token);
            let outcome = if repeated {
                Ok(Committed::Applied)
            } else {
                commit(connection, key, change)
            };
            if !repeated && matches!(outcome, Ok(Committed::Applied)) {
                applied.push(token);
            }
            note(job, outcome)
        }
        Write::Sweep(job) => {
            let (cutoff, limit) = job.question;
            job.answer = Some(Ok(table::sweep(connection, cutoff, limit)?));
            Ok(())
        }
    }
}

/// Notes what came of a commit. A record that cannot be read is a matter of that commit alone.
fn note<Q, A>(job: &mut Job<Q, A>, outcome: Result<A, Fault>) -> rusqlite::Result<()> {
    job.answer = Some(match outcome {
        Ok(answer) => Ok(answer),
        Err(Fault::Record(error)) => Err(error),
        Err(Fault::Sqlite(error)) => return Err(error),
    });
    Ok(())
}

/// Reads all it needs before it writes, so that a record which cannot be read leaves nothing half done.
fn commit(connection: &Connection, key: &Key, change: &Change) -> Result<Committed, Fault> {
    let held = table::held(connection, key)?;
    if let Some(refusal) = change.decide(held.as_ref().map(|held| &held.record)) {
        return Ok(refusal);
    }
    let retired = retired(connection, change)?;
    let (record, owner) = (changed(change, held.as_ref()), owner(change, held.as_ref()));
    match (&change.kind, change.tombstone()) {
        (Kind::Move(to, _), Some(tombstone)) => {
            let taken = table::held(connection, to)?;
            if taken
                .as_ref()
                .is_some_and(|taken| taken.record.is_live(change.now))
            {
                return Ok(Committed::Exists);
            }
            table::put(connection, to, taken.as_ref(), &record, owner)?;
            table::put(connection, key, held.as_ref(), &tombstone, None)?;
        }
        (_, Some(tombstone)) => table::put(connection, key, held.as_ref(), &tombstone, None)?,
        (_, None) => table::put(connection, key, held.as_ref(), &record, owner)?,
    }
    if let Some((key, held, record)) = &retired {
        table::put(connection, key, Some(held), record, held.owner())?;
    }
    Ok(Committed::Applied)
}

/// The record that the change makes of the one held, or of none.
fn changed(change: &Change, held: Option<&Held>) -> Record {
    let mut record = match held {
        Some(held) if change.kind != Kind::Create => Record::clone(&held.record),
        _ => Record::new(change.now, change.now),
    };
    change.apply(&mut record);
    record
}

fn owner<'a>(change: &'a Change, held: Option<&'a Held>) -> Option<&'a UserId> {
    let kept = held
        .filter(|_| change.kind != Kind::Create)
        .and_then(Held::owner);
    change.owner.as_ref().or(kept)
}

/// The moved record whose time the change cuts short, if there is one.
fn retired<'a>(
    connection: &Connection,
    change: &'a Change,
) -> Result<Option<(&'a Key, Held, Record)>, Fault> {
    let Some((key, until)) = &change.retire else {
        return Ok(None);
    };
    let Some(held) = table::held(connection, key)? else {
        return Ok(None);
    };
    if !matches!(held.record.state, State::Moved(_)) || held.record.expires <= *until {
        return Ok(None);
    }
    let mut record = Record::clone(&held.record);
    record.expires = *until;
    Ok(Some((key, held, record)))
}
