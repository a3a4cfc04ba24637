//! What sweeping costs the requests beside it, and how fast it is.
//!
//! ```sh
//! cargo bench -p session-tests --bench sweeping                   # 200,000 expired records, each store
//! cargo bench -p session-tests --bench sweeping -- sqlite 1000000 # so many, and one of them
//! ```
//!
//! An app with the layer, in this process, on private servers that have the settings they come with. Its requests (each changes one
//! session) come at a fixed, modest rate. First the layer sweeps until it knows its pace; then rounds with and without sweeping take
//! turns, and a percentile is of all requests of the rounds of one kind. At last no requests come.
//! It is the layer that sweeps; the store only says that nothing has expired while it is not to.

#![allow(missing_docs, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use session_runtime::store::{
    AtOnce, MemoryStore, Record, Slot, SqliteStore, Store, StoreError, Swapped, Swept,
};
use session_runtime::{Clock, Key, Session, SessionId, SessionLayer, SystemClock};
use session_tests::{
    Browser, MysqlServer, PostgresServer, multiply_in_mysql, multiply_in_postgres,
    multiply_in_sqlite,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// How many browsers there are, and how often each comes: 320 requests in a second.
const TASKS: u32 = 16;
const PERIOD: Duration = Duration::from_millis(50);

const ROUND: Duration = Duration::from_secs(2);

/// Rounds of each kind, and of sweeping before them.
const ROUNDS: usize = 24;
const LEARNING: usize = 10;

/// How long to wait between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// How often the layer looks for what has expired.
const SWEEP_EVERY: Duration = Duration::from_millis(20);

/// Longer than a store keeps what has expired.
const LONG_AGO: Duration = Duration::from_secs(3_600);

/// Longer than it takes a layer to notice that nobody writes any more.
const QUIET: Duration = Duration::from_millis(1_500);

/// A store that is swept when it is to be.
struct Switched<S> {
    store: S,
    on: AtomicBool,
    /// The next call is to take until it is quiet.
    waits: AtomicBool,
    swept: AtomicUsize,
}

impl<S: Store> Store for Switched<S> {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.store.load(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.store.swap(key, before, after).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        if !self.on.load(Ordering::Relaxed) {
            return Ok(Swept::default());
        }
        if self.waits.swap(false, Ordering::Relaxed) {
            sleep(QUIET).await;
        }
        let swept = self.store.sweep(limit).await?;
        self.swept.fetch_add(swept.deleted, Ordering::Relaxed);
        Ok(swept)
    }

    fn at_once(&self) -> Option<&dyn AtOnce> {
        self.store.at_once()
    }
}

impl<S> Switched<S> {
    fn swept(&self) -> usize {
        self.swept.load(Ordering::Relaxed)
    }
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let many = args.iter().find_map(|arg| arg.parse().ok());
    let many = many.unwrap_or(200_000);
    let only: Vec<_> = args
        .iter()
        .filter(|arg| arg.parse::<usize>().is_err())
        .collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| *one == name);
    println!(
        "| store | swept/s, idle | swept/s beside requests | p50, µs | p99, µs | p50 while swept | p99 while swept | ratio of p99 |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    if wanted("memory") {
        let store = MemoryStore::new().with_capacity_bytes(4 << 30);
        let multiply = async || {
            for _ in 0..many {
                expired(&store).await;
            }
        };
        compare("memory", many, &store, multiply).await;
    }
    if wanted("sqlite") {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let file = folder.path().join("sessions.db");
        let store = SqliteStore::open(&file).expect("a file");
        let multiply = async || multiply_in_sqlite(&file, &expired(&store).await, many);
        compare("SQLite", many, &store, multiply).await;
    }
    if wanted("postgres")
        && let Some(server) = PostgresServer::start_with("")
    {
        let options = server.options(SystemClock::default()).schema("sweeping");
        let store = options.connect(&server.url()).expect("the URL is fine");
        store.migrate().await.expect("the tables can be made");
        let multiply = async || {
            let key = expired(&store).await;
            multiply_in_postgres(&server.client().await, "sweeping", &key, many).await;
        };
        compare("PostgreSQL", many, &store, multiply).await;
    }
    if wanted("mysql")
        && let Some(server) = MysqlServer::start_with(&[])
    {
        let options = server.options(SystemClock::default()).database("sweeping");
        let store = options.connect(&server.url()).expect("the URL is fine");
        store.migrate().await.expect("the tables can be made");
        let multiply = async || {
            let key = expired(&store).await;
            multiply_in_mysql(&mut server.client().await, "sweeping", &key, many).await;
        };
        compare("MariaDB", many, &store, multiply).await;
    }
}

#[derive(Session)]
struct Visits {
    #[merge(sum)]
    count: u32,
}

/// Takes turns, and prints what came of it.
async fn compare<S: Store + Clone>(name: &str, many: usize, store: &S, multiply: impl AsyncFn()) {
    multiply().await;
    let switched = Arc::new(Switched {
        store: store.clone(),
        on: AtomicBool::new(false),
        waits: AtomicBool::new(false),
        swept: AtomicUsize::new(0),
    });
    let layer = SessionLayer::new(Arc::clone(&switched)).sweep_every(Some(SWEEP_EVERY));
    let count = async |mut session: Session<Visits>| *session.count.get_mut() += 1;
    let app = Router::new().route("/", post(count)).layer(layer);
    let mut browsers: Vec<_> = (0..TASKS).map(|_| Browser::new(app.clone())).collect();
    let top_up = async || {
        if switched.swept() > many / 2 {
            switched.on.store(false, Ordering::Relaxed);
            multiply().await;
            switched.swept.store(0, Ordering::Relaxed);
        }
    };
    // Until all is warm, and what is usual is known.
    round(&mut browsers).await;
    for _ in 0..LEARNING {
        top_up().await;
        switched.on.store(true, Ordering::Relaxed);
        round(&mut browsers).await;
    }
    let (mut quiet, mut busy, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        top_up().await;
        switched.on.store(false, Ordering::Relaxed);
        quiet.extend(round(&mut browsers).await);
        let (started, before) = (Instant::now(), switched.swept());
        switched.on.store(true, Ordering::Relaxed);
        busy.extend(round(&mut browsers).await);
        rates.push(rate(switched.swept() - before, started.elapsed()));
    }
    switched.on.store(false, Ordering::Relaxed);
    multiply().await;
    let idle = idle(&switched, many).await;
    let [(p50, p99), (p50_busy, p99_busy)] = [percentiles(quiet), percentiles(busy)];
    println!(
        "| {name} | {idle:.0} | {:.0} | {} | {} | {} | {} | {:.2} |",
        median(&mut rates),
        p50.as_micros(),
        p99.as_micros(),
        p50_busy.as_micros(),
        p99_busy.as_micros(),
        p99_busy.as_secs_f64() / p99.as_secs_f64(),
    );
}

/// Returns how many are swept in a second when nobody comes.
async fn idle<S>(switched: &Switched<S>, many: usize) -> f64 {
    switched.swept.store(0, Ordering::Relaxed);
    switched.waits.store(true, Ordering::Relaxed);
    switched.on.store(true, Ordering::Relaxed);
    while switched.swept() == 0 {
        sleep(LOOK).await;
    }
    let (started, before) = (Instant::now(), switched.swept());
    while switched.swept() < many && started.elapsed() < ROUND {
        sleep(LOOK).await;
    }
    rate(switched.swept() - before, started.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "millions at most")]
fn rate(swept: usize, time: Duration) -> f64 {
    swept as f64 / time.as_secs_f64()
}

/// Returns how long requests took while one round lasted.
async fn round(browsers: &mut Vec<Browser>) -> Vec<Duration> {
    let (started, mut running) = (Instant::now(), JoinSet::new());
    for (n, browser) in (0..).zip(browsers.drain(..)) {
        let first = started + PERIOD * n / TASKS;
        running.spawn(browse(browser, first, started + ROUND));
    }
    let mut all = Vec::new();
    for (browser, taken) in running.join_all().await {
        browsers.push(browser);
        all.extend(taken);
    }
    all
}

/// Comes at each of its times. What a late answer holds up counts as waiting too.
async fn browse(mut browser: Browser, first: Instant, until: Instant) -> (Browser, Vec<Duration>) {
    let (mut due, mut taken) = (first, Vec::new());
    while due < until {
        let mut begun = due;
        if Instant::now() < due {
            sleep_until(due).await;
            // The timer's own delay is nobody's fault.
            begun = Instant::now();
        }
        let reply = browser.post("/", "").await;
        assert!(reply.status.is_success(), "{}", reply.status);
        taken.push(begun.elapsed());
        due += PERIOD;
    }
    (browser, taken)
}

/// Returns how long at most half of the requests took, and 99 in a hundred.
fn percentiles(mut taken: Vec<Duration>) -> (Duration, Duration) {
    taken.sort();
    (taken[taken.len() / 2], taken[taken.len() * 99 / 100])
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Puts a record that has expired, and returns its key.
async fn expired(store: &impl Store) -> Key {
    let key = Key::from(&SessionId::generate().expect("random bytes"));
    let cart = r#"{"anchor-lamp":1,"tide-mug":2,"heron-teapot":1,"samphire-vase":3}"#;
    let now = SystemClock::default().now();
    // Created just now, or the store takes the app's clock for wrong.
    let record = Record::new(now, now - LONG_AGO);
    let record = record.with_slots([Arc::new(Slot::new("cart", cart, None))]);
    let swapped = store.swap(&key, None, &Arc::new(record)).await;
    assert_eq!(swapped.expect("an answer"), Swapped::Done);
    key
}
