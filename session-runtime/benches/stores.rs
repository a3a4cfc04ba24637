//! What a store does in a second, beside its raw client doing the least that could do the job.
//!
//! ```sh
//! cargo bench -p session-tests --bench stores             # all stores whose servers this machine has
//! cargo bench -p session-tests --bench stores -- postgres # one of them
//! ```
//!
//! Servers are private ones, with the settings that they come with. Store and raw client take turns, round by round, so
//! that a machine whose speed drifts treats them alike; a figure is the median of the rounds. The raw client knows no
//! conflict, no repeat and no expiry: it reads and writes the whole session as one value.
//!
//! A swap changes one small field. It does not extend the session: an app does that at most once in a tenth of the idle
//! lifetime.

#![allow(missing_docs, clippy::print_stdout)]

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use session_runtime::store::{MemoryStore, Record, Slot, SqliteStore, Store, Swapped};
use session_runtime::{Clock, Key, SessionId, SystemClock};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

#[path = "stores/mysql.rs"]
mod mysql;
#[path = "stores/postgres.rs"]
mod postgres;
#[path = "stores/redis.rs"]
mod redis;
#[path = "stores/sqlite.rs"]
mod sqlite;

/// How many calls are under way at once.
const TASKS: [usize; 3] = [1, 16, 64];

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(400);

/// Sessions that each task has to itself, so that nothing conflicts: that is another benchmark's matter.
const SESSIONS: usize = 8;

/// Longer than all of it takes.
const TTL: Duration = Duration::from_secs(7_200);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Load,
    Swap,
    Create,
}

/// Whoever does it.
trait Contender: Clone + Send + Sync + 'static {
    /// What a request knows of a session when it comes to write it.
    type Seen: Send + 'static;

    fn create(&self, key: &Key) -> impl Future<Output = Self::Seen> + Send;
    fn load(&self, key: &Key) -> impl Future<Output = ()> + Send;
    /// Changes one field; `n` counts the changes of this session.
    fn swap(&self, key: &Key, seen: &mut Self::Seen, n: u32) -> impl Future<Output = ()> + Send;
}

fn main() {
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    println!(
        "{:<10} {:<7} {:>5} {:>10} {:>9} {:>10} {:>9} {:>6}",
        "store", "work", "tasks", "per s", "µs", "raw per s", "raw µs", "ratio"
    );
    if wanted("memory") {
        // Nothing is swept meanwhile.
        let store = MemoryStore::new().with_capacity_bytes(4 << 30);
        let store = Ours(Arc::new(store));
        compare(&runtime, "memory", &store, None::<&Ours<MemoryStore>>);
    }
    if wanted("sqlite") {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let store = SqliteStore::open(folder.path().join("sessions.db")).expect("a file");
        let raw = sqlite::Raw::open(&folder.path().join("raw.db"));
        compare(&runtime, "sqlite", &Ours(Arc::new(store)), Some(&raw));
    }
    if wanted("redis")
        && let Some((_server, store, raw)) = runtime.block_on(redis::contenders())
    {
        compare(&runtime, "redis", &Ours(store), Some(&raw));
    }
    if wanted("postgres")
        && let Some((_server, store, raw)) = runtime.block_on(postgres::contenders())
    {
        compare(&runtime, "postgres", &Ours(store), Some(&raw));
    }
    if wanted("mysql")
        && let Some((_server, store, raw)) = runtime.block_on(mysql::contenders())
    {
        compare(&runtime, "mysql", &Ours(store), Some(&raw));
    }
}

/// Has both do everything, and prints what came of it.
fn compare(runtime: &Runtime, name: &str, ours: &impl Contender, raw: Option<&impl Contender>) {
    let mut of_ours = runtime.block_on(Field::new(ours));
    let mut of_raw = raw.map(|raw| runtime.block_on(Field::new(raw)));
    for work in [Work::Load, Work::Swap, Work::Create] {
        for tasks in TASKS {
            let (mut rates, mut raw_rates) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                rates.push(runtime.block_on(of_ours.round(work, tasks)));
                if let Some(raw) = &mut of_raw {
                    raw_rates.push(runtime.block_on(raw.round(work, tasks)));
                }
            }
            let rate = median(&mut rates);
            print!(
                "{name:<10} {:<7} {tasks:>5} {rate:>10.0} {:>9.1}",
                format!("{work:?}"),
                micros(tasks, rate)
            );
            if !raw_rates.is_empty() {
                let raw = median(&mut raw_rates);
                print!(
                    " {raw:>10.0} {:>9.1} {:>6.2}",
                    micros(tasks, raw),
                    rate / raw
                );
            }
            println!();
        }
    }
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Returns what a call takes, from its caller's point of view.
#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn micros(tasks: usize, rate: f64) -> f64 {
    tasks as f64 * 1e6 / rate
}

/// A contender, and the sessions of each task.
struct Field<C: Contender> {
    contender: C,
    tasks: Vec<Sessions<C>>,
}

/// A task's sessions, and how often each has been changed.
struct Sessions<C: Contender> {
    seen: Vec<(Key, C::Seen)>,
    changes: u32,
}

impl<C: Contender> Field<C> {
    async fn new(contender: &C) -> Self {
        let mut making = JoinSet::new();
        for _ in 0..TASKS.into_iter().max().unwrap_or_default() {
            making.spawn(sessions(contender.clone()));
        }
        Self {
            contender: contender.clone(),
            tasks: making.join_all().await,
        }
    }

    /// Calls in a second, over one round.
    #[expect(clippy::cast_precision_loss, reason = "millions at most")]
    async fn round(&mut self, work: Work, tasks: usize) -> f64 {
        let started = Instant::now();
        let mut running = JoinSet::new();
        for sessions in self.tasks.drain(..tasks) {
            running.spawn(task(
                self.contender.clone(),
                work,
                sessions,
                started + ROUND,
            ));
        }
        let mut all = 0;
        for (sessions, calls) in running.join_all().await {
            self.tasks.push(sessions);
            all += calls;
        }
        all as f64 / started.elapsed().as_secs_f64()
    }
}

async fn sessions<C: Contender>(contender: C) -> Sessions<C> {
    let mut seen = Vec::new();
    for _ in 0..SESSIONS {
        let key = session_key();
        let created = contender.create(&key).await;
        seen.push((key, created));
    }
    Sessions { seen, changes: 0 }
}

async fn task<C: Contender>(
    contender: C,
    work: Work,
    mut sessions: Sessions<C>,
    until: Instant,
) -> (Sessions<C>, usize) {
    let mut calls = 0;
    while Instant::now() < until {
        for (key, seen) in &mut sessions.seen {
            match work {
                Work::Load => contender.load(key).await,
                Work::Swap => contender.swap(key, seen, sessions.changes + 1).await,
                Work::Create => drop(contender.create(&session_key()).await),
            }
            calls += 1;
        }
        sessions.changes += u32::from(work == Work::Swap);
    }
    (sessions, calls)
}

fn session_key() -> Key {
    Key::from(&SessionId::generate().expect("random bytes"))
}

/// A session like those of real apps: some facts, some text, a cart.
fn slots() -> Vec<Slot> {
    vec![
        Slot::new("address", r#""203.0.113.7""#, None),
        Slot::new("arrived", "1793491200000", None),
        Slot::new(
            "cart",
            r#"{"anchor-lamp":1,"tide-mug":2,"heron-teapot":1,"samphire-vase":3}"#,
            None,
        ),
        Slot::new("theme", r#""dark""#, None),
        counter(0),
    ]
}

fn counter(n: u32) -> Slot {
    Slot::new("count", n.to_string(), None)
}

/// The same as one value.
fn whole(n: u32) -> Vec<u8> {
    let mut slots = slots();
    slots.pop();
    slots.push(counter(n));
    slots
        .iter()
        .flat_map(|slot| [slot.name().as_str().as_bytes(), b":", slot.payload(), b","].concat())
        .collect()
}

/// A store of this crate.
struct Ours<S>(Arc<S>);

impl<S> Clone for Ours<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Store> Ours<S> {
    async fn put(&self, key: &Key, before: Option<&Arc<Record>>, after: &Arc<Record>) {
        let swapped = self.0.swap(key, before, after).await.expect("an answer");
        assert_eq!(swapped, Swapped::Done);
    }
}

impl<S: Store> Contender for Ours<S> {
    type Seen = Arc<Record>;

    async fn create(&self, key: &Key) -> Arc<Record> {
        let now = SystemClock::default().now();
        let record = Record::new(now, now + TTL).with_slots(slots().into_iter().map(Arc::new));
        let record = Arc::new(record);
        self.put(key, None, &record).await;
        record
    }

    async fn load(&self, key: &Key) {
        let record = self.0.load(key).await.expect("an answer");
        assert_eq!(record.expect("it is there").slots().len(), 5);
    }

    async fn swap(&self, key: &Key, seen: &mut Arc<Record>, n: u32) {
        let mut after = seen.next();
        after.set(Arc::new(counter(n)));
        let after = Arc::new(after);
        self.put(key, Some(seen), &after).await;
        *seen = after;
    }
}
