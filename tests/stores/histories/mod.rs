//! Histories: browsers send requests at random, over real HTTP, to two instances of an app; stores are slow and lose answers,
//! connections are cut, instances and servers are killed. In every third round a user may have two sessions at most, and in another one anybody
//! logs in in any browser. Whatever happens, what the answers say has to fit together.
//!
//! A few seconds each. `HISTORY_MINUTES=30 cargo test -p session-tests --test stores histories` takes that long for each
//! store, and `HISTORY_SEED` begins elsewhere.

mod broken;
mod check;
mod processes;
mod run;

use std::env;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Client;
use session_runtime::SessionLayer;
use session_runtime::store::Store;
use session_tests::{PATIENCE, histories};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use broken::{Broken, FLAWS, Flaw};
use check::Event;
use run::{Addresses, Dice, Mix, Round};

/// How long a store is tried by default, at least; and for how many rounds.
const SECONDS: f64 = 6.0;
const ROUNDS: u64 = 3;

/// How many rounds a flaw has until it is noticed.
const PATIENT_ROUNDS: u64 = 2_000;

fn asked_for<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("`{name}` is a number")),
    )
}

/// The seeds of the rounds, until the time is up.
fn seeds() -> impl Iterator<Item = u64> {
    let minutes = asked_for("HISTORY_MINUTES").unwrap_or(SECONDS / 60.0);
    let (until, first) = (
        Instant::now() + Duration::from_secs_f64(60.0 * minutes),
        asked_for("HISTORY_SEED").unwrap_or(1),
    );
    (0..)
        .take_while(move |round| *round < ROUNDS || Instant::now() < until)
        .map(move |round| first + round)
}

/// Instances in this process. They stop when this drops.
struct Instances {
    addresses: Addresses,
    serving: Vec<JoinHandle<()>>,
}

impl Instances {
    async fn start(store: &Arc<impl Store>) -> Self {
        let (mut addresses, mut serving) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            addresses.push(listener.local_addr().expect("it is bound").to_string());
            let layer = SessionLayer::new(Arc::clone(store)).deadline(PATIENCE);
            let app = histories::routes(layer);
            serving.push(tokio::spawn(async {
                axum::serve(listener, app).await.expect("it serves");
            }));
        }
        Self {
            addresses: Arc::new(Mutex::new(addresses)),
            serving,
        }
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

/// One round over a store in memory: what has happened, and what after the users were deleted.
async fn in_memory(flaw: Flaw, seed: u64, client: &Client) -> [Vec<Event>; 2] {
    let store = Arc::new(Broken::new(flaw, Dice::new(seed)));
    let instances = Instances::start(&store).await;
    let round = Round::new(&instances.addresses, client, seed);
    round.run().await;
    let events = round.end().await;
    let deleted = match flaw {
        Flaw::None => round.delete().await,
        _ => Vec::new(),
    };
    [events, deleted]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_over_each_broken_store_is_told_from_a_good_one() {
    let client = Client::new();
    for flaw in FLAWS {
        let mut caught = None;
        // Where each browser is one user's, more is known of what has to be.
        for seed in (1..=PATIENT_ROUNDS).map(|round| 3 * round) {
            let [events, _] = in_memory(flaw, seed, &client).await;
            let wrong = check::check(&events, Mix::of(seed));
            if let Some(first) = wrong.into_iter().next() {
                caught = Some((seed, first));
                break;
            }
        }
        let (seed, first) = caught.unwrap_or_else(|| panic!("{flaw:?} was never noticed"));
        let first: String = first.chars().take(120).collect();
        eprintln!("{flaw:?}, round {seed}: {first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_over_a_store_in_memory_that_is_slow_and_loses_answers_fits_together() {
    let client = Client::new();
    let (mut rounds, mut requests) = (0, 0);
    for seed in seeds() {
        let [events, deleted] = in_memory(Flaw::None, seed, &client).await;
        check::fits("in memory", seed, &events, &deleted);
        (rounds, requests) = (rounds + 1, requests + events.len());
    }
    eprintln!("in memory: {rounds} rounds, {requests} requests");
}
