//! One case's run: a fresh store, its clock, and how to say what went wrong.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::change::{Change, Committed, Expiry, Kind, SlotChange};
use crate::clock::{Clock, Timestamp};
use crate::id::SessionId;
use crate::key::{Key, UserId};
use crate::record::{Record, Slot};
use crate::store::{Store, Swept};
use crate::testing::TestClock;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);

pub(super) struct Trial<S> {
    case: String,
    store: Arc<S>,
    pub(super) clock: TestClock,
}

/// For tasks: the same store and clock.
impl<S> Clone for Trial<S> {
    fn clone(&self) -> Self {
        Self {
            case: self.case.clone(),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
        }
    }
}

impl<S: Store> Trial<S> {
    pub(super) fn new(case: &str, store: S, clock: TestClock) -> Self {
        Self {
            case: case.to_owned(),
            store: Arc::new(store),
            clock,
        }
    }

    pub(super) fn case(&self) -> &str {
        &self.case
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    // Changes.

    /// A change of nothing, now.
    pub(super) fn change(&self, kind: Kind) -> Change {
        Change::new(kind, self.now())
    }

    /// A create of these slots that lives for two hours.
    pub(super) fn creation(&self, slots: &[Slot]) -> Change {
        let slots = slots.iter().map(|slot| set(None, slot)).collect();
        Change {
            slots,
            expiry: Expiry::Set(self.now() + 2 * HOUR),
            ..self.change(Kind::Create)
        }
    }

    /// An update of these slots.
    pub(super) fn update(&self, slots: impl IntoIterator<Item = SlotChange>) -> Change {
        Change {
            slots: slots.into_iter().collect(),
            ..self.change(Kind::Update)
        }
    }

    /// A move to `to` with a grace of a minute.
    pub(super) fn relocation(&self, to: &Key) -> Change {
        self.change(Kind::Move(to.clone(), self.now() + MINUTE))
    }

    // Calls.

    #[track_caller]
    fn fail(&self, promise: &str, found: &dyn Debug) -> ! {
        panic!("case `{}`: {promise}; found {found:?}", self.case)
    }

    pub(super) async fn commit(&self, key: &Key, change: &Change) -> Committed {
        match self.store.commit(key, change).await {
            Ok(committed) => committed,
            Err(error) => self.fail("a commit is answered", &error),
        }
    }

    pub(super) async fn load(&self, key: &Key) -> Option<Arc<Record>> {
        match self.store.load(key).await {
            Ok(record) => record,
            Err(error) => self.fail("a load is answered", &error),
        }
    }

    pub(super) async fn owned_by(&self, owner: &UserId) -> Vec<Key> {
        match self.store.owned_by(owner).await {
            Ok(mut keys) => {
                keys.sort();
                keys
            }
            Err(error) => self.fail("the owner index is answered", &error),
        }
    }

    pub(super) async fn sweep(&self, limit: usize) -> Swept {
        match self.store.sweep(limit).await {
            Ok(swept) => swept,
            Err(error) => self.fail("a sweep is answered", &error),
        }
    }

    // Calls that are to have one outcome.

    /// The record, which is to be there.
    pub(super) async fn record(&self, key: &Key) -> Arc<Record> {
        match self.load(key).await {
            Some(record) => record,
            None => self.fail("the record is there", &"nothing"),
        }
    }

    /// The slot as the store has it, which is to be there.
    pub(super) async fn slot(&self, key: &Key, name: &str) -> Slot {
        let record = self.record(key).await;
        match record.slot(name) {
            Some(slot) => Slot::clone(slot),
            None => self.fail("the slot is there", &record),
        }
    }

    /// A fresh session of these slots.
    pub(super) async fn session(&self, slots: &[Slot]) -> Key {
        let key = session_key();
        self.create(&key, slots).await;
        key
    }

    pub(super) async fn create(&self, key: &Key, slots: &[Slot]) {
        self.apply(key, &self.creation(slots)).await;
    }

    /// Commits what nothing speaks against.
    pub(super) async fn apply(&self, key: &Key, change: &Change) {
        self.expect("the change is applied", key, change, &Committed::Applied)
            .await;
    }

    /// Commits what the record as it is now speaks against.
    pub(super) async fn conflict(&self, promise: &str, key: &Key, change: &Change) {
        let before = self.record(key).await;
        self.expect(
            promise,
            key,
            change,
            &Committed::Conflict(Arc::clone(&before)),
        )
        .await;
        self.equal(
            "a conflict changes nothing",
            &self.record(key).await,
            &before,
        );
    }

    pub(super) async fn expect(
        &self,
        promise: &str,
        key: &Key,
        change: &Change,
        outcome: &Committed,
    ) {
        self.equal(promise, &self.commit(key, change).await, outcome);
    }

    // Checks.

    #[track_caller]
    pub(super) fn check(&self, promise: &str, holds: bool) {
        if !holds {
            self.fail(promise, &"that it does not hold");
        }
    }

    #[track_caller]
    pub(super) fn equal<T: Debug + PartialEq>(&self, promise: &str, found: &T, expected: &T) {
        assert!(
            found == expected,
            "case `{}`: {promise}; found {found:?}, expected {expected:?}",
            self.case
        );
    }
}

/// As long as `time` but for the last millisecond.
pub(super) fn just_before(time: Duration) -> Duration {
    time.saturating_sub(MS)
}

/// The key of a fresh session.
pub(super) fn session_key() -> Key {
    Key::from(&session_id())
}

/// The keys of a fresh session and of what becomes of it by moving, time and again.
pub(super) fn successive_keys<const N: usize>() -> [Key; N] {
    let first = session_id();
    std::array::from_fn(|_| {
        Key::from(
            &first
                .successor()
                .expect("the operating system gives random bytes"),
        )
    })
}

fn session_id() -> SessionId {
    SessionId::generate().expect("the operating system gives random bytes")
}

/// A slot that lives as long as its record.
pub(super) fn slot(name: &str, payload: &str) -> Slot {
    Slot::new(name, payload.to_owned(), None)
}

/// Sets a slot that is based on `base`.
pub(super) fn set(base: Option<&Slot>, to: &Slot) -> SlotChange {
    SlotChange::set(base.cloned().map(Arc::new), Arc::new(to.clone()))
}

pub(super) fn retime(base: &Slot, expires: Option<Timestamp>) -> SlotChange {
    SlotChange::retime(Arc::new(base.clone()), expires)
}

pub(super) fn drop_slot(base: &Slot) -> SlotChange {
    SlotChange::drop(Arc::new(base.clone()))
}
