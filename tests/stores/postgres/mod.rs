//! What PostgreSQL is asked, and what it may do to a store: what the suite of promises does not ask of every store.

use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::{PostgresStore, Record, Slot, Store, StoreError, Swapped};
use session_runtime::{Clock, Key, SessionId, SystemClock, Timestamp, testing};
use session_tests::PostgresServer;
use tokio_postgres::Client;

mod doubt;
mod faults;
mod http_contended;
mod pgbouncer;
mod pool;
mod setup;
mod sweeping;
mod wire;

#[tokio::test(flavor = "multi_thread")]
async fn the_postgres_store_keeps_every_promise() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    testing::conformance(async |clock| server.store(clock).await).await;
}

// What all of them share.

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Every isolation level that PostgreSQL knows, as it stands in a URL: it is split by the URL, and then by the server.
const ISOLATIONS: [&str; 3] = [
    "read%5C%20committed",
    "repeatable%5C%20read",
    "serializable",
];

fn now() -> Timestamp {
    SystemClock::default().now()
}

fn session_key() -> Key {
    Key::from(&SessionId::generate().expect("random bytes"))
}

fn bytes(key: &Key) -> Vec<u8> {
    key.to_string().into_bytes()
}

fn slot(name: &str, payload: impl Into<Vec<u8>>) -> Arc<Slot> {
    Arc::new(Slot::new(name, payload.into(), None))
}

/// So many bytes that compression makes nothing of.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|_| rand::random()).collect()
}

/// A record that lives for an hour.
fn record(slots: impl IntoIterator<Item = Arc<Slot>>) -> Arc<Record> {
    Arc::new(Record::new(now(), now() + HOUR).with_slots(slots))
}

/// The next of `before`, with one slot set.
fn with(before: &Record, slot: Arc<Slot>) -> Arc<Record> {
    Arc::new(before.next().with_slots([slot]))
}

async fn put(store: &PostgresStore, key: &Key, before: Option<&Arc<Record>>, after: &Arc<Record>) {
    let swapped = store.swap(key, before, after).await.expect("an answer");
    assert_eq!(swapped, Swapped::Done);
}

async fn create(
    store: &PostgresStore,
    slots: impl IntoIterator<Item = Arc<Slot>>,
) -> (Key, Arc<Record>) {
    let (key, record) = (session_key(), record(slots));
    put(store, &key, None, &record).await;
    (key, record)
}

/// Asks for the same swap again while the answer is that it may succeed then, as the layer does.
async fn insist(
    store: &PostgresStore,
    key: &Key,
    before: Option<&Arc<Record>>,
    after: &Arc<Record>,
) -> Swapped {
    loop {
        match store.swap(key, before, after).await {
            Err(error) if error.is_transient() => pause().await,
            answer => return answer.expect("nothing but what passes"),
        }
    }
}

async fn loaded(store: &PostgresStore, key: &Key) -> Option<Arc<Record>> {
    loop {
        match store.load(key).await {
            Err(error) if error.is_transient() => pause().await,
            answer => return answer.expect("nothing but what passes"),
        }
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

fn number(record: &Record, name: &str) -> usize {
    let Some(slot) = record.slot(name) else {
        return 0;
    };
    let text = std::str::from_utf8(slot.payload()).expect("text");
    text.parse().expect("a number")
}

/// Adds one to slot `n`, and to the slot `mine` that nobody else writes: so whoever finds another record there knows
/// whether a swap without an answer was applied.
async fn increment(store: &PostgresStore, key: &Key, mine: &str) {
    let mut before = loaded(store, key).await.expect("a record");
    loop {
        let of_mine = number(&before, mine) + 1;
        let n = (number(&before, "n") + 1).to_string();
        let after = with(
            &with(&before, slot("n", n)),
            slot(mine, of_mine.to_string()),
        );
        match insist(store, key, Some(&before), &after).await {
            Swapped::Done => return,
            Swapped::Stale(there) => before = there.expect("it lives"),
        }
        if number(&before, mine) == of_mine {
            return;
        }
    }
}

/// Has so many tasks increment one record so often each, and checks that each increment is there once.
async fn race(store: &PostgresStore, tasks: usize, each: usize) {
    let (key, _) = create(store, [slot("n", "0")]).await;
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                for _ in 0..each {
                    increment(&store, &key, &format!("task-{task}")).await;
                }
                each
            })
        })
        .collect();
    let mut all = 0;
    for task in tasks {
        all += task.await.expect("every increment is applied");
    }
    let record = loaded(store, &key).await.expect("it lives");
    assert_eq!(number(&record, "n"), all);
}

/// What the error says, and what it comes from.
fn text_of(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

async fn store_in(server: &PostgresServer, schema: &str) -> PostgresStore {
    store_with(server, schema, "").await
}

/// The same, with parameters of the connection, as they stand in a URL.
async fn store_with(server: &PostgresServer, schema: &str, parameters: &str) -> PostgresStore {
    let options = server.options(SystemClock::default()).schema(schema);
    let url = server.url() + parameters;
    let store = options.connect(&url).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    store
}

/// Waits until somebody waits for what `client` has locked.
async fn somebody_waits_for(server: &PostgresServer, client: &Client) {
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = pid.unwrap().get(0);
    let watcher = server.client().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
    session_tests::wait_for("somebody waits", async || {
        let row = watcher.query_one(waiting, &[&pid]).await.unwrap();
        row.get::<_, i64>(0) > 0
    })
    .await;
}
