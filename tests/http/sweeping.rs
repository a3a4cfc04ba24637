//! The task that sweeps: what it outlives, and what it does not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use session_runtime::store::{MemoryStore, Record, Store, StoreError, Swapped, Swept};
use session_runtime::testing::TestClock;
use session_runtime::{Ended, Event, EventKind, Key, Session, SessionLayer};
use session_tests::Visitor;
use tokio::runtime::Builder;

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Session)]
struct Shop {
    visits: u32,
    text: String,
}

async fn visit(mut session: Session<Shop>) {
    *session.visits.get_mut() += 1;
}

/// A store in memory that is swept otherwise.
struct Sweepable<F> {
    inner: MemoryStore,
    sweeps: Arc<AtomicUsize>,
    /// Answers each sweep, by its number.
    sweep: F,
}

impl<F: Fn(usize, usize) -> Swept + Send + Sync + 'static> Sweepable<F> {
    fn new(sweep: F) -> Self {
        Self {
            inner: MemoryStore::new(),
            sweeps: Arc::default(),
            sweep,
        }
    }
}

impl<F: Fn(usize, usize) -> Swept + Send + Sync + 'static> Store for Sweepable<F> {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        Store::load(&self.inner, key).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        Store::swap(&self.inner, key, before, after).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        let number = self.sweeps.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(MS).await;
        Ok((self.sweep)(number, limit))
    }
}

fn nothing(_: usize, _: usize) -> Swept {
    Swept::default()
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_while_it_is_swept_is_swept_again() {
    let store = Sweepable::new(|number, _| {
        assert!(number > 0, "planned: amid a sweep");
        Swept::default()
    });
    let sweeps = Arc::clone(&store.sweeps);
    let mut visitor = Visitor::of(SessionLayer::new(store));
    visitor.visit(visit).await;
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(sweeps.load(Ordering::SeqCst), 1);
    visitor.visit(visit).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert!(sweeps.load(Ordering::SeqCst) > 5);
}

#[test]
fn a_layer_sweeps_on_another_runtime_when_the_first_is_gone() {
    let store = Sweepable::new(nothing);
    let sweeps = Arc::clone(&store.sweeps);
    let layer = SessionLayer::new(store);
    // The first goes before it has come to its tasks.
    for (minutes, is_swept) in [(0, false), (2, true), (2, true)] {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            Visitor::of(layer.clone()).visit(visit).await;
            if minutes > 0 {
                tokio::time::sleep(minutes * MINUTE).await;
            }
        });
        assert_eq!(sweeps.swap(0, Ordering::SeqCst) > 0, is_swept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_goes_with_its_last_layer_though_there_is_more_to_sweep() {
    let (held, sweeps) = (Arc::new(()), Arc::new(AtomicUsize::new(0)));
    let gone: Weak<()> = Arc::downgrade(&held);
    let counts = Arc::clone(&sweeps);
    let endless = move |_, limit| {
        assert_eq!(Arc::strong_count(&held), 1);
        counts.fetch_add(1, Ordering::SeqCst);
        let mut swept = Swept::default();
        swept.deleted = limit;
        swept
    };
    let layer = SessionLayer::new(Sweepable::new(endless));
    Visitor::of(layer.clone()).visit(visit).await;
    tokio::time::sleep(2 * MINUTE).await;
    assert!(sweeps.load(Ordering::SeqCst) > 10, "it is at it");
    drop(layer);
    tokio::time::sleep(10 * MS).await;
    assert!(gone.upgrade().is_none());
}

#[tokio::test]
async fn a_period_may_be_as_long_as_a_duration_can_be() {
    let layers: Vec<_> = (0..20)
        .map(|_| SessionLayer::new(MemoryStore::new()).sweep_every(Some(Duration::MAX)))
        .collect();
    for layer in &layers {
        Visitor::of(layer.clone()).visit(visit).await;
    }
    tokio::time::sleep(10 * MS).await;
    let runtime = tokio::runtime::Handle::current();
    assert_eq!(runtime.metrics().num_alive_tasks(), layers.len());
}

#[tokio::test(start_paused = true)]
async fn what_has_gone_as_expired_to_make_room_is_told_with_the_next_sweep() {
    let (clock, told) = (TestClock::new(), Arc::new(AtomicUsize::new(0)));
    let counts = Arc::clone(&told);
    let store = MemoryStore::new()
        .with_clock(clock.clone())
        .with_capacity_bytes(40_000);
    let layer = SessionLayer::new(store)
        .clock(clock.clone())
        .on_event(move |event: Event| {
            let expired = event.kind == EventKind::Ended(Ended::Expired);
            counts.fetch_add(usize::from(expired), Ordering::SeqCst);
        });
    for _ in 0..10 {
        let mut visitor = Visitor::of(layer.clone());
        visitor.visit(visit).await;
        visitor.visit(visit).await;
    }
    clock.advance(180 * MINUTE);
    let fill = async |mut session: Session<Shop>| session.text.set("x".repeat(33_000));
    assert!(
        Visitor::of(layer.clone())
            .visit(fill)
            .await
            .status
            .is_success()
    );
    assert_eq!(told.load(Ordering::SeqCst), 0, "the request does not wait");
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(told.load(Ordering::SeqCst), 10);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(told.load(Ordering::SeqCst), 10, "once");
}
