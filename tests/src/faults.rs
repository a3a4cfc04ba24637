//! A store that counts its calls, and fails, waits or loses answers on demand.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use session_runtime::Key;
use session_runtime::store::{Record, Scanned, Store, StoreError, Swapped, Swept};
use tokio::sync::Notify;

use crate::AnyStore;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before the call has had any effect.
    Before,
    /// It has its effect, but the answer is lost.
    After,
    /// The call takes this long to have its effect, and has none if nobody waits for it.
    Slow(Duration),
    /// It has its effect, but the answer takes this long.
    Late(Duration),
    /// The call waits until [`FaultStore::release`], and has no effect if nobody waits for it.
    Held,
    /// The swap is on the wire: it is held, nobody waits for its answer, and it has its effect when it arrives.
    Stray,
    /// The call goes through when it is polled again.
    Yields,
    /// There is no room.
    Full,
    /// Fails, as where the stored bytes cannot be read.
    Broken,
    /// Somebody else writes the same record once more, just before the swap; a load goes through.
    Contested,
    /// Nothing: the call goes through. For faults at a later call.
    None,
}

/// Any store, with its calls counted and its faults planned.
#[derive(Clone, Debug)]
pub struct FaultStore {
    inner: Arc<dyn AnyStore>,
    loads: Arc<AtomicUsize>,
    swaps: Arc<AtomicUsize>,
    planned: Arc<Mutex<Plan>>,
    held: Arc<AtomicUsize>,
    released: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Plan {
    next: VecDeque<Fault>,
    always: Option<Fault>,
    at_swaps: Option<Fault>,
}

impl FaultStore {
    /// No fault is planned.
    pub fn new(store: impl Store) -> Self {
        Self {
            inner: Arc::new(store),
            loads: Arc::default(),
            swaps: Arc::default(),
            planned: Arc::default(),
            held: Arc::default(),
            released: Arc::default(),
        }
    }

    /// The store underneath.
    pub fn inner(&self) -> &dyn AnyStore {
        &*self.inner
    }

    /// Loads and swaps since the last call of this.
    pub fn round_trips(&self) -> (usize, usize) {
        (
            self.loads.swap(0, Ordering::SeqCst),
            self.swaps.swap(0, Ordering::SeqCst),
        )
    }

    /// Plans what happens to the next calls, one by one.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.planned().next.extend(faults);
    }

    /// Lets so many calls go through, and plans what happens to the next ones, one by one.
    pub fn plan_after(&self, calls: usize, faults: impl IntoIterator<Item = Fault>) {
        self.plan(std::iter::repeat_n(Fault::None, calls).chain(faults));
    }

    /// So many calls go through, the next has the first fault, and all later ones the second. With [`Fault::Full`],
    /// nobody asks until the deadline.
    pub fn fail_after(&self, calls: usize, first: Fault, then: Fault) {
        self.plan_after(calls, [first]);
        self.always(Some(then));
    }

    /// Sets what happens to every call that no fault is planned for, from now on.
    pub fn always(&self, fault: Option<Fault>) {
        self.planned().always = fault;
    }

    /// Sets what happens to every swap that no fault is planned for, from now on.
    pub fn at_swaps(&self, fault: Option<Fault>) {
        self.planned().at_swaps = fault;
    }

    /// Waits until that many calls are held.
    pub async fn until_held(&self, count: usize) {
        while self.held.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets one call go on that is held, or will be: the one that has been for longest.
    pub fn release(&self) {
        self.released.notify_one();
    }

    /// Lets one call go on that is held, and waits until it has had its effect.
    pub async fn arrival(&self) {
        let held = self.held.load(Ordering::SeqCst);
        self.release();
        while self.held.load(Ordering::SeqCst) >= held {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        *self.planned() = Plan::default();
    }

    fn planned(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> Fault {
        let mut plan = self.planned();
        plan.next.pop_front().or(plan.always).unwrap_or(Fault::None)
    }

    fn fault_at_swap(&self) -> Fault {
        let mut plan = self.planned();
        let planned = plan.next.pop_front().or(plan.at_swaps);
        planned.or(plan.always).unwrap_or(Fault::None)
    }

    /// Makes a call, with what is planned for it.
    async fn call<T>(
        &self,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.call_with(self.fault(), made).await
    }

    /// Makes a call, with that fault.
    async fn call_with<T>(
        &self,
        fault: Fault,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match fault {
            Fault::None | Fault::Contested => call.await,
            Fault::Before => Err(StoreError::unavailable("planned: before")),
            Fault::Full => Err(StoreError::full("planned: full")),
            Fault::Broken => Err(StoreError::broken("planned: broken")),
            Fault::After => {
                call.await?;
                Err(StoreError::unavailable("planned: after"))
            }
            Fault::Yields => {
                tokio::task::yield_now().await;
                call.await
            }
            Fault::Slow(wait) => {
                tokio::time::sleep(wait).await;
                call.await
            }
            Fault::Late(wait) => {
                let answer = call.await;
                tokio::time::sleep(wait).await;
                answer
            }
            Fault::Held | Fault::Stray => {
                self.held.fetch_add(1, Ordering::SeqCst);
                self.released.notified().await;
                let answer = call.await;
                self.held.fetch_sub(1, Ordering::SeqCst);
                answer
            }
        }
    }
}

impl Store for FaultStore {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.call(self.inner.load(key)).await
    }

    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.call(self.inner.load_latest(key)).await
    }

    fn is_cached(&self) -> bool {
        self.inner.is_cached()
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.swaps.fetch_add(1, Ordering::SeqCst);
        match self.fault_at_swap() {
            Fault::Contested => {
                if let Some(there) = self.inner.load_latest(key).await? {
                    let again = Arc::new(there.next());
                    self.inner.swap(key, Some(&there), &again).await?;
                }
                self.inner.swap(key, before, after).await
            }
            Fault::Stray => {
                let (store, key) = (self.clone(), key.clone());
                let (before, after) = (before.cloned(), Arc::clone(after));
                tokio::spawn(async move {
                    let swap = store.inner.swap(&key, before.as_ref(), &after);
                    store.call_with(Fault::Stray, swap).await
                });
                Err(StoreError::unavailable("planned: on the wire"))
            }
            fault => {
                self.call_with(fault, self.inner.swap(key, before, after))
                    .await
            }
        }
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        self.call(self.inner.scan(after, limit)).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.call(self.inner.sweep(limit)).await
    }
}
