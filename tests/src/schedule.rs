//! Schedules: every order in which the store's calls of requests that overlap can come.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_runtime::store::{MemoryStore, Record, Store, StoreError, Swapped, Swept};
use session_runtime::{Key, SessionLayer};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::Site;

/// A site in memory whose store's calls, while tasks are run, go through one by one, in an order that a test chooses.
#[derive(Debug)]
pub struct HeldSite {
    site: Site,
    calls: Arc<Calls>,
}

impl HeldSite {
    fn new() -> Self {
        let calls = Arc::<Calls>::default();
        let site = Site::new(|clock| Held {
            inner: MemoryStore::new().with_clock(clock),
            calls: Arc::clone(&calls),
        });
        Self { site, calls }
    }

    /// The same site under other settings.
    #[must_use]
    pub fn with(self, settings: impl FnOnce(SessionLayer) -> SessionLayer) -> Self {
        Self {
            site: self.site.with(settings),
            ..self
        }
    }

    /// Runs all tasks to their end, and lets their calls through in the order chosen. Wants a runtime of one
    /// thread whose time is paused: that it moves on tells that all tasks wait.
    pub async fn run<T: 'static>(&self, mut tasks: JoinSet<T>, choices: &mut Choices) -> Vec<T> {
        self.calls.held.store(true, Ordering::SeqCst);
        let mut ended = Vec::new();
        while !tasks.is_empty() {
            // Longer than a request rests between two tries; and being paused, it costs nothing.
            tokio::time::sleep(Duration::from_millis(50)).await;
            while let Some(task) = tasks.try_join_next() {
                ended.push(task.expect("the task ends well"));
            }
            let mut waiting = self.calls.waiting();
            if !waiting.is_empty() {
                let next = choices.choose(waiting.len());
                let _ = waiting.remove(next).send(());
            }
        }
        self.calls.held.store(false, Ordering::SeqCst);
        ended
    }
}

impl Deref for HeldSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

/// The calls that wait for their turn.
#[derive(Debug, Default)]
struct Calls {
    held: AtomicBool,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Calls {
    fn waiting(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self) {
        if self.held.load(Ordering::SeqCst) {
            let (sender, receiver) = oneshot::channel();
            self.waiting().push(sender);
            let _ = receiver.await;
        }
    }
}

struct Held {
    inner: MemoryStore,
    calls: Arc<Calls>,
}

impl Store for Held {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.calls.turn().await;
        self.inner.load(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.calls.turn().await;
        self.inner.swap(key, before, after).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.inner.sweep(limit).await
    }
}

/// Gives a new site to `look` for each way through the choices. Says how many that were.
pub async fn in_each_order(
    mut choices: Choices,
    mut look: impl AsyncFnMut(HeldSite, &mut Choices),
) -> usize {
    let mut orders = 0;
    while orders == 0 || choices.again() {
        orders += 1;
        look(HeldSite::new(), &mut choices).await;
    }
    orders
}

/// A way through all choices, depth first; or through some, at random.
#[derive(Debug, Default)]
pub struct Choices {
    /// How many ways through are left to try, and what the next is drawn from.
    sample: Option<(usize, u64)>,
    /// What was chosen at each step, and of how many.
    taken: Vec<(usize, usize)>,
    step: usize,
}

impl Choices {
    /// This many ways through, drawn at random, though the same each time.
    pub fn sample(count: usize) -> Self {
        Self {
            sample: Some((count, 1)),
            ..Self::default()
        }
    }

    /// Returns `true` if only some ways through are tried.
    pub fn is_sample(&self) -> bool {
        self.sample.is_some()
    }

    fn choose(&mut self, of: usize) -> usize {
        if let Some((_, seed)) = &mut self.sample {
            // Knuth's MMIX.
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let choice = usize::try_from(*seed >> 33).unwrap_or(0) % of;
            self.taken.push((choice, of));
            return choice;
        }
        if self.step == self.taken.len() {
            self.taken.push((0, of));
        }
        let (choice, before) = self.taken[self.step];
        assert_eq!(before, of, "the same choices lead to the same place");
        self.step += 1;
        choice
    }

    /// Goes back to the start, to choose otherwise than ever before. `false` if nothing is left to choose.
    pub fn again(&mut self) -> bool {
        self.step = 0;
        if let Some((left, _)) = &mut self.sample {
            *left = left.saturating_sub(1);
            self.taken.clear();
            return *left > 0;
        }
        while let Some((choice, of)) = self.taken.pop() {
            if choice + 1 < of {
                self.taken.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}
