//! What PostgreSQL is asked, and what it may do to a store: what the suite of promises does not ask of every store.

use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::{PostgresStore, Store, StoreError};
use session_runtime::{
    Change, Clock, Committed, Expiry, Key, Kind, SessionId, Slot, SlotChange, SystemClock,
    Timestamp, testing,
};
use session_tests::PostgresServer;

mod faults;
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

fn now() -> Timestamp {
    SystemClock::default().now()
}

fn session_key() -> Key {
    Key::from(&SessionId::generate().expect("random bytes"))
}

fn slot(name: &str, payload: impl Into<Vec<u8>>) -> Slot {
    Slot::new(name, payload.into(), None)
}

fn set(base: Option<&Slot>, to: &Slot) -> SlotChange {
    SlotChange::set(base.cloned().map(Arc::new), Arc::new(to.clone()))
}

fn update(slots: impl IntoIterator<Item = SlotChange>) -> Change {
    Change {
        slots: slots.into_iter().collect(),
        ..Change::new(Kind::Update, now())
    }
}

/// A create that lives for an hour.
fn creation(slots: &[Slot]) -> Change {
    Change {
        slots: slots.iter().map(|slot| set(None, slot)).collect(),
        expiry: Expiry::Set(now() + HOUR),
        ..Change::new(Kind::Create, now())
    }
}

async fn apply(store: &PostgresStore, key: &Key, change: &Change) {
    let committed = store.commit(key, change).await.expect("an answer");
    assert_eq!(committed, Committed::Applied);
}

async fn create(store: &PostgresStore, slots: &[Slot]) -> Key {
    let key = session_key();
    apply(store, &key, &creation(slots)).await;
    key
}

/// Asks again under the same id while the answer is that it may succeed if asked again, as the layer does.
async fn insist(store: &PostgresStore, key: &Key, change: &Change) -> Committed {
    loop {
        match store.commit(key, change).await {
            Err(error) if error.is_transient() => pause().await,
            answer => return answer.expect("nothing but what passes"),
        }
    }
}

async fn loaded(store: &PostgresStore, key: &Key) -> Option<Arc<session_runtime::Record>> {
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

/// Adds one to slot `n`, from whatever it is now, until that is applied.
async fn increment(store: &PostgresStore, key: &Key) {
    let mut record = loaded(store, key).await.expect("a record");
    loop {
        let base = record.slot("n").expect("a slot");
        let next = slot("n", (number(base) + 1).to_string());
        match insist(store, key, &update([set(Some(base), &next)])).await {
            Committed::Conflict(newer) => record = newer,
            committed => return assert_eq!(committed, Committed::Applied),
        }
    }
}

fn number(slot: &Slot) -> usize {
    let text = std::str::from_utf8(slot.payload()).expect("text");
    text.parse().expect("a number")
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
