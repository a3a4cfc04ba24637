use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{MemoryStore, lock};
use crate::clock::Clock;
use crate::key::{Key, Selector, UserId};
use crate::record::{Ended, Record, Slot, arbitrary};
use crate::secret::{SecretHash, Secrets};
use crate::store::{Store, Swapped};
use crate::testing::TestClock;

const TTL: Duration = Duration::from_secs(2 * 60 * 60);

/// Returns what the store answers: it never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the memory store waits for something"),
    }
}

fn session(number: u64) -> Key {
    Key::Session(Selector::from_bytes(number.to_be_bytes()))
}

impl MemoryStore {
    fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// Finds that what is held is what is counted, and that each entry has one deadline, no later than it expires.
    fn check(&self) {
        let (mut costs, mut of_newcomers) = (0, 0);
        for shard in &self.inner.shards {
            let of_shard = lock(shard).check();
            costs += of_shard.0;
            of_newcomers += of_shard.1;
        }
        assert_eq!(costs, self.used(), "the count is exact");
        let counted = self.inner.of_newcomers.load(Ordering::Relaxed);
        assert_eq!(of_newcomers, counted, "of newcomers, too");
    }
}

fn swap(store: &MemoryStore, key: &Key, before: Option<&Arc<Record>>, after: &Arc<Record>) -> bool {
    matches!(now(store.swap(key, before, after)), Ok(Swapped::Done))
}

fn load(store: &MemoryStore, key: &Key) -> Option<Arc<Record>> {
    now(store.load(key)).unwrap()
}

/// Returns a store of so many bytes, and the clock that it goes by.
fn holding(bytes: usize) -> (TestClock, MemoryStore) {
    let clock = TestClock::new();
    let store = MemoryStore::new().with_clock(clock.clone());
    (clock, store.with_capacity_bytes(bytes))
}

/// A session as most are: two small fields, one secret.
fn idle(clock: &TestClock) -> Record {
    let mut record = Record::new(clock.now(), clock.now() + TTL);
    record.head_mut().secrets = Secrets::first(SecretHash::of(b"1"), clock.now());
    record.with_slots([
        Arc::new(Slot::new("cart", br#"{"apple":2}"#.to_vec(), None)),
        Arc::new(Slot::new("currency", br#""EUR""#.to_vec(), None)),
    ])
}

// What it takes.

/// So many that the tables have just doubled, and are as empty as they get: 897 in each shard.
const SESSIONS: u64 = 16 * 897;

fn taken_by(writes: usize) -> (u64, MemoryStore) {
    let clock = TestClock::new();
    let store = MemoryStore::new().with_clock(clock.clone());
    let taken = measure(|| {
        for number in 0..SESSIONS {
            let mut there = Arc::new(idle(&clock));
            assert!(swap(&store, &session(number), None, &there));
            for _ in 0..writes {
                let next = Arc::new(there.next());
                assert!(swap(&store, &session(number), Some(&there), &next));
                there = next;
            }
        }
    });
    (u64::try_from(taken.bytes_current).unwrap(), store)
}

#[test]
fn an_idle_session_takes_at_most_nine_hundred_bytes() {
    let (taken, _store) = taken_by(0);
    assert!(taken / SESSIONS <= 900, "{} bytes", taken / SESSIONS);
}

#[test]
fn a_session_that_was_written_often_takes_no_more() {
    let (taken, _store) = taken_by(16);
    assert!(taken / SESSIONS <= 900, "{} bytes", taken / SESSIONS);
    let (after_more, _store) = taken_by(40);
    // But for what is set up once in a process.
    assert!(
        after_more.abs_diff(taken) < SESSIONS,
        "{taken}, then {after_more}"
    );
}

#[test]
fn the_budget_covers_what_is_taken() {
    for writes in [0, 16] {
        let (taken, store) = taken_by(writes);
        let counted = store.used() as u64;
        assert!(taken <= counted, "{taken} taken, {counted} counted");
        assert!(counted <= 2 * taken, "{taken} taken, {counted} counted");
    }
}

#[test]
fn the_budget_covers_records_of_every_kind() {
    let make: [fn(&TestClock) -> Record; 5] = [
        with_long_texts,
        with_an_undo,
        with_slots,
        with_secrets,
        an_end,
    ];
    for make in make {
        for key in [session, long_user] {
            let clock = TestClock::new();
            let store = MemoryStore::new().with_clock(clock.clone());
            let taken = measure(|| {
                for number in 0..200 {
                    assert!(swap(&store, &key(number), None, &Arc::new(make(&clock))));
                }
            });
            let taken = u64::try_from(taken.bytes_current).unwrap();
            let counted = store.used() as u64;
            assert!(taken <= counted, "{taken} taken, {counted} counted");
        }
    }
}

fn long_text() -> String {
    "x".repeat(2_000)
}

fn long_user(number: u64) -> Key {
    Key::User(UserId::new(format!("{}{number}", long_text())))
}

fn with_long_texts(clock: &TestClock) -> Record {
    let mut record = idle(clock);
    record.head_mut().user = Some(UserId::new(long_text()));
    record.head_mut().address = Some(long_text().into());
    record.head_mut().user_agent = Some(long_text().into());
    record.head_mut().label = Some(long_text().into());
    record
}

fn with_an_undo(clock: &TestClock) -> Record {
    let mut record = with_long_texts(clock);
    let undo = with_long_texts(clock).head.without_undo();
    record.head_mut().undo = Some(undo);
    record
}

fn with_slots(clock: &TestClock) -> Record {
    let slots = (0..100).map(|number| Slot::new(format!("slot {number}"), vec![b'.'; 100], None));
    idle(clock).with_slots(slots.map(Arc::new))
}

fn with_secrets(clock: &TestClock) -> Record {
    let mut record = idle(clock);
    for number in 0..48_u32 {
        let hash = SecretHash::of(&number.to_le_bytes());
        record.head_mut().secrets.issue(hash, clock.now());
    }
    record
}

fn an_end(clock: &TestClock) -> Record {
    idle(clock).tombstone(Ended::Deleted(long_text()), clock.now())
}

#[test]
fn what_was_swept_is_given_back() {
    let clock = TestClock::new();
    let store = MemoryStore::new().with_clock(clock.clone());
    for number in 0..1_000 {
        assert!(swap(
            &store,
            &session(number),
            None,
            &Arc::new(idle(&clock))
        ));
    }
    clock.advance(2 * TTL);
    assert_eq!(now(store.sweep(usize::MAX)).unwrap().deleted, 1_000);
    assert_eq!(store.used(), 0);
    store.check();
}

#[test]
fn a_load_and_a_stale_swap_copy_nothing() {
    let clock = TestClock::new();
    let store = MemoryStore::new().with_clock(clock.clone());
    let (key, there) = (session(1), Arc::new(idle(&clock)));
    assert!(swap(&store, &key, None, &there));
    let late = Arc::new(there.next());
    let taken = measure(|| {
        let loaded = load(&store, &key).unwrap();
        assert!(Arc::ptr_eq(&loaded, &there));
        let Ok(Swapped::Stale(Some(stale))) = now(store.swap(&key, None, &late)) else {
            panic!("it is stale");
        };
        assert!(Arc::ptr_eq(&stale, &there));
    });
    assert_eq!(taken.count_total, 0);
}

// What it never does.

#[derive(Clone, Debug)]
enum Act {
    Swap {
        key: u64,
        stale: bool,
        record: Box<Record>,
    },
    End {
        key: u64,
        reason: String,
    },
    Extend {
        key: u64,
        minutes: u32,
    },
    Sweep {
        limit: usize,
    },
    Pass {
        minutes: u32,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let key = || 0..8_u64;
    prop_oneof![
        6 => (key(), prop::bool::weighted(0.1), arbitrary::record()).prop_map(
            |(key, stale, record)| Act::Swap { key, stale, record: Box::new(record) }
        ),
        1 => (key(), arbitrary::text()).prop_map(|(key, reason)| Act::End { key, reason }),
        3 => (key(), 0..200_u32).prop_map(|(key, minutes)| Act::Extend { key, minutes }),
        1 => (0..5_usize).prop_map(|limit| Act::Sweep { limit }),
        1 => (0..60_u32).prop_map(|minutes| Act::Pass { minutes }),
    ]
}

const MINUTE: Duration = Duration::from_secs(60);

/// A store of 16 KiB, and what was put into it.
struct Trial {
    clock: TestClock,
    store: MemoryStore,
    /// How much of what is held are ends, which always find room.
    ends: usize,
}

impl Trial {
    fn new() -> Self {
        let (clock, store) = holding(16 << 10);
        Self {
            clock,
            store,
            ends: 0,
        }
    }

    /// A live record that was seen now, whatever else.
    fn live(&self, record: &Record, minutes: u32) -> Record {
        let mut record = record.clone();
        record.seen = self.clock.now();
        record.expires = self.clock.now() + minutes * MINUTE;
        record
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Swap { key, stale, record } => {
                let there = load(&self.store, &session(*key));
                let before = there.filter(|_| !stale);
                let mut after = self.live(record, 120);
                after.ended = None;
                self.swap(*key, before.as_ref(), after);
            }
            Act::End { key, reason } => {
                let Some(there) = load(&self.store, &session(*key)) else {
                    return;
                };
                let reason = Ended::Deleted(reason.clone());
                let end = there.tombstone(reason, self.clock.now());
                self.ends += end.to_bytes().len() + 1_024;
                assert!(self.swap(*key, Some(&there), end), "an end finds room");
            }
            Act::Extend { key, minutes } => {
                if let Some(there) = load(&self.store, &session(*key)) {
                    let next = self.live(&there.next(), *minutes);
                    self.swap(*key, Some(&there), next);
                }
            }
            Act::Sweep { limit } => {
                let swept = now(self.store.sweep(*limit)).unwrap();
                assert!(swept.deleted <= *limit);
            }
            Act::Pass { minutes } => self.clock.advance(*minutes * MINUTE),
        }
    }

    /// Swaps, and returns `true` if that is done: it is there then, and otherwise what was there before.
    fn swap(&self, key: u64, before: Option<&Arc<Record>>, after: Record) -> bool {
        let there = load(&self.store, &session(key));
        let after = Arc::new(after);
        let swapped = now(self.store.swap(&session(key), before, &after));
        let done = matches!(swapped, Ok(Swapped::Done));
        let expected = if done { Some(after) } else { there };
        match swapped {
            Ok(Swapped::Done) => {}
            Ok(Swapped::Stale(found)) => assert!(found == load(&self.store, &session(key))),
            Err(error) => assert!(error.is_full() && !error.is_transient(), "{error:?}"),
        }
        let found = load(&self.store, &session(key));
        // To make room, what has expired may have been swept.
        let now = self.clock.now();
        let swept = !done && expected.as_ref().is_some_and(|record| !record.is_live(now));
        assert!(found == expected || swept && found.is_none());
        done
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_count_is_exact_and_within_capacity_whatever_is_done(acts in vec(act(), 0..60)) {
        let mut trial = Trial::new();
        for act in acts {
            trial.act(&act);
            trial.store.check();
            prop_assert!(trial.store.used() <= (16 << 10) + trial.ends);
        }
        // In the end all of it goes.
        trial.clock.advance(100 * TTL);
        now(trial.store.sweep(usize::MAX)).unwrap();
        prop_assert_eq!(trial.store.used(), 0);
    }
}

#[test]
fn an_end_finds_room_in_a_full_store_whatever_its_reason() {
    let clock = TestClock::new();
    let store = MemoryStore::new().with_clock(clock.clone());
    let (key, there) = (session(1), Arc::new(idle(&clock)));
    assert!(swap(&store, &key, None, &there));
    let full = store.clone().with_capacity_bytes(store.used());
    let end = there.tombstone(Ended::Deleted(long_text()), clock.now());
    assert!(swap(&full, &key, Some(&there), &Arc::new(end)));
    assert!(full.used() > full.capacity);
    full.check();
    // Nothing else does.
    assert!(!swap(&full, &session(2), None, &there));
}

// A flood of requests without cookies.

/// Creates sessions that nobody asks for again, and returns how many were refused.
fn flood(store: &MemoryStore, clock: &TestClock, sessions: std::ops::Range<u64>) -> usize {
    let newcomer = idle(clock);
    let create = |number: &u64| swap(store, &session(*number), None, &Arc::new(newcomer.clone()));
    sessions.filter(|number| !create(number)).count()
}

#[test]
fn a_flood_of_newcomers_throws_out_newcomers_alone() {
    const CAPACITY: usize = 16 << 20;
    // Optimised, a million take seconds, and minutes otherwise.
    const END: u64 = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    const FLOOD: std::ops::Range<u64> = 10..END;
    let (clock, store) = holding(CAPACITY);
    // Those who have come back, to read or to write; somebody's session; a user's record.
    let (read, written, somebodys, users) = (session(0), session(1), session(2), long_user(3));
    let there = Arc::new(idle(&clock));
    for key in [&read, &written, &users] {
        assert!(swap(&store, key, None, &there));
    }
    assert!(load(&store, &read).is_some());
    let found = load(&store, &written);
    assert!(swap(
        &store,
        &written,
        found.as_ref(),
        &Arc::new(there.next())
    ));
    let mut record = idle(&clock);
    record.head_mut().user = Some(UserId::new("7"));
    assert!(swap(&store, &somebodys, None, &Arc::new(record)));

    let mut refused = 0;
    let taken = measure(|| refused = flood(&store, &clock, FLOOD));
    assert_eq!(refused, 0, "each newcomer is served");
    let [most, left] = [taken.bytes_max, i64::cast_unsigned(taken.bytes_current)];
    assert!(
        left <= most && most <= CAPACITY as u64,
        "{left} of {most} bytes"
    );
    store.check();
    for key in [&read, &written, &somebodys, &users] {
        assert!(load(&store, key).is_some(), "{key:?}");
    }
    let is_there = |number: &u64| load(&store, &session(*number)).is_some();
    let last = FLOOD.filter(is_there).collect::<Vec<_>>();
    // The oldest went: each shard keeps its youngest, and shards are alike.
    let oldest = FLOOD.end - last[0];
    assert!(last.len() > 15_000 && oldest < 25_000, "{oldest}");
}

#[test]
fn newcomers_stay_where_their_room_would_not_do() {
    let (clock, store) = holding(1 << 20);
    assert_eq!(flood(&store, &clock, 0..10), 0);
    // Those who have come back take more than is kept for them.
    let there = Arc::new(idle(&clock));
    for number in 10.. {
        let key = session(number);
        if store.used() > store.capacity / 100 * 98 {
            break;
        }
        let full = store.used() > store.capacity / 100 * 89;
        if !full {
            assert!(swap(&store, &key, None, &there));
            assert!(load(&store, &key).is_some());
            continue;
        }
        // They grow.
        let key = session(10 + number % 100);
        let held = load(&store, &key).expect("it is there");
        let text = vec![b'7'; held.size() + 500];
        let next = held
            .next()
            .with_slots([Arc::new(Slot::new("text", text, None))]);
        assert!(swap(&store, &key, Some(&held), &Arc::new(next)));
    }
    // Neither a newcomer nor a session that grows too far gets in by throwing the others out.
    assert_eq!(flood(&store, &clock, 5_000..5_001), 1);
    let (key, large) = (session(10), vec![b'7'; 1 << 20]);
    let held = load(&store, &key).expect("it is there");
    let next = held
        .next()
        .with_slots([Arc::new(Slot::new("text", large, None))]);
    assert!(!swap(&store, &key, Some(&held), &Arc::new(next)));
    store.check();
    for number in 0..10 {
        assert!(load(&store, &session(number)).is_some(), "{number}");
    }
}

#[test]
fn sessions_that_have_come_back_find_room_where_new_ones_do_not() {
    let (clock, store) = holding(64 << 10);
    let record = Arc::new(idle(&clock));
    let back = (0..).take_while(|number| {
        swap(&store, &session(*number), None, &record) && load(&store, &session(*number)).is_some()
    });
    let back = back.count() as u64;
    assert!(store.used() <= (64 << 10) / 10 * 9, "a tenth is kept");
    let large = Arc::new(Slot::new("note", vec![b'.'; 2_000], None));
    let next = Arc::new(record.next().with_slots([large]));
    assert!(swap(&store, &session(0), Some(&record), &next));
    let refused = now(store.swap(&session(back + 1), None, &record)).unwrap_err();
    assert!(refused.is_full(), "{refused:?}");
    for number in 0..back {
        assert!(load(&store, &session(number)).is_some());
    }
    store.check();
}

#[test]
fn a_newcomer_that_writes_is_not_thrown_out_for_what_it_writes() {
    let (clock, store) = holding(64 << 10);
    let (oldest, there) = (session(0), Arc::new(idle(&clock)));
    assert!(swap(&store, &oldest, None, &there));
    assert_eq!(flood(&store, &clock, 1..60), 0);
    let large = Arc::new(Slot::new("note", vec![b'.'; 30_000], None));
    let next = Arc::new(there.next().with_slots([large]));
    assert!(swap(&store, &oldest, Some(&there), &next));
    assert!(load(&store, &oldest) == Some(next));
    store.check();
}

#[test]
fn newcomers_whose_first_request_writes_twice_are_newcomers_still() {
    let (clock, store) = holding(1 << 20);
    let (first, larger) = (
        Arc::new(idle(&clock)),
        Slot::new("note", vec![b'.'; 500], None),
    );
    let second = Arc::new(first.next().with_slots([Arc::new(larger)]));
    for number in 0..20_000 {
        let key = session(number);
        assert!(swap(&store, &key, None, &first), "{number}");
        assert!(swap(&store, &key, Some(&first), &second), "{number}");
    }
    store.check();
}

#[test]
fn newcomers_that_have_come_back_or_gone_are_not_kept_in_mind() {
    let clock = TestClock::new();
    let store = MemoryStore::new().with_clock(clock.clone());
    for number in 0..20_000 {
        assert_eq!(flood(&store, &clock, number..number + 1), 0);
        assert!(load(&store, &session(number)).is_some());
    }
    store.check();
}

#[test]
fn an_extension_moves_no_deadline() {
    let clock = TestClock::new();
    let store = MemoryStore::new().with_clock(clock.clone());
    let (key, mut there) = (session(1), Arc::new(idle(&clock)));
    assert!(swap(&store, &key, None, &there));
    let due = there.expires();
    for _ in 0..100 {
        clock.advance(MINUTE);
        let mut next = there.next();
        next.expires = clock.now() + TTL;
        let next = Arc::new(next);
        assert!(swap(&store, &key, Some(&there), &next));
        there = next;
    }
    let deadlines = || store.lock(&key).deadlines();
    assert_eq!(deadlines(), [due]);
    clock.advance(31 * MINUTE);
    assert_eq!(now(store.sweep(9)).unwrap().deleted, 0);
    assert_eq!(deadlines(), [there.expires()]);
    store.check();
}

#[test]
fn a_panic_amid_a_swap_locks_nobody_out() {
    let clock = TestClock::new();
    let store = MemoryStore::new().with_clock(clock.clone());
    let key = session(1);
    let held = store.clone();
    let holder = std::thread::spawn({
        let key = key.clone();
        move || {
            let _guard = held.lock(&key);
            panic!("amid a swap");
        }
    });
    assert!(holder.join().is_err());
    assert!(swap(&store, &key, None, &Arc::new(idle(&clock))));
    assert!(load(&store, &key).is_some());
}

#[test]
fn what_takes_more_than_there_is_says_how_much() {
    let clock = TestClock::new();
    let store = MemoryStore::new()
        .with_clock(clock.clone())
        .with_capacity_bytes(100);
    let error = now(store.swap(&session(1), None, &Arc::new(idle(&clock)))).unwrap_err();
    let said = crate::error::Causes(&error).to_string();
    assert!(said.contains("0 of 100 bytes are taken"), "{said}");
    assert!(said.contains("with_capacity_bytes"), "{said}");
    let never = now(store.swap(
        &session(1),
        Some(&Arc::new(idle(&clock))),
        &Arc::new(idle(&clock)),
    ));
    assert_eq!(never.unwrap(), Swapped::Stale(None));
}
