//! What sweeping costs the requests beside it.
//!
//! ```sh
//! cargo bench -p session-tests --bench sweeping                   # 100,000 expired records, each store
//! cargo bench -p session-tests --bench sweeping -- sqlite 1000000 # so many, and one of them
//! ```
//!
//! Requests (a load and a swap of one session) come at a fixed, modest rate. Rounds with and without sweeping take
//! turns, until nothing is left that has expired if that is soon; a figure is the median of the rounds. It is swept as the layer does it: some
//! at a time, with pauses in between.

#![allow(missing_docs, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use session_runtime::store::{Record, Slot, SqliteStore, Store, Swapped};
use session_runtime::{Clock, Key, SessionId, SystemClock};
use session_tests::{
    MysqlServer, PostgresServer, multiply_in_mysql, multiply_in_postgres, multiply_in_sqlite,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// How many browsers there are, and how often each comes: 320 requests in a second.
const TASKS: u32 = 16;
const PERIOD: Duration = Duration::from_millis(50);

const ROUND: Duration = Duration::from_secs(2);

/// Rounds of each kind, at most.
const ROUNDS: usize = 12;

/// As in the layer.
const BATCH: usize = 5;
const PAUSE: u32 = 40;

const TTL: Duration = Duration::from_secs(7_200);

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let expired = args.iter().find_map(|arg| arg.parse().ok());
    let expired = expired.unwrap_or(100_000);
    let only: Vec<_> = args
        .iter()
        .filter(|arg| arg.parse::<usize>().is_err())
        .collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| *one == name);
    println!(
        "{:<10} {:>8} {:>8} {:>9} {:>9} {:>12} {:>12} {:>6}",
        "store", "expired", "swept/s", "p50 µs", "p99 µs", "swept p50", "swept p99", "ratio"
    );
    if wanted("sqlite") {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let file = folder.path().join("sessions.db");
        let store = SqliteStore::open(&file).expect("a file");
        let key = create(&store, Duration::from_millis(1)).await;
        multiply_in_sqlite(&file, &key, expired);
        compare("sqlite", expired, &store).await;
    }
    if wanted("postgres")
        && let Some(server) = PostgresServer::start_with("")
    {
        let options = server.options(SystemClock::default()).schema("sweeping");
        let store = options.connect(&server.url()).expect("the URL is fine");
        store.migrate().await.expect("the tables can be made");
        let key = create(&store, Duration::from_millis(1)).await;
        multiply_in_postgres(&server.client().await, "sweeping", &key, expired).await;
        compare("postgres", expired, &store).await;
    }
    if wanted("mysql")
        && let Some(server) = MysqlServer::start_with(&[])
    {
        let options = server.options(SystemClock::default()).database("sweeping");
        let store = options.connect(&server.url()).expect("the URL is fine");
        store.migrate().await.expect("the tables can be made");
        let key = create(&store, Duration::from_millis(1)).await;
        multiply_in_mysql(&mut server.client().await, "sweeping", &key, expired).await;
        compare("mysql", expired, &store).await;
    }
}

/// Takes turns, and prints what came of it.
async fn compare<S: Store + Clone>(name: &str, expired: usize, store: &S) {
    let mut browsers = Vec::new();
    for _ in 0..TASKS {
        browsers.push(Browser::new(store).await);
    }
    // Until all is warm.
    round(store, &mut browsers).await;
    let (mut quiet, mut busy, mut rates) = (Rounds::default(), Rounds::default(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.add(&round(store, &mut browsers).await);
        let on = Arc::new(AtomicBool::new(true));
        let (started, sweeper) = (
            Instant::now(),
            tokio::spawn(sweep(store.clone(), on.clone())),
        );
        let taken = round(store, &mut browsers).await;
        on.store(false, Ordering::Relaxed);
        let (swept, is_done) = sweeper.await.expect("it sweeps");
        // A round in which nothing was left halfway was a quiet one for its other half.
        if !is_done || rates.is_empty() {
            busy.add(&taken);
            rates.push(rate(swept, started.elapsed()));
        }
        if is_done {
            break;
        }
    }
    let (quiet, busy) = (quiet.medians(), busy.medians());
    println!(
        "{name:<10} {expired:>8} {:>8.0} {:>9} {:>9} {:>12} {:>12} {:>6.2}",
        median(&mut rates),
        quiet.p50.as_micros(),
        quiet.p99.as_micros(),
        busy.p50.as_micros(),
        busy.p99.as_micros(),
        busy.p99.as_secs_f64() / quiet.p99.as_secs_f64(),
    );
}

#[expect(clippy::cast_precision_loss, reason = "millions at most")]
fn rate(swept: usize, time: Duration) -> f64 {
    swept as f64 / time.as_secs_f64()
}

/// Sweeps as the layer does, and returns how many have gone and whether those were all.
async fn sweep(store: impl Store, on: Arc<AtomicBool>) -> (usize, bool) {
    let mut total = 0;
    while on.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let swept = store.sweep(BATCH).await.expect("an answer").deleted;
        total += swept;
        if swept < BATCH {
            return (total, true);
        }
        sleep(PAUSE * begun.elapsed()).await;
    }
    (total, false)
}

/// How long requests took, sorted, while one round lasted.
async fn round<S: Store + Clone>(store: &S, browsers: &mut Vec<Browser>) -> Vec<Duration> {
    let (started, mut running) = (Instant::now(), JoinSet::new());
    for (n, browser) in (0..).zip(browsers.drain(..)) {
        let first = started + PERIOD * n / TASKS;
        running.spawn(browser.browse(store.clone(), first, started + ROUND));
    }
    let mut all = Vec::new();
    for (browser, taken) in running.join_all().await {
        browsers.push(browser);
        all.extend(taken);
    }
    all.sort();
    all
}

/// What rounds of one kind have come to.
#[derive(Default)]
struct Rounds {
    p50: Vec<Duration>,
    p99: Vec<Duration>,
}

struct Medians {
    p50: Duration,
    p99: Duration,
}

impl Rounds {
    fn add(&mut self, taken: &[Duration]) {
        self.p50.push(taken[taken.len() / 2]);
        self.p99.push(taken[taken.len() * 99 / 100]);
    }

    fn medians(mut self) -> Medians {
        let [p50, p99] = [&mut self.p50, &mut self.p99].map(|all| {
            all.sort();
            all[all.len() / 2]
        });
        Medians { p50, p99 }
    }
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A browser that comes at fixed times, and its sessions.
struct Browser {
    keys: Vec<Key>,
    visits: usize,
}

impl Browser {
    const SESSIONS: usize = 64;

    async fn new(store: &impl Store) -> Self {
        let mut keys = Vec::new();
        for _ in 0..Self::SESSIONS {
            keys.push(create(store, TTL).await);
        }
        Self { keys, visits: 0 }
    }

    /// Comes at each of its times. What a late answer holds up counts as waiting too.
    async fn browse(
        mut self,
        store: impl Store,
        first: Instant,
        until: Instant,
    ) -> (Self, Vec<Duration>) {
        let (mut due, mut taken) = (first, Vec::new());
        while due < until {
            let mut begun = due;
            if Instant::now() < due {
                sleep_until(due).await;
                // The timer's own delay is nobody's fault.
                begun = Instant::now();
            }
            self.visit(&store).await;
            taken.push(begun.elapsed());
            due += PERIOD;
        }
        (self, taken)
    }

    async fn visit(&mut self, store: &impl Store) {
        let key = &self.keys[self.visits % Self::SESSIONS];
        let before = store.load(key).await.expect("an answer");
        let before = before.expect("it lives");
        let after = before.next().with_slots([counter(self.visits + 1)]);
        put(store, key, Some(&before), after).await;
        self.visits += 1;
    }
}

async fn create(store: &impl Store, ttl: Duration) -> Key {
    let key = Key::from(&SessionId::generate().expect("random bytes"));
    let cart = r#"{"anchor-lamp":1,"tide-mug":2,"heron-teapot":1,"samphire-vase":3}"#;
    let cart = Arc::new(Slot::new("cart", cart, None));
    let now = SystemClock::default().now();
    let record = Record::new(now, now + ttl).with_slots([cart, counter(0)]);
    put(store, &key, None, record).await;
    key
}

async fn put(store: &impl Store, key: &Key, before: Option<&Arc<Record>>, after: Record) {
    let swapped = store.swap(key, before, &Arc::new(after)).await;
    assert_eq!(swapped.expect("an answer"), Swapped::Done);
}

fn counter(n: usize) -> Arc<Slot> {
    Arc::new(Slot::new("count", n.to_string(), None))
}
