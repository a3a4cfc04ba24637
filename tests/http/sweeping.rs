//! Sweeping beside requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use session_runtime::store::{SqliteStore, Store};
use session_runtime::testing::TestClock;
use session_runtime::{Change, Clock, Committed, Expiry, Key, Kind, SessionId, Slot, SlotChange};
use session_tests::{PostgresServer, multiply_in_postgres, multiply_in_sqlite, times};

const LIVE: usize = 64;

/// As many as one batch may have.
const BATCH: usize = 1_000;

fn expired() -> usize {
    20_000 * times()
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeping_sqlite_disturbs_no_request_and_touches_no_live_record() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("sessions.db");
    let clock = TestClock::new();
    let options = SqliteStore::options().clock(clock.clone());
    let store = options.open(&file).expect("a file");
    let key = lapsing(&store, &clock).await;
    multiply_in_sqlite(&file, &key, expired());
    sweep_beside_requests(&store, &clock).await;
    let sqlite = rusqlite::Connection::open(&file).expect("a file");
    let left = "SELECT count(*) FROM records";
    let left: i64 = sqlite.query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(usize::try_from(left), Ok(LIVE));
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeping_postgres_disturbs_no_request_and_touches_no_live_record() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let clock = TestClock::new();
    let options = server.options(clock.clone()).schema("sweeping");
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let client = server.client().await;
    let key = lapsing(&store, &clock).await;
    multiply_in_postgres(&client, "sweeping", &key, expired()).await;
    sweep_beside_requests(&store, &clock).await;
    for table in ["sessions", "sessions_slots"] {
        let left = format!("SELECT count(*) FROM sweeping.{table}");
        let left: i64 = client.query_one(&left, &[]).await.unwrap().get(0);
        assert_eq!(usize::try_from(left), Ok(LIVE), "{table}");
    }
}

/// A record that expires in a moment.
async fn lapsing(store: &impl Store, clock: &TestClock) -> Key {
    create(store, clock, Duration::from_millis(1)).await
}

async fn create(store: &impl Store, clock: &TestClock, ttl: Duration) -> Key {
    let key = Key::from(&SessionId::generate().expect("random bytes"));
    let change = Change {
        slots: vec![SlotChange::set(None, slot(0))],
        expiry: Expiry::Set(clock.now() + ttl),
        ..Change::new(Kind::Create, clock.now())
    };
    apply(store, &key, &change).await;
    key
}

async fn apply(store: &impl Store, key: &Key, change: &Change) {
    let committed = store.commit(key, change).await.expect("an answer");
    assert_eq!(committed, Committed::Applied);
}

fn slot(n: usize) -> Arc<Slot> {
    Arc::new(Slot::new("n", n.to_string(), None))
}

/// Two instances sweep at once, while every live session is written all the time.
async fn sweep_beside_requests<S: Store + Clone>(store: &S, clock: &TestClock) {
    clock.advance(Duration::from_millis(1));
    let sweeping = Arc::new(AtomicBool::new(true));
    let mut writers = Vec::new();
    for _ in 0..LIVE {
        let key = create(store, clock, Duration::from_secs(3_600)).await;
        let writer = write(store.clone(), clock.clone(), key.clone(), sweeping.clone());
        writers.push((key, tokio::spawn(writer)));
    }
    let (one, other) = tokio::join!(sweep(store), sweep(store));
    sweeping.store(false, Ordering::Relaxed);
    assert_eq!(one + other, expired());
    for (key, writer) in writers {
        let written = writer.await.expect("every change is applied");
        assert!(written > 0, "a writer was held up all the while");
        let record = store.load(&key).await.unwrap().expect("it lives");
        let [found] = record.slots() else {
            panic!("one slot: {record:?}");
        };
        assert_eq!(found.payload(), slot(written).payload());
    }
}

/// Writes all the while, a change of its own: whatever is not applied has been disturbed. Returns how often.
async fn write(store: impl Store, clock: TestClock, key: Key, sweeping: Arc<AtomicBool>) -> usize {
    let mut n = 0;
    while sweeping.load(Ordering::Relaxed) {
        let change = Change {
            slots: vec![SlotChange::set(Some(slot(n)), slot(n + 1))],
            ..Change::new(Kind::Update, clock.now())
        };
        apply(&store, &key, &change).await;
        n += 1;
    }
    n
}

/// Sweeps until nothing is left, in batches, and returns how many have gone.
async fn sweep(store: &impl Store) -> usize {
    let mut total = 0;
    loop {
        let swept = store.sweep(BATCH).await.expect("an answer");
        assert!(swept.deleted <= BATCH);
        assert_eq!(swept.expired.len(), swept.deleted);
        total += swept.deleted;
        if swept.deleted == 0 {
            return total;
        }
    }
}
