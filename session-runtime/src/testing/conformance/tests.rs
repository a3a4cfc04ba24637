//! The suite finds every broken store, and says by which promise.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use super::{CASES, SCANNER_CASES, SWEEPER_CASES, conformance_case};
use crate::clock::{Clock, Timestamp};
use crate::frame::{Delta, delta, unpack};
use crate::key::Key;
use crate::record::{FieldName, Record, Slot};
use crate::store::{KEPT_AFTER_EXPIRY, Scanned, Store, StoreError, Swapped, SweepGuard, Swept};
use crate::testing::TestClock;

/// What is wrong with a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    LastWriterWins,
    StaleBringsWhatWasCompared,
    StaleBringsWhatWasThereBefore,
    StaleWritesTheExpiry,
    StaleForgetsTheRecord,
    ForgetsLargeSlots,
    DropsEveryEleventhSwap,
    ComparesBeforeTheLock,
    Tears,
    AppliesTwice,
    ComparesSlots,
    CreatesOverExpired,
    CreatesOverTombstones,
    UpdatesNothing,
    ForgetsEarlierVersions,
    ForgetsSecrets,
    ForgetsExpiriesOfSlots,
    KeepsSeconds,
    KeepsText,
    FoldsNames,
    CutsNames,
    MixesUsersAndSessions,
    WritesInTwoSteps,
    LatestIsLate,
    SweepsAtExpiry,
    SweepsByAnyClock,
    SweepsTooMuch,
    SweepsNothing,
    SweepsWhatWasExtended,
    NamesUsers,
    NamesTombstones,
    LosesOwners,
    LoadsNothingExpired,
    ScansUsers,
    ScansOnce,
    ScanSkipsOne,
    ScansAllAtOnce,
    ScansByCount,
    ScansFromAnywhere,
}

/// A table behind one lock, right but for its flaw.
struct Table {
    flaw: Flaw,
    clock: TestClock,
    guard: SweepGuard,
    rows: Mutex<BTreeMap<String, (Key, Arc<Record>)>>,
    swaps: AtomicUsize,
    first: Mutex<HashMap<Key, Arc<Record>>>,
}

impl Table {
    fn new(flaw: Flaw, clock: TestClock) -> Self {
        Self {
            flaw,
            guard: SweepGuard::new(clock.clone()),
            clock,
            rows: Mutex::default(),
            swaps: AtomicUsize::new(0),
            first: Mutex::default(),
        }
    }

    fn name(&self, key: &Key) -> String {
        match (self.flaw, key) {
            (Flaw::FoldsNames, key) => key.to_string().to_lowercase(),
            (Flaw::CutsNames, key) => key.to_string().chars().take(1_020).collect(),
            (Flaw::MixesUsersAndSessions, Key::User(user)) => user.as_str().to_owned(),
            (_, key) => key.to_string(),
        }
    }

    fn row(&self, key: &Key) -> Option<Arc<Record>> {
        let rows = self.rows.lock().unwrap();
        rows.get(&self.name(key))
            .map(|(_, record)| Arc::clone(record))
    }

    /// Returns the record as this table keeps it.
    fn kept(&self, record: &Record) -> Record {
        let mut kept = record.clone();
        match self.flaw {
            Flaw::ForgetsLargeSlots => kept.retain(|slot| slot.payload().len() < 60_000),
            Flaw::ForgetsEarlierVersions => {
                let (version, head) = (record.version(), (*record.head).clone());
                kept = Record::stored(version, Vec::new(), head);
                (kept.expires, kept.ended) = (record.expires, record.ended.clone());
                (kept.updated, kept.seen) = (record.updated, record.seen);
                kept.put_sorted(record.slots().to_vec());
            }
            Flaw::ForgetsSecrets => kept.head_mut().secrets.0.truncate(3),
            Flaw::ForgetsExpiriesOfSlots => {
                for slot in record.slots() {
                    kept.set(Arc::new(slot.retimed(None)));
                }
            }
            Flaw::KeepsSeconds => {
                let seconds = record.expires.as_millis() / 1_000 * 1_000;
                kept.expires = Timestamp::from_millis(seconds);
            }
            Flaw::KeepsText => {
                for slot in record.slots() {
                    let text = String::from_utf8_lossy(slot.payload()).into_owned();
                    let (name, signature) = (slot.name().clone(), slot.signature());
                    kept.set(Arc::new(Slot::signed(
                        name,
                        text,
                        slot.expires(),
                        signature,
                    )));
                }
            }
            _ => {}
        }
        kept
    }

    /// Compares, as it should or otherwise.
    fn is_expected(&self, there: Option<&Record>, before: Option<&Record>) -> bool {
        let now = self.clock.now();
        match (self.flaw, there, before) {
            (Flaw::LastWriterWins, ..) | (Flaw::UpdatesNothing, None, Some(_)) => true,
            (Flaw::AppliesTwice, Some(there), Some(before)) => there.is_or_was(before.version()),
            (Flaw::ComparesSlots, Some(there), Some(before)) => there.slots() == before.slots(),
            (Flaw::CreatesOverExpired, Some(there), None) => !there.is_live(now),
            (Flaw::CreatesOverTombstones, Some(there), None) => there.ended().is_some(),
            (_, there, before) => there.map(Record::version) == before.map(Record::version),
        }
    }

    fn stale(&self, there: Option<&Arc<Record>>, before: Option<&Arc<Record>>) -> Swapped {
        Swapped::Stale(match self.flaw {
            Flaw::StaleBringsWhatWasCompared => before.or(there).cloned(),
            Flaw::StaleForgetsTheRecord => None,
            _ => there.cloned(),
        })
    }

    fn try_swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Record,
        seen: Option<&Arc<Record>>,
    ) -> Swapped {
        let mut rows = self.rows.lock().unwrap();
        let name = self.name(key);
        let there = rows.get(&name).map(|(_, record)| Arc::clone(record));
        let compared = match self.flaw {
            Flaw::ComparesBeforeTheLock => seen,
            _ => there.as_ref(),
        };
        let [compared, expected] = [compared, before].map(|record| record.map(AsRef::as_ref));
        if !self.is_expected(compared, expected) {
            if self.flaw == Flaw::StaleWritesTheExpiry
                && let Some((_, record)) = rows.get_mut(&name)
            {
                Arc::make_mut(record).expires = after.expires;
            }
            let is_late = self.flaw == Flaw::StaleBringsWhatWasThereBefore;
            return self.stale(if is_late { seen } else { there.as_ref() }, before);
        }
        let count = self.swaps.fetch_add(1, Ordering::Relaxed) + 1;
        if self.flaw == Flaw::DropsEveryEleventhSwap && count.is_multiple_of(11) {
            return Swapped::Done;
        }
        let kept = Arc::new(self.kept(after));
        self.first
            .lock()
            .unwrap()
            .entry(key.clone())
            .or_insert(Arc::clone(&kept));
        rows.insert(name, (key.clone(), kept));
        Swapped::Done
    }

    fn is_due(&self, record: &Record, cutoff: Timestamp) -> bool {
        match self.flaw {
            Flaw::SweepsAtExpiry => record.expires() <= cutoff + KEPT_AFTER_EXPIRY,
            Flaw::SweepsNothing => false,
            _ => record.expires() <= cutoff,
        }
    }

    fn due(&self, limit: usize) -> Vec<(Key, Arc<Record>)> {
        let blind = self.flaw == Flaw::SweepsByAnyClock;
        let own = blind.then(|| self.clock.now() - KEPT_AFTER_EXPIRY);
        let Some(cutoff) = self.guard.cutoff().or(own) else {
            return Vec::new();
        };
        let limit = limit + usize::from(self.flaw == Flaw::SweepsTooMuch);
        let rows = self.rows.lock().unwrap();
        let due = rows
            .values()
            .filter(|(_, record)| self.is_due(record, cutoff));
        due.take(limit).cloned().collect()
    }

    fn tell(&self, swept: &mut Swept, key: Key, record: &Record) {
        let user = record.user().cloned();
        let is_named = match self.flaw {
            Flaw::NamesUsers => record.ended().is_none(),
            Flaw::NamesTombstones => !key.is_user(),
            Flaw::LosesOwners => {
                swept.add(key, record);
                return swept.expired.iter_mut().for_each(|(_, user)| *user = None);
            }
            _ => return swept.add(key, record),
        };
        swept.deleted += 1;
        swept.expired.extend(is_named.then_some((key, user)));
    }
}

impl Store for Table {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let mut there = self.row(key);
        if self.flaw == Flaw::Tears
            && let Some(record) = &mut there
        {
            tokio::task::yield_now().await;
            let slots = self
                .row(key)
                .map_or_else(Vec::new, |later| later.slots().to_vec());
            Arc::make_mut(record).put_sorted(slots);
        }
        if self.flaw == Flaw::LoadsNothingExpired {
            there = there.filter(|record| record.is_live(self.clock.now()));
        }
        Ok(there)
    }

    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        if self.flaw == Flaw::LatestIsLate {
            return Ok(self.first.lock().unwrap().get(key).cloned());
        }
        self.load(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.guard.observe_swap(before.map(AsRef::as_ref), after);
        let seen = self.row(key);
        if self.flaw == Flaw::WritesInTwoSteps {
            let mut first = Record::clone(after);
            first.retain(|slot| slot.payload().len() < 5_000);
            if self.try_swap(key, before, &first, None) == Swapped::Done {
                tokio::task::yield_now().await;
                return Ok(self.try_swap(key, Some(after), after, None));
            }
        }
        tokio::task::yield_now().await;
        Ok(self.try_swap(key, before, after, seen.as_ref()))
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        tokio::task::yield_now().await;
        let limit = match self.flaw {
            Flaw::ScansAllAtOnce => usize::MAX,
            _ => limit.max(1),
        };
        let rows = self.rows.lock().unwrap();
        let keys = rows.values().map(|(key, _)| key);
        let users = self.flaw == Flaw::ScansUsers;
        let keys = keys.filter(|key| users || !key.is_user());
        let (named, after) = (after, after.unwrap_or_default());
        if self.flaw == Flaw::ScansByCount {
            let from = after.parse().unwrap_or(0);
            let keys: Vec<_> = keys.skip(from).take(limit).cloned().collect();
            let next = (keys.len() == limit).then(|| (from + limit).to_string());
            return Ok(Scanned { keys, next });
        }
        if self.flaw != Flaw::ScansFromAnywhere {
            Scanned::begins_after(named)?;
        }
        let skips = usize::from(self.flaw == Flaw::ScanSkipsOne && !after.is_empty());
        let keys = keys
            .filter(|key| key.to_string().as_str() > after)
            .skip(skips);
        let mut scanned = Scanned::ordered(keys.take(limit).map(Key::to_string), limit);
        scanned.next = scanned.next.filter(|_| self.flaw != Flaw::ScansOnce);
        Ok(scanned)
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        let due = self.due(limit);
        tokio::task::yield_now().await;
        let mut swept = Swept::default();
        let mut rows = self.rows.lock().unwrap();
        for (key, record) in due {
            let name = self.name(&key);
            let there = rows.get(&name).map(|(_, there)| there.version());
            let blind = self.flaw == Flaw::SweepsWhatWasExtended;
            if there == Some(record.version()) || blind && there.is_some() {
                rows.remove(&name);
                self.tell(&mut swept, key, &record);
            }
        }
        Ok(swept)
    }
}

/// What is wrong with an [`Apart`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misplaced {
    Nothing,
    /// A slot that others push out of the head is taken for written already.
    PushedOut,
    /// A payload as long as the one before is taken for the same.
    ComparesLengths,
    /// The payloads are written though the swap is stale.
    WrittenIfStale,
}

/// A store that keeps large payloads beside the head.
struct Apart {
    room: usize,
    flaw: Misplaced,
    rows: Mutex<HashMap<Key, Row>>,
}

#[derive(Default)]
struct Row {
    head: Bytes,
    beside: HashMap<FieldName, Bytes>,
}

impl Row {
    fn record(&self) -> Result<Option<Arc<Record>>, StoreError> {
        if self.head.is_empty() {
            return Ok(None);
        }
        let beside = |name: &str| self.beside.get(&FieldName::from(name)).cloned();
        Ok(Some(Arc::new(unpack(&self.head, beside)?)))
    }

    fn apply(&mut self, delta: &Delta<'_>) {
        for name in &delta.removed {
            self.beside.remove(*name);
        }
        for slot in &delta.written {
            self.beside
                .insert(slot.name().clone(), Bytes::copy_from_slice(slot.payload()));
        }
        self.head = Bytes::from(delta.head.clone());
    }
}

impl Apart {
    fn delta<'a>(&self, before: Option<&'a Record>, after: &'a Record) -> Delta<'a> {
        let mut delta = delta(before, after, self.room);
        let old = |slot: &Slot| before.and_then(|before| before.slot(slot.name().as_str()));
        let is_same = |slot: &Slot, old: &Slot| match self.flaw {
            Misplaced::PushedOut => old.signature() == slot.signature(),
            Misplaced::ComparesLengths => old.payload().len() == slot.payload().len(),
            _ => false,
        };
        let is_new = |slot: &&Arc<Slot>| !old(slot).is_some_and(|old| is_same(slot, old));
        delta.written.retain(is_new);
        delta
    }
}

impl Store for Apart {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let rows = self.rows.lock().unwrap();
        rows.get(key).map_or(Ok(None), Row::record)
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        let mut rows = self.rows.lock().unwrap();
        let row = rows.entry(key.clone()).or_default();
        let there = row.record()?;
        let delta = self.delta(before.map(AsRef::as_ref), after);
        let versions = [there.as_ref(), before].map(|record| record.map(|it| it.version()));
        if versions[0] != versions[1] {
            if self.flaw == Misplaced::WrittenIfStale {
                let head = row.head.clone();
                row.apply(&delta);
                row.head = head;
            }
            return Ok(Swapped::Stale(there));
        }
        row.apply(&delta);
        Ok(Swapped::Done)
    }

    async fn sweep(&self, _: usize) -> Result<Swept, StoreError> {
        Ok(Swept::default())
    }
}

/// Runs these cases and gathers what the failing ones say, by name.
fn failures<S: Store>(
    runtime: &Runtime,
    cases: impl IntoIterator<Item = &'static str>,
    make: impl Fn(TestClock) -> S,
) -> BTreeMap<&'static str, String> {
    let run = |case: &'static str| {
        let run = conformance_case(case, async |clock| make(clock));
        let failed = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run))).err()?;
        let message = failed.downcast_ref::<String>().cloned();
        Some((case, message.unwrap_or_default()))
    };
    cases.into_iter().filter_map(run).collect()
}

#[track_caller]
fn is_caught<S: Store>(case: &'static str, flaw: &str, make: impl Fn(TestClock) -> S) {
    // One thread: what races comes in the same order in every run.
    let runtime = Builder::new_current_thread().build().unwrap();
    let failures = failures(&runtime, [case], make);
    let said = failures
        .get(case)
        .unwrap_or_else(|| panic!("`{case}` does not find {flaw}"));
    let names_it = format!("case `{case}`: ");
    assert!(
        said.starts_with(&names_it),
        "{flaw} is not reported by `{case}`: {said}"
    );
}

#[test]
fn a_right_store_passes() {
    let make = |clock| Table::new(Flaw::None, clock);
    let failures = failures(&Runtime::new().unwrap(), CASES.iter().copied(), make);
    assert_eq!(failures, BTreeMap::new());
}

#[cfg(feature = "memory")]
#[test]
fn the_memory_store_passes() {
    use crate::store::MemoryStore;

    let make = |clock| MemoryStore::new().with_clock(clock);
    let failures = failures(&Runtime::new().unwrap(), CASES.iter().copied(), make);
    assert_eq!(failures, BTreeMap::new());
}

#[test]
fn a_right_store_that_keeps_payloads_apart_passes() {
    let runtime = Runtime::new().unwrap();
    for room in [0, 700, 2_048, 1 << 20] {
        let cases = CASES
            .iter()
            .copied()
            .filter(|case| !SWEEPER_CASES.contains(case) && !SCANNER_CASES.contains(case));
        let flaw = Misplaced::Nothing;
        let make = |_| Apart {
            room,
            flaw,
            rows: Mutex::default(),
        };
        let failures = failures(&runtime, cases, make);
        assert_eq!(failures, BTreeMap::new(), "with room for {room}");
    }
}

#[test]
fn every_case_that_may_be_left_out_is_a_case() {
    let mut may = SWEEPER_CASES.iter().chain(SCANNER_CASES);
    assert!(may.all(|case| CASES.contains(case)));
}

#[test]
#[should_panic(expected = "there is no case `a_promise_of_nobody`")]
fn an_unknown_case_is_refused() {
    let runtime = Runtime::new().unwrap();
    let make = async |clock| Table::new(Flaw::None, clock);
    runtime.block_on(conformance_case("a_promise_of_nobody", make));
}

macro_rules! caught {
    ($($flaw:ident by $case:ident,)+) => {
        /// Each broken store, and a case that is sure to find it.
        const CAUGHT: &[(Flaw, &str)] = &[$((Flaw::$flaw, stringify!($case)),)+];
    };
}

caught! {
    LastWriterWins by a_swap_of_an_earlier_version_is_stale,
    StaleBringsWhatWasCompared by a_swap_of_an_earlier_version_is_stale,
    StaleBringsWhatWasThereBefore by every_increment_counts,
    StaleWritesTheExpiry by a_stale_swap_writes_no_part,
    StaleForgetsTheRecord by a_create_goes_over_nothing_alone,
    ForgetsLargeSlots by a_large_payload_keeps_its_bytes,
    DropsEveryEleventhSwap by a_swap_is_seen_when_it_has_returned,
    ComparesBeforeTheLock by one_of_many_swaps_of_one_version_is_done,
    Tears by a_load_never_tears,
    AppliesTwice by a_repeat_after_other_swaps_is_stale,
    ComparesSlots by a_record_like_an_earlier_one_is_another,
    CreatesOverExpired by a_create_over_an_expired_record_is_stale,
    CreatesOverTombstones by a_create_over_a_tombstone_is_stale,
    UpdatesNothing by a_swap_of_what_is_not_there_brings_nothing,
    ForgetsEarlierVersions by sixteen_earlier_versions_are_remembered,
    ForgetsSecrets by every_member_of_a_head_comes_back,
    ForgetsExpiriesOfSlots by times_are_kept_to_the_millisecond,
    KeepsSeconds by times_are_kept_to_the_millisecond,
    KeepsText by payloads_keep_their_exact_bytes,
    FoldsNames by users_of_unusual_names_stay_apart,
    CutsNames by users_of_unusual_names_stay_apart,
    WritesInTwoSteps by a_swap_given_up_is_done_whole_or_not_at_all,
    MixesUsersAndSessions by users_and_sessions_never_meet,
    LatestIsLate by a_swap_replaces_the_whole_record,
    SweepsAtExpiry by sweeping_deletes_what_expired_ten_minutes_ago,
    SweepsByAnyClock by sweeping_stands_still_after_a_step_forward,
    SweepsTooMuch by sweeping_keeps_to_its_limit,
    SweepsNothing by sweeping_deletes_what_expired_ten_minutes_ago,
    SweepsWhatWasExtended by sweeping_never_deletes_what_is_being_extended,
    NamesUsers by sweeping_names_the_sessions_and_whose_they_were,
    NamesTombstones by sweeping_deletes_tombstones_in_their_time,
    LosesOwners by sweeping_names_the_sessions_and_whose_they_were,
    LoadsNothingExpired by an_expired_record_still_loads,
    ScansUsers by scanning_finds_every_session_and_no_user,
    ScansOnce by scanning_finds_every_session_and_no_user,
    ScanSkipsOne by scanning_finds_what_is_there_all_the_while,
    ScansAllAtOnce by scanning_takes_some_at_a_time,
    ScansByCount by scanning_misses_none_while_others_are_swept,
    ScansFromAnywhere by scanning_goes_on_from_no_place_but_those_it_named,
}

#[test]
fn each_broken_store_is_caught_by_name() {
    for (flaw, case) in CAUGHT {
        is_caught(case, &format!("{flaw:?}"), |clock| Table::new(*flaw, clock));
    }
}

#[test]
fn a_store_that_misplaces_payloads_is_caught_by_name() {
    for (flaw, case) in [
        (
            Misplaced::PushedOut,
            "a_slot_crosses_the_limits_though_it_stays_the_same",
        ),
        (
            Misplaced::ComparesLengths,
            "a_large_slot_changes_while_others_stay",
        ),
        (Misplaced::WrittenIfStale, "a_stale_swap_writes_no_part"),
    ] {
        is_caught(case, &format!("{flaw:?}"), |_| Apart {
            room: 700,
            flaw,
            rows: Mutex::default(),
        });
    }
}

#[test]
fn a_failure_says_what_differs() {
    let make = |clock| Table::new(Flaw::ForgetsLargeSlots, clock);
    let runtime = Runtime::new().unwrap();
    let failures = failures(&runtime, ["a_large_payload_keeps_its_bytes"], make);
    let said = &failures["a_large_payload_keeps_its_bytes"];
    assert!(said.contains("no slot \\\"large\\\""), "{said}");
}
