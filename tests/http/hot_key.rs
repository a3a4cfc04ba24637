//! A hot key: one session that several instances of an app write to all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use session_runtime::store::{MemoryStore, Record, Store, StoreError, Swapped, Swept};
use session_runtime::testing::TestClock;
use session_runtime::{Clock, Error, Key, Session, SessionLayer, SystemClock};
use session_tests::{Fault, PATIENCE, Site, Visitor};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    sum: u32,
    #[flash]
    notice: Option<String>,
}

async fn add_one(mut session: Session<Shop>) {
    *session.sum.get_mut() += 1;
}

async fn claim(mut session: Session<Shop>) -> Result<String, Error> {
    let claimed = session.notice.claim().await?.flatten();
    Ok(claimed.unwrap_or_default())
}

/// A store at the end of a wire: what is asked takes half of the time to arrive, and so does the answer.
struct Far<S> {
    store: S,
    away: Duration,
}

impl<S: Store> Far<S> {
    async fn half_way(&self) {
        if self.away > Duration::ZERO {
            sleep(self.away / 2).await;
        }
    }
}

impl<S: Store> Store for Far<S> {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.half_way().await;
        let loaded = self.store.load(key).await;
        self.half_way().await;
        loaded
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.half_way().await;
        let swapped = self.store.swap(key, before, after).await;
        self.half_way().await;
        swapped
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.store.sweep(limit).await
    }
}

/// Layers over one store, that far away each.
fn instances(
    clock: &(impl Clock + Clone),
    away: impl IntoIterator<Item = Duration>,
) -> Vec<SessionLayer> {
    let store = MemoryStore::new().with_clock(clock.clone());
    let layer = |away| {
        let store = Far {
            store: store.clone(),
            away,
        };
        SessionLayer::new(store).clock(clock.clone())
    };
    away.into_iter().map(layer).collect()
}

/// What each instance has got through.
#[derive(Debug, Default)]
struct Got {
    swaps: usize,
    unavailable: usize,
    longest: Duration,
}

/// Has each instance add one again and again, with so many requests of each under way at any time, until the slowest has
/// got through so many. Returns what each has, and the sum in the end.
async fn contend(layers: &[SessionLayer], at_once: usize, each: usize) -> (Vec<Got>, usize) {
    let mut visitor = Visitor::of(layers[0].clone());
    visitor.visit(add_one).await;
    let done: Arc<Vec<_>> = Arc::new(layers.iter().map(|_| AtomicUsize::new(0)).collect());
    let mut tasks = JoinSet::new();
    for task in 0..layers.len() * at_once {
        let at = task % layers.len();
        let (mut visitor, done) = (visitor.moved_to(&layers[at]), Arc::clone(&done));
        tasks.spawn(async move {
            let mut got = Got::default();
            while done.iter().any(|done| done.load(Ordering::SeqCst) < each) {
                let begun = Instant::now();
                let reply = visitor.visit(add_one).await;
                got.longest = got.longest.max(begun.elapsed());
                match reply.status {
                    StatusCode::OK => got.swaps += 1,
                    StatusCode::SERVICE_UNAVAILABLE => got.unavailable += 1,
                    other => panic!("{other}: {}", reply.body),
                }
                done[at].fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            (at, got)
        });
    }
    let mut all: Vec<_> = layers.iter().map(|_| Got::default()).collect();
    for (at, got) in tasks.join_all().await {
        all[at].swaps += got.swaps;
        all[at].unavailable += got.unavailable;
        all[at].longest = all[at].longest.max(got.longest);
    }
    let shown = visitor.visit(async |session: Session<Shop>| session.sum.get().to_string());
    (all, shown.await.body.parse().expect("a number"))
}

#[expect(clippy::print_stderr, reason = "figures, for who asks for them")]
fn print(what: &str, got: &[Got]) {
    eprintln!("{what}:");
    for (at, got) in got.iter().enumerate() {
        eprintln!(
            "  instance {at}: {} swaps, {} answered 503, the longest took {:?}",
            got.swaps, got.unavailable, got.longest
        );
    }
}

fn assert_exact(got: &[Got], sum: usize) {
    let swaps: usize = got.iter().map(|got| got.swaps).sum();
    assert_eq!(sum, 1 + swaps, "{got:?}");
}

fn assert_all_served(got: &[Got]) {
    assert!(got.iter().all(|got| got.unavailable == 0), "{got:?}");
}

/// The runtime's clock knows nothing shorter than a millisecond each way.
const NEAR: Duration = Duration::from_millis(2);
const FAR: Duration = Duration::from_millis(2 + 3);

/// By a clock of the test's own, under which nothing takes time but the wires and the rests. The deadline is the default.
#[tokio::test(start_paused = true)]
async fn none_of_three_instances_is_answered_503_though_one_is_farther_away() {
    for at_once in [1, 8] {
        let layers = instances(&TestClock::new(), [NEAR, NEAR, FAR]);
        let (got, sum) = contend(&layers, at_once, 500).await;
        print(&format!("{at_once} at once of each, in theory"), &got);
        assert_all_served(&got);
        assert_exact(&got, sum);
    }
}

/// For the figures. A machine that is busy with other things may hold up anybody for longer than the default deadline.
#[tokio::test(flavor = "multi_thread")]
async fn no_increment_of_three_instances_is_lost() {
    for at_once in [1, 8] {
        let layers = instances(
            &SystemClock::default(),
            [Duration::ZERO, Duration::ZERO, FAR - NEAR],
        );
        let layers: Vec<_> = layers
            .into_iter()
            .map(|layer| layer.deadline(PATIENCE))
            .collect();
        let (got, sum) = contend(&layers, at_once, 100).await;
        print(&format!("{at_once} at once of each"), &got);
        assert_all_served(&got);
        assert_exact(&got, sum);
    }
}

/// In one process each goes on from what the one before has left: none is stale twice.
#[tokio::test]
async fn who_waits_in_the_process_is_stale_once_at_most() {
    const REQUESTS: usize = 200;
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor.visit(add_one).await;
    site.store.round_trips();
    site.store
        .at_swaps(Some(Fault::Late(Duration::from_millis(1))));
    let loaded = Arc::new(Barrier::new(REQUESTS));
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        let (mut visitor, loaded) = (visitor.clone(), Arc::clone(&loaded));
        requests.spawn(async move {
            let handler = async move |session: Session<Shop>| {
                loaded.wait().await;
                add_one(session).await;
            };
            assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
        });
    }
    requests.join_all().await;
    let (loads, swaps) = site.store.round_trips();
    assert_eq!(loads, REQUESTS);
    assert!(swaps <= 2 * REQUESTS, "{swaps} swaps");
    let sum = (1 + REQUESTS).to_string();
    assert_eq!(site.payload(&visitor, "sum").await, Some(sum));
}

// ---- what a queue remembers

/// A visitor of a site, and its session in another instance; the site has had a conflict of it.
async fn after_a_conflict(site: &Site) -> (Visitor, Visitor) {
    let elsewhere = site.other_process();
    let mut visitor = site.visitor();
    visitor.visit(add_one).await;
    let store = Arc::clone(&site.store);
    let contested = async move |session: Session<Shop>| {
        store.plan([Fault::Contested]);
        add_one(session).await;
    };
    assert_eq!(visitor.visit(contested).await.status, StatusCode::OK);
    (visitor.clone(), visitor.moved_to(&elsewhere))
}

/// A claim decides by what it sees: what the queue saw last is not what is there.
#[tokio::test]
async fn a_flash_that_another_instance_has_set_since_a_conflict_can_be_claimed() {
    let site = Site::in_memory();
    let (mut here, mut there) = after_a_conflict(&site).await;
    let notify = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    there.visit(notify).await;
    assert_eq!(here.visit(claim).await.body, "Hello");
    assert_eq!(there.visit(claim).await.body, "");
}

/// So does a revocation: it ends only what is the user's.
#[tokio::test]
async fn a_session_that_another_instance_has_logged_in_since_a_conflict_is_ended_by_a_revocation() {
    let site = Site::in_memory();
    let (_, mut there) = after_a_conflict(&site).await;
    let login = async |mut session: Session<Shop>| session.login("ada").await;
    assert_eq!(there.visit(login).await.status, StatusCode::OK);
    let sessions = site.layer.sessions();
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
    let live = there.visit(async |session: Session<Shop>| (!session.is_new()).to_string());
    assert_eq!(live.await.body, "false");
}
