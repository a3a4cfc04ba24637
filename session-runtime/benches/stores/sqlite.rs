//! SQLite: a row for each session, and one connection for all, on whatever thread asks.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, params};
use session_runtime::Key;

use super::{Contender, whole};

#[derive(Clone)]
pub(super) struct Raw(Arc<Mutex<Connection>>);

impl Raw {
    pub(super) fn open(path: &Path) -> Self {
        let connection = Connection::open(path).expect("a file");
        let make = "PRAGMA journal_mode = wal; PRAGMA synchronous = full;
            CREATE TABLE raw (key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, expires INTEGER NOT NULL)";
        connection.execute_batch(make).expect("a table");
        Self(Arc::new(Mutex::new(connection)))
    }

    async fn run(&self, work: impl FnOnce(&Connection) -> usize + Send + 'static) {
        let connection = Arc::clone(&self.0);
        let work = move || work(&connection.lock().expect("nobody panics"));
        let done = tokio::task::spawn_blocking(work).await;
        assert_eq!(done.expect("nobody panics"), 1);
    }
}

impl Contender for Raw {
    type Seen = ();

    async fn create(&self, key: &Key) {
        let key = key.to_string();
        let insert = "INSERT INTO raw VALUES (?1, ?2, 0)";
        self.run(move |sqlite| {
            let mut insert = sqlite.prepare_cached(insert).expect("it parses");
            insert
                .execute(params![key, whole(0)])
                .expect("it is written")
        })
        .await;
    }

    async fn load(&self, key: &Key) {
        let key = key.to_string();
        let select = "SELECT value FROM raw WHERE key = ?1";
        self.run(move |sqlite| {
            let mut select = sqlite.prepare_cached(select).expect("it parses");
            let value: Vec<u8> = select
                .query_row([key], |row| row.get(0))
                .expect("it is there");
            usize::from(!value.is_empty())
        })
        .await;
    }

    async fn swap(&self, key: &Key, (): &mut (), n: u32) {
        let key = key.to_string();
        let update = "UPDATE raw SET value = ?2 WHERE key = ?1";
        self.run(move |sqlite| {
            let mut update = sqlite.prepare_cached(update).expect("it parses");
            update
                .execute(params![key, whole(n)])
                .expect("it is written")
        })
        .await;
    }
}
