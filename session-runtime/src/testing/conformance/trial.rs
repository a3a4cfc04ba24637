//! One case's run: a fresh store, its clock, and how to say what went wrong.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::id::SessionId;
use crate::key::Key;
use crate::record::{Record, Slot};
use crate::store::{Scanned, Store, Swapped, Swept};
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

    /// Makes a record that lives for two hours.
    pub(super) fn record(&self, slots: impl IntoIterator<Item = Slot>) -> Record {
        let slots = slots.into_iter().map(Arc::new);
        Record::new(self.now(), self.now() + 2 * HOUR).with_slots(slots)
    }

    // Calls.

    pub(super) async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Swapped {
        match self.store.swap(key, before, after).await {
            Ok(swapped) => swapped,
            Err(error) => self.fail("a swap is answered", &error),
        }
    }

    pub(super) async fn load(&self, key: &Key) -> Option<Arc<Record>> {
        match self.store.load(key).await {
            Ok(record) => record,
            Err(error) => self.fail("a load is answered", &error),
        }
    }

    pub(super) async fn load_latest(&self, key: &Key) -> Option<Arc<Record>> {
        match self.store.load_latest(key).await {
            Ok(record) => record,
            Err(error) => self.fail("a load of the latest is answered", &error),
        }
    }

    pub(super) async fn scan(&self, after: Option<&str>, limit: usize) -> Scanned {
        match self.store.scan(after, limit).await {
            Ok(scanned) => scanned,
            Err(error) => self.fail("a scan is answered", &error),
        }
    }

    /// Scans from what is no place in any store.
    pub(super) async fn refuses_place(&self, after: &str) {
        let promise = "a scan goes on from no place but those that an answer named";
        let scanned = self.store.scan(Some(after), 1).await;
        let refused = matches!(&scanned, Err(error) if error.is_no_place());
        if !refused {
            self.fail(promise, &(after, scanned));
        }
    }

    pub(super) async fn sweep(&self, limit: usize) -> Swept {
        match self.store.sweep(limit).await {
            Ok(swept) => swept,
            Err(error) => self.fail("a sweep is answered", &error),
        }
    }

    // Calls that are to have one outcome.

    /// Loads a key in both ways, under which there is to be that record.
    pub(super) async fn holds(&self, key: &Key, expected: &Record) -> Arc<Record> {
        let loaded = self.load(key).await;
        self.same(
            "a load brings what was swapped in",
            loaded.as_ref(),
            Some(expected),
        );
        let latest = self.load_latest(key).await;
        let promise = "a load of the latest brings what was swapped in";
        self.same(promise, latest.as_ref(), Some(expected));
        latest.unwrap_or_else(|| self.fail(promise, &"nothing"))
    }

    /// Loads a key in both ways, under which there is to be nothing.
    pub(super) async fn holds_nothing(&self, key: &Key) {
        let loaded = [self.load(key).await, self.load_latest(key).await];
        self.equal("there is nothing", &loaded, &[None, None]);
    }

    /// Swaps a record in that nothing speaks against, and returns it as it is loaded then.
    pub(super) async fn put(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: Record,
    ) -> Arc<Record> {
        let after = Arc::new(after);
        self.done(key, before, &after).await;
        self.holds(key, &after).await
    }

    /// Swaps what nothing speaks against.
    pub(super) async fn done(&self, key: &Key, before: Option<&Arc<Record>>, after: &Arc<Record>) {
        let promise = "a swap of what is there is done";
        let swapped = self.swap(key, before, after).await;
        self.equal(promise, &swapped, &Swapped::Done);
    }

    /// Swaps where something else is: it brings that, and changes nothing.
    pub(super) async fn stale(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
        there: &Record,
    ) {
        match self.swap(key, before, after).await {
            Swapped::Done => self.fail("a swap of something else is stale", &Swapped::Done),
            Swapped::Stale(found) => {
                let promise = "a stale swap brings what is there";
                self.same(promise, found.as_ref(), Some(there));
            }
        }
        self.holds(key, there).await;
    }

    /// Swaps something for what is gone: it brings nothing, and writes nothing.
    pub(super) async fn stale_with_nothing(
        &self,
        key: &Key,
        before: &Arc<Record>,
        after: &Arc<Record>,
    ) {
        let promise = "a swap of something that is gone brings nothing";
        let swapped = self.swap(key, Some(before), after).await;
        self.equal(promise, &swapped, &Swapped::Stale(None));
        self.holds_nothing(key).await;
    }

    /// Creates a fresh session of these slots.
    pub(super) async fn session(
        &self,
        slots: impl IntoIterator<Item = Slot>,
    ) -> (Key, Arc<Record>) {
        let key = session_key();
        let there = self.put(&key, None, self.record(slots)).await;
        (key, there)
    }

    // Checks.

    #[track_caller]
    pub(super) fn fail(&self, promise: &str, found: &dyn Debug) -> ! {
        panic!("case `{}`: {promise}; found {found:?}", self.case)
    }

    #[track_caller]
    pub(super) fn check(&self, promise: &str, holds: bool) {
        assert!(holds, "case `{}`: {promise}; it does not hold", self.case);
    }

    #[track_caller]
    pub(super) fn equal<T: Debug + PartialEq>(&self, promise: &str, found: &T, expected: &T) {
        assert!(
            found == expected,
            "case `{}`: {promise}; found {found:?}, expected {expected:?}",
            self.case
        );
    }

    /// As [`equal`](Self::equal), but says what differs: records do not show their values.
    #[track_caller]
    pub(super) fn same(
        &self,
        promise: &str,
        found: Option<&Arc<Record>>,
        expected: Option<&Record>,
    ) {
        let found = found.map(AsRef::as_ref);
        if let (Some(found), Some(expected)) = (found, expected)
            && found != expected
        {
            self.fail(promise, &differences(found, expected));
        }
        self.equal(promise, &found, &expected);
    }
}

/// Names what differs from what was expected.
fn differences(found: &Record, expected: &Record) -> Vec<String> {
    let members = [
        ("version", found.version() == expected.version()),
        ("earlier versions", found.earlier() == expected.earlier()),
        ("end", found.ended() == expected.ended()),
        ("expiry", found.expires() == expected.expires()),
        ("time of the last write", found.updated == expected.updated),
        ("time last seen", found.seen() == expected.seen()),
        ("head", found.head == expected.head),
    ];
    let members = members.iter().filter(|(_, same)| !same);
    let members = members.map(|(member, _)| format!("another {member}"));
    let slots = expected.slots().iter();
    let slots = slots.filter_map(|slot| slot_difference(found, slot));
    let surplus = found.slots().iter();
    let surplus = surplus.filter(|slot| expected.slot(slot.name().as_str()).is_none());
    let surplus = surplus.map(|slot| format!("the slot {:?} besides", slot.name().as_str()));
    members.chain(slots).chain(surplus).collect()
}

fn slot_difference(found: &Record, expected: &Slot) -> Option<String> {
    let name = expected.name().as_str();
    let Some(found) = found.slot(name) else {
        return Some(format!("no slot {name:?}"));
    };
    let (length, due) = (found.payload().len(), expected.payload().len());
    if found.payload() != expected.payload() {
        return Some(format!(
            "another payload of the slot {name:?}, {length} bytes for {due}"
        ));
    }
    let differs = **found != *expected;
    differs.then(|| format!("another expiry or signature of the slot {name:?}"))
}

/// As long as `time` but for the last millisecond.
pub(super) fn just_before(time: Duration) -> Duration {
    time.saturating_sub(MS)
}

/// Makes the key of a fresh session.
pub(super) fn session_key() -> Key {
    let id = SessionId::generate().expect("the operating system gives random bytes");
    Key::from(&id)
}

/// Makes a slot that lives as long as its record.
pub(super) fn slot(name: &str, payload: impl Into<Vec<u8>>) -> Slot {
    Slot::new(name, payload.into(), None)
}

/// Makes a copy of the next version with these slots and no others.
pub(super) fn next_with(there: &Record, slots: impl IntoIterator<Item = Slot>) -> Record {
    let mut next = there.next();
    next.retain(|_| false);
    next.with_slots(slots.into_iter().map(Arc::new))
}

/// Numbers without a pattern, the same in every run.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: usize) -> Self {
        Self(seed as u64)
    }

    /// Returns the next number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let byte = |noise: &mut Self| usize::from(noise.byte());
        let number = byte(self) << 16 | byte(self) << 8 | byte(self);
        number % bound
    }

    fn byte(&mut self) -> u8 {
        // The multiplier and increment of Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0.to_le_bytes()[7]
    }
}

/// Returns bytes without a pattern that compression or a wrong length would hide; others for each seed.
pub(super) fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut noise = Noise::new(seed);
    std::iter::repeat_with(|| noise.byte())
        .take(length)
        .collect()
}
