//! Records, and what the tests of a store in tables do with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use session_runtime::store::{Record, SetupError, Slot, Store, StoreError, Swapped};
use session_runtime::{Clock, Key, SessionId, SystemClock, Timestamp};
use session_tests::{Proxy, Tries};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

pub(crate) fn now() -> Timestamp {
    SystemClock::default().now()
}

pub(crate) fn session_key() -> Key {
    Key::from(&SessionId::generate().expect("random bytes"))
}

pub(crate) fn bytes(key: &Key) -> Vec<u8> {
    key.to_string().into_bytes()
}

pub(crate) fn slot(name: &str, payload: impl Into<Vec<u8>>) -> Arc<Slot> {
    Arc::new(Slot::new(name, payload.into(), None))
}

/// So many bytes that compression makes nothing of.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|_| rand::random()).collect()
}

/// A record that lives for an hour.
pub(crate) fn record(slots: impl IntoIterator<Item = Arc<Slot>>) -> Arc<Record> {
    Arc::new(Record::new(now(), now() + HOUR).with_slots(slots))
}

/// Makes what follows user 42: it never expires, and is in two rows.
pub(crate) async fn create_user(store: &impl Store) {
    let never = Timestamp::from_millis(i64::MAX);
    let slots = [slot("small", "1"), slot("large", noise(4 << 10))];
    let record = Arc::new(Record::new(now(), never).with_slots(slots));
    put(store, &Key::User("42".into()), None, &record).await;
}

/// Returns the SQL by which a chapter of `docs/stores.md` reads what follows user 42.
pub(crate) fn documented_sql(chapter: &str) -> &'static str {
    let docs = include_str!("../../docs/stores.md");
    let (_, chapter) = docs.split_once(chapter).expect("there is such a chapter");
    let (_, rest) = chapter
        .split_once("To read them:\n\n```sql\n")
        .expect("the docs have it");
    rest.split_once("```").expect("it ends").0
}

/// The next of `before`, with one slot set.
pub(crate) fn with(before: &Record, slot: Arc<Slot>) -> Arc<Record> {
    Arc::new(before.next().with_slots([slot]))
}

/// Finds the expiry in a record's stored form: after the format, the version and those before it. Two other times
/// and the reason for its end follow.
fn expiry_in(frame: &[u8]) -> usize {
    1 + 8 + 1 + 8 * usize::from(frame[9])
}

/// Makes the next version of a record, with another expiry.
pub(crate) fn expiring(before: &Record, expires: Timestamp) -> Arc<Record> {
    let mut frame = before.next().to_bytes();
    let at = expiry_in(&frame);
    frame[at..at + 8].copy_from_slice(&expires.as_millis().to_le_bytes());
    Arc::new(Record::from_bytes(&frame.into()).expect("a record"))
}

/// Makes what is left of a record that was revoked: until then.
pub(crate) fn tombstone(before: &Record, expires: Timestamp) -> Arc<Record> {
    const REVOKED: u8 = 5;
    let mut after = Arc::unwrap_or_clone(expiring(before, expires));
    for slot in before.slots() {
        after.remove(slot.name().as_str());
    }
    let mut frame = after.to_bytes();
    let at = expiry_in(&frame) + 24;
    frame[at] = REVOKED;
    let record = Record::from_bytes(&frame.into()).expect("a record");
    assert!(record.ended().is_some());
    Arc::new(record)
}

pub(crate) async fn put(
    store: &impl Store,
    key: &Key,
    before: Option<&Arc<Record>>,
    after: &Arc<Record>,
) {
    let swapped = store.swap(key, before, after).await.expect("an answer");
    assert_eq!(swapped, Swapped::Done);
}

/// Puts a record on top of `seen`, or of what somebody else has put there meanwhile: the server may still run what it was told to stop.
pub(crate) async fn put_on_top(store: &impl Store, key: &Key, mut seen: Arc<Record>) {
    loop {
        let after = Arc::new(seen.next());
        match store.swap(key, Some(&seen), &after).await {
            Ok(Swapped::Done) => return,
            Ok(Swapped::Stale(Some(found))) => seen = found,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn create(
    store: &impl Store,
    slots: impl IntoIterator<Item = Arc<Slot>>,
) -> (Key, Arc<Record>) {
    let (key, record) = (session_key(), record(slots));
    put(store, &key, None, &record).await;
    (key, record)
}

/// Asks for the same swap again while the answer is that it may succeed then, as the layer does.
pub(crate) async fn insist(
    store: &impl Store,
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

pub(crate) async fn loaded(store: &impl Store, key: &Key) -> Option<Arc<Record>> {
    loop {
        match store.load(key).await {
            Err(error) if error.is_transient() => pause().await,
            answer => return answer.expect("nothing but what passes"),
        }
    }
}

/// Has clients ask for what is locked, and leave before there is an answer, as the layer does at its deadline. Returns the most
/// `connections` that there were meanwhile.
pub(crate) async fn most_while_asked(
    store: &(impl Store + Clone),
    mut connections: impl AsyncFnMut() -> usize,
) -> usize {
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        clients.spawn(async move {
            for _ in 0..10 {
                let (key, new) = (session_key(), record([]));
                let late = Duration::from_millis(200);
                let load = timeout(late, store.load(&key)).await;
                assert!(!matches!(load, Ok(Ok(_))), "the table is locked");
                let swap = timeout(late, store.swap(&key, None, &new)).await;
                assert!(!matches!(swap, Ok(Ok(_))), "the table is locked");
            }
        });
    }
    let mut most = 0;
    while !clients.is_empty() {
        most = most.max(connections().await);
        pause().await;
        while let Some(left) = clients.try_join_next() {
            left.expect("they are not answered");
        }
    }
    most
}

/// Checks that a hundred clients who leave before there is an answer cost no connection. One may be given up on a machine that
/// stands still, but not each time.
pub(crate) async fn assert_leaving_is_free(store: &impl Store, key: &Key, proxy: &Proxy) {
    let (tries, mut cost) = (Tries::begin(), Vec::new());
    while cost.last() != Some(&0) {
        tries.go_on(&cost);
        proxy.traffic();
        let mut gone = 0;
        for _ in 0..2000 {
            if gone == 100 {
                break;
            }
            // Asked, and gone before the answer, unless that has come already.
            let mut load = Box::pin(store.load(key));
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(load.as_mut().poll(context).is_pending())
            });
            gone += usize::from(polled.await);
            drop(load);
            tokio::task::yield_now().await;
        }
        assert_eq!(gone, 100);
        assert!(store.load(key).await.unwrap().is_some());
        cost.push(proxy.traffic().connections);
    }
}

/// Checks that a load does not wait for a migration that was given up while it waited for a lock: that it does for five seconds.
pub(crate) async fn nobody_waits_for_what_was_given_up(
    store: &impl Store,
    migrate: impl AsyncFn() -> Result<(), SetupError>,
) {
    let (tries, mut took) = (Tries::begin(), Vec::new());
    while !took.iter().any(|took| *took < Duration::from_secs(4)) {
        tries.go_on(&took);
        let given_up = timeout(Duration::from_millis(200), migrate()).await;
        assert!(given_up.is_err());
        let begun = Instant::now();
        assert_eq!(store.load(&session_key()).await.unwrap(), None);
        took.push(begun.elapsed());
    }
}

pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

pub(crate) fn number(record: &Record, name: &str) -> usize {
    let Some(slot) = record.slot(name) else {
        return 0;
    };
    let text = std::str::from_utf8(slot.payload()).expect("text");
    text.parse().expect("a number")
}

/// Adds one to slot `n`, and to the slot `mine` that nobody else writes: so whoever finds another record there knows
/// whether a swap without an answer was applied.
pub(crate) async fn increment(store: &impl Store, key: &Key, mine: &str) {
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
pub(crate) async fn race(store: &(impl Store + Clone), tasks: usize, each: usize) {
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

/// Returns what the error says, and what it comes from.
pub(crate) fn text_of(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Writers that go on until told otherwise, and what they have been told is written.
pub(crate) struct Traffic {
    key: Key,
    acknowledged: Arc<AtomicUsize>,
    going_on: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    pub(crate) async fn start(store: &(impl Store + Clone)) -> Self {
        let (key, _) = create(store, [slot("n", "0")]).await;
        let (acknowledged, going_on) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(true)),
        );
        let tasks = (0..8)
            .map(|task| {
                let (store, key) = (store.clone(), key.clone());
                let (acknowledged, going_on) = (acknowledged.clone(), going_on.clone());
                tokio::spawn(async move {
                    while going_on.load(Ordering::Relaxed) {
                        increment(&store, &key, &format!("task-{task}")).await;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self {
            key,
            acknowledged,
            going_on,
            tasks,
        }
    }

    /// Waits until so many more are acknowledged.
    pub(crate) async fn flows(&self, more: usize) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + more;
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            pause().await;
        }
    }

    /// Ends it, and checks that each increment is there once.
    pub(crate) async fn end(self, store: &(impl Store + Clone)) {
        self.going_on.store(false, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("every increment is applied");
        }
        let record = loaded(store, &self.key).await.expect("it lives");
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        assert_eq!(number(&record, "n"), acknowledged);
    }
}

/// Finds that whoever loads a record while it is swapped again and again finds one version of it, whole.
pub(crate) async fn assert_no_load_tears<S: Store + Clone>(store: &S) {
    // All in one record say the same; what stands beside it comes and goes.
    let slots = |n: usize| {
        let text = format!("{n:04}").repeat(100);
        let beside = ["b", "c", "d"].map(|name| slot(name, text.as_bytes()));
        let beside = beside.into_iter().take(1 + n % 3);
        beside.chain([slot("a", format!("{n:04}"))])
    };
    let (key, mut before) = create(store, slots(0)).await;
    let writing = Arc::new(AtomicBool::new(true));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (store, key, writing) = (store.clone(), key.clone(), writing.clone());
            tokio::spawn(async move {
                while writing.load(Ordering::Relaxed) {
                    let found = store.load(&key).await.expect("it is whole");
                    let found = found.expect("it lives");
                    let n = number(&found, "a");
                    assert_eq!(found.slots(), record(slots(n)).slots());
                }
            })
        })
        .collect();
    for n in 1..300 {
        let mut after = before.next();
        for name in ["b", "c", "d"] {
            after.remove(name);
        }
        let after = Arc::new(after.with_slots(slots(n)));
        put(store, &key, Some(&before), &after).await;
        before = after;
    }
    writing.store(false, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("all that is read is whole");
    }
}

/// Returns what a URL that leads nowhere is refused with: all of it, and no password.
pub(crate) fn refusal<S>(url: &str, opened: Result<S, SetupError>, password: &str) -> String {
    let refused = opened.err();
    let said = format!(
        "{:?}",
        refused.unwrap_or_else(|| panic!("it is refused: {url}"))
    );
    assert!(!said.contains(password), "{said}");
    said
}

/// Checks that a record is kept and read, though so many calls that load it are given up before.
pub(crate) async fn is_served(store: &impl Store, given_up: usize) {
    let (key, record) = create(store, [slot("a", "1")]).await;
    for _ in 0..given_up {
        drop(timeout(Duration::from_micros(300), store.load(&key)).await);
    }
    assert_eq!(store.load(&key).await.expect("an answer"), Some(record));
}
