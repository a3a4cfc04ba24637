//! What decides a commit on a server against `Change` itself: whatever is asked in whatever order, it answers as
//! `MemoryStore` does, and holds the same.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use session_runtime::store::{MemoryStore, Store};
use session_runtime::testing::TestClock;
use session_runtime::{
    Change, Clock, Ended, Expiry, Key, Kind, Record, SessionId, Slot, SlotChange, State, Timestamp,
    UserId,
};
use session_tests::{PostgresServer, RedisServer};
use tokio::runtime::Builder;

const SESSIONS: usize = 4;

/// One step over a few keys, names and owners.
#[derive(Clone, Debug)]
struct Step {
    key: usize,
    to: usize,
    act: Act,
    slots: Vec<SlotStep>,
    expiry: Option<(bool, Duration)>,
    lives: Duration,
    owner: Option<u8>,
    user: u8,
    retires: Option<usize>,
    stale: bool,
    passes: i64,
}

#[derive(Clone, Debug)]
enum Act {
    Create,
    Update,
    Move,
    End,
    Claim,
    Release,
    /// The change before, once more.
    Repeat,
}

#[derive(Clone, Debug)]
struct SlotStep {
    name: u8,
    /// Whether it is based on what is there.
    based: bool,
    to: SlotAct,
    expires: Option<Duration>,
}

#[derive(Clone, Debug)]
enum SlotAct {
    Set(u8),
    Retime,
    Drop,
    Read,
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..90_u64).prop_map(Duration::from_secs),
        Just(Duration::from_millis(1)),
        Just(Duration::MAX),
    ]
}

prop_compose! {
    fn slots()(
        name in 0..3_u8,
        based in prop::bool::weighted(0.9),
        to in prop_oneof![
            (0..3_u8).prop_map(SlotAct::Set), (0..3_u8).prop_map(SlotAct::Set),
            Just(SlotAct::Retime), Just(SlotAct::Drop), Just(SlotAct::Read),
        ],
        expires in prop::option::of(durations()),
    ) -> SlotStep {
        SlotStep { name, based, to, expires }
    }
}

prop_compose! {
    fn steps()(
        (key, to) in (0..=SESSIONS, 0..SESSIONS),
        act in prop::sample::select(vec![
            Act::Create, Act::Create, Act::Update, Act::Update, Act::Update, Act::Move, Act::End, Act::Claim,
            Act::Release, Act::Repeat,
        ]),
        slots in prop::collection::vec(slots(), 0..3),
        expiry in prop::option::weighted(0.7, (any::<bool>(), durations())),
        lives in durations(),
        (owner, user) in (prop::option::of(0..3_u8), 0..2_u8),
        retires in prop::option::of(0..SESSIONS),
        stale in prop::bool::weighted(0.1),
        passes in prop_oneof![Just(0_i64), 0..20_000_i64, -1_000..0_i64],
    ) -> Step {
        Step { key, to, act, slots, expiry, lives, owner, user, retires, stale, passes }
    }
}

struct Trial<S> {
    store: S,
    memory: MemoryStore,
    keys: Vec<Key>,
    now: Timestamp,
    last: Option<(Timestamp, Key, Change)>,
}

impl<S: Store> Trial<S> {
    async fn take(&mut self, step: &Step) {
        self.now = Timestamp::from_millis(self.now.as_millis() + step.passes);
        let (key, change) = self.change(step).await;
        let answers = (
            self.store.commit(&key, &change).await.expect("an answer"),
            self.memory.commit(&key, &change).await.expect("an answer"),
        );
        assert_eq!(answers.0, answers.1, "{change:?}");
        self.compare(&change).await;
        self.last = Some((self.now, key, change));
    }

    async fn compare(&self, change: &Change) {
        for key in &self.keys {
            let found = (self.store.load(key).await, self.memory.load(key).await);
            assert_eq!(found.0.unwrap(), found.1.unwrap(), "after {change:?}");
        }
        for owner in 0..3_u64 {
            let owner = UserId::from(owner);
            let mut listed = self.store.owned_by(&owner).await.unwrap();
            let mut expected = self.memory.owned_by(&owner).await.unwrap();
            listed.sort();
            expected.sort();
            assert_eq!(listed, expected, "after {change:?}");
        }
    }

    async fn change(&self, step: &Step) -> (Key, Change) {
        if let (Act::Repeat, Some((at, key, change))) = (&step.act, &self.last)
            && self.now.since(*at) < Duration::from_secs(60)
        {
            return (key.clone(), change.clone());
        }
        let key = self.keys[step.key].clone();
        let record = self.memory.load(&key).await.expect("an answer");
        let held = record.as_deref().filter(|_| !step.stale);
        let mut change = Change::new(self.kind(step, held), self.now);
        for slot in &step.slots {
            self.put(&mut change, slot, held);
        }
        change.owner = step.owner.map(|owner| UserId::from(u64::from(owner)));
        let retires = step.retires.map(|old| self.keys[old].clone());
        change.retire = retires.map(|old| (old, self.now + step.lives));
        change.expiry = match step.expiry {
            None => Expiry::Keep,
            Some((true, lives)) => Expiry::Set(self.now + lives),
            Some((false, lives)) => Expiry::Extend(self.now + lives),
        };
        (key, change)
    }

    fn kind(&self, step: &Step, held: Option<&Record>) -> Kind {
        let user = || UserId::from(format!("user {}\n", step.user));
        match step.act {
            Act::Create => Kind::Create,
            Act::Move => Kind::Move(self.keys[step.to].clone(), self.now + step.lives),
            Act::End => Kind::End(Ended::Deleted("enough: \u{1f600}".to_owned())),
            Act::Claim => Kind::Claim(user()),
            Act::Release => Kind::Release(match held.map(|record| &record.state) {
                Some(State::Claimed { at, .. }) => *at,
                _ => self.now,
            }),
            Act::Update | Act::Repeat => Kind::Update,
        }
    }

    fn put(&self, change: &mut Change, step: &SlotStep, held: Option<&Record>) {
        let name = format!("s{}", step.name);
        if change.slots.iter().any(|slot| slot.name.as_str() == name) {
            return;
        }
        let live = held.and_then(|held| held.live_slot(&name, self.now));
        let base: Option<Arc<Slot>> = live.filter(|_| step.based).cloned();
        let expires = step.expires.map(|expires| self.now + expires);
        let changed = match (&step.to, base) {
            (SlotAct::Set(payload), base) => SlotChange::set(
                base,
                Arc::new(Slot::new(name.as_str(), vec![*payload], expires)),
            ),
            (SlotAct::Retime, Some(base)) => SlotChange::retime(base, expires),
            (SlotAct::Drop, Some(base)) => SlotChange::drop(base),
            (_, base) => {
                let signature = base.map(|base| base.signature());
                return change.unchanged.push((name.as_str().into(), signature));
            }
        };
        change.slots.push(changed);
    }
}

/// Takes these steps on a store that goes by `clock`.
async fn live_through(history: &[Step], store: impl Store, clock: TestClock) {
    let first = SessionId::generate().expect("random bytes");
    let next = || Key::from(&first.successor().expect("random bytes"));
    let mut keys: Vec<Key> = std::iter::repeat_with(next).take(SESSIONS).collect();
    keys.push(Key::User(UserId::new("}ada")));
    let mut trial = Trial {
        store,
        memory: MemoryStore::new().with_clock(clock.clone()),
        keys,
        now: clock.now(),
        last: None,
    };
    for step in history {
        trial.take(step).await;
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_script_decides_as_changes_do(history in prop::collection::vec(steps(), 1..60)) {
        let Some(server) = RedisServer::shared() else { return Ok(()) };
        block_on(async { live_through(&history, server.store().await, TestClock::new()).await });
    }

    #[test]
    fn the_function_decides_as_changes_do(history in prop::collection::vec(steps(), 1..60)) {
        let Some(server) = PostgresServer::shared() else { return Ok(()) };
        let clock = TestClock::new();
        block_on(async { live_through(&history, server.store(clock.clone()).await, clock).await });
    }
}
