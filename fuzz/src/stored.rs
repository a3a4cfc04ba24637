//! Records that stores read back when somebody has edited what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use rusqlite::types::Value;
use rusqlite::{Connection, params};
use session_runtime::store::{Record, RedisStore, Slot, SqliteStore, Store, StoreError};
use session_runtime::{Clock, Key, SystemClock};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};

use super::targets::run;

/// How long an answer may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The names of a head where it is one of several values: in Redis, and in SQL servers.
const HEADS: [&[u8]; 2] = [b"head", b"\xff"];

/// A record's head, and what stands beside it under a name.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) head: Vec<u8>,
    pub(crate) beside: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Held {
    /// Edits it as the bytes say. Returns `true` if the head is as it was.
    pub(crate) fn edit(&mut self, mut bytes: &[u8]) -> bool {
        let head = self.head.clone();
        while let [what, which, length, rest @ ..] = bytes {
            let (text, rest) = rest.split_at(rest.len().min((*length).into()));
            bytes = rest;
            let which = usize::from(*which);
            let name = self.beside.keys().nth(which % self.beside.len().max(1));
            let name = name.cloned().unwrap_or_default();
            let free = !HEADS.contains(&text) && !self.beside.contains_key(text);
            match what % 6 {
                0 => self.head = text.to_vec(),
                1 => {
                    let at = which * self.head.len() / 256;
                    if let Some(byte) = self.head.get_mut(at) {
                        *byte ^= length;
                    }
                }
                2 => drop(self.beside.remove(&name)),
                3 => self.beside.entry(name).or_default().truncate(text.len()),
                4 if free => drop(self.beside.insert(text.to_vec(), text.to_vec())),
                5 if free => {
                    let payload = self.beside.remove(&name).unwrap_or_default();
                    self.beside.insert(text.to_vec(), payload);
                }
                _ => {}
            }
        }
        head == self.head
    }
}

pub(crate) fn key() -> Key {
    Key::User("ada".into())
}

/// A record whose larger payloads stand beside it.
pub(crate) fn written() -> Arc<Record> {
    let now = SystemClock::default().now();
    let slot = |(name, size)| Arc::new(Slot::new(name, format!("\"{}\"", "x".repeat(size)), None));
    let slots = [("a", 10), ("b", 1_000), ("c", 3_000)].map(slot);
    Arc::new(Record::new(now, now).with_slots(slots))
}

/// Checks that the record which was written is read, unless its head was edited, or else none.
pub(crate) fn check(
    read: Result<Option<Arc<Record>>, StoreError>,
    written: &Record,
    is_head_kept: bool,
) {
    match read {
        Ok(read) => {
            let read = read.expect("there is a record");
            assert!(!is_head_kept || *read == *written, "another record");
            let again = Record::from_bytes(&Bytes::from(read.to_bytes()));
            assert_eq!(again.ok().as_ref(), Some(&*read));
        }
        Err(error) => assert!(!error.is_transient(), "{error:?}"),
    }
}

/// Reads rows of a table that hold anything: they are no other record than was written.
pub fn rows(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("db");
    run(async {
        let (store, written) = (SqliteStore::open(&file).expect("a store"), written());
        store.swap(&key(), None, &written).await.expect("a swap");
        let is_head_kept = edit_rows(&file, bytes).expect("a file");
        check(store.load(&key()).await, &written, is_head_kept);
    });
}

fn edit_rows(file: &std::path::Path, bytes: &[u8]) -> rusqlite::Result<bool> {
    let connection = Connection::open(file)?;
    connection.execute_batch("PRAGMA synchronous = OFF; BEGIN")?;
    let head = "SELECT head FROM records";
    let mut kept = Held {
        head: connection.query_row(head, [], |row| row.get(0))?,
        ..Held::default()
    };
    let mut select = connection.prepare("SELECT name, payload FROM payloads")?;
    let beside = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    for row in beside {
        let (name, payload) = row?;
        kept.beside.insert(name.into_bytes(), payload);
    }
    let is_head_kept = kept.edit(bytes);
    connection.execute("UPDATE records SET head = ?1", [&kept.head])?;
    connection.execute("DELETE FROM payloads", [])?;
    for (name, payload) in kept.beside {
        let name =
            String::from_utf8(name).map_or_else(|name| Value::Blob(name.into_bytes()), Value::Text);
        let insert = "INSERT INTO payloads SELECT id, ?1, ?2 FROM records";
        connection.execute(insert, params![name, payload])?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(is_head_kept)
}

/// Reads any fields of a Redis server: they are no other record than was written.
pub fn redis(bytes: &[u8]) {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let client = redis::Client::open(format!("redis://{address}")).expect("a URL");
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let manager = ConnectionManager::new_lazy_with_config(client, config).expect("a client");
        let (store, written) = (
            RedisStore::options().timeout(PATIENCE).over(manager),
            written(),
        );
        let asks = async {
            store.swap(&key(), None, &written).await.expect("a swap");
            store.load(&key()).await
        };
        let serves = async {
            let (stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("a socket");
            serve(BufStream::new(stream), bytes).await
        };
        let (read, is_head_kept) = tokio::join!(asks, serves);
        check(read, &written, is_head_kept);
    });
}

/// A server that keeps one record, and hands it out edited. Returns `true` if its head is as it was.
async fn serve(mut stream: BufStream<TcpStream>, bytes: &[u8]) -> bool {
    let (mut kept, mut is_head_kept) = (Held::default(), true);
    loop {
        let command = command(&mut stream).await;
        let answer = match &*command[0] {
            b"EVALSHA" | b"EVAL" => {
                let fields = command
                    .iter()
                    .position(|part| part == b"v")
                    .expect("fields");
                for field in command[fields..].chunks(2) {
                    kept.beside.insert(field[0].clone(), field[1].clone());
                }
                kept.head = kept.beside.remove(&b"head"[..]).expect("a head");
                is_head_kept = kept.edit(bytes);
                b":1\r\n".to_vec()
            }
            b"HGETALL" => {
                let head = (b"head".to_vec(), kept.head.clone());
                let fields: Vec<_> = kept.beside.clone().into_iter().chain([head]).collect();
                let mut answer = format!("*{}\r\n", 2 * fields.len()).into_bytes();
                for text in fields.iter().flat_map(|(name, value)| [name, value]) {
                    answer.extend(format!("${}\r\n", text.len()).into_bytes());
                    answer.extend([text, &b"\r\n"[..]].concat());
                }
                answer
            }
            _ => b"+OK\r\n".to_vec(),
        };
        stream.write_all(&answer).await.expect("a client");
        stream.flush().await.expect("a client");
        if command[0] == b"HGETALL" {
            return is_head_kept;
        }
    }
}

/// Reads a command: its parts.
async fn command(stream: &mut BufStream<TcpStream>) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for _ in 0..number(stream).await {
        let mut part = vec![0; number(stream).await + 2];
        stream.read_exact(&mut part).await.expect("a command");
        part.truncate(part.len() - 2);
        parts.push(part);
    }
    parts
}

/// Reads the number of a line, behind the sign that it begins with.
async fn number(stream: &mut BufStream<TcpStream>) -> usize {
    let mut line = String::new();
    stream.read_line(&mut line).await.expect("a command");
    line[1..].trim().parse().expect("a number")
}
