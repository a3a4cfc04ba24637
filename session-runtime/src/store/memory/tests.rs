//! The books against what is held, after random histories.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::change::{Expiry, SlotChange, TOMBSTONE};
use crate::id::SessionId;
use crate::record::{Ended, Slot};
use crate::testing::TestClock;

const KEYS: usize = 6;

/// One step over a few keys, names and owners.
#[derive(Clone, Debug)]
struct Step {
    key: usize,
    act: Act,
    slots: Vec<(u8, u16)>,
    owner: Option<u8>,
    retires: Option<usize>,
    lives: Duration,
    passes: Duration,
}

#[derive(Clone, Debug)]
enum Act {
    Create,
    Update,
    Move,
    End,
    Sweep,
}

prop_compose! {
    fn steps()(
        key in 0..KEYS,
        act in prop::sample::select(vec![Act::Create, Act::Create, Act::Update, Act::Update, Act::Move, Act::End, Act::Sweep]),
        slots in prop::collection::vec((0..4_u8, 0..2_000_u16), 0..3),
        owner in prop::option::of(0..3_u8),
        retires in prop::option::of(0..KEYS),
        // Once as long as a tombstone, so that one deadline comes upon another.
        lives in prop_oneof![(0..200_u64).prop_map(Duration::from_secs), Just(TOMBSTONE)],
        passes in prop_oneof![Just(Duration::ZERO), (0..40_u64).prop_map(Duration::from_secs)],
    ) -> Step {
        Step { key, act, slots, owner, retires, lives, passes }
    }
}

impl Step {
    fn change(&self, keys: &[Key], record: Option<&Record>, now: Timestamp) -> Change {
        let kind = match self.act {
            Act::Create => Kind::Create,
            Act::Move => Kind::Move(keys[(self.key + 1) % KEYS].clone(), now + self.lives),
            Act::End => Kind::End(Ended::Deleted("done".to_owned())),
            Act::Update | Act::Sweep => Kind::Update,
        };
        let held = record.filter(|_| kind != Kind::Create);
        let mut change = Change::new(kind, now);
        for (name, length) in &self.slots {
            let slot = Slot::new(name.to_string(), vec![b'.'; usize::from(*length)], None);
            change.slots.retain(|other| other.name != *slot.name());
            change.slots.push(
                match held.and_then(|held| held.slot(slot.name().as_str())) {
                    Some(base) if length % 3 == 0 => SlotChange::drop(Arc::clone(base)),
                    base => SlotChange::set(base.cloned(), Arc::new(slot)),
                },
            );
        }
        change.owner = self.owner.map(|owner| UserId::from(u64::from(owner)));
        change.retire = self.retires.map(|key| (keys[key].clone(), now));
        change.expiry = Expiry::Set(now + self.lives);
        change
    }

    async fn take(&self, store: &MemoryStore, clock: &TestClock, keys: &[Key]) {
        clock.advance(self.passes);
        let key = &keys[self.key];
        if let Act::Sweep = self.act {
            store.sweep(3).await.expect("an answer");
        } else {
            let record = store.load(key).await.expect("an answer");
            let change = self.change(keys, record.as_deref(), clock.now());
            // Refused or full is as good: the books have to be right.
            drop(store.commit(key, &change).await);
        }
    }
}

/// Every byte that is held is counted, and every record listed under its owner and due in time.
fn check(store: &MemoryStore, keys: &[Key]) {
    let inner = &store.inner;
    let counted: usize = inner.shards.iter().map(|shard| lock(shard).check()).sum();
    assert_eq!(counted, inner.books.used.load(Ordering::Relaxed));
    for owner in (0..3_u64).map(UserId::from) {
        let mut listed = inner.books.owners.keys(&owner);
        let mut owned: Vec<_> = keys
            .iter()
            .filter(|key| store.lock(key).owner(key) == Some(&owner))
            .cloned()
            .collect();
        listed.sort();
        owned.sort();
        assert_eq!(listed, owned);
    }
}

proptest! {
    #[test]
    fn the_books_are_right_whatever_happened(history in prop::collection::vec(steps(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let clock = TestClock::new();
            let store = MemoryStore::new().with_clock(clock.clone()).with_capacity_bytes(12 << 10);
            let keys: Vec<_> = (0..KEYS).map(|n| match n {
                0 => Key::User(UserId::new("ada")),
                _ => Key::from(&SessionId::generate().expect("random bytes")),
            }).collect();
            for step in &history {
                step.take(&store, &clock, &keys).await;
                check(&store, &keys);
            }
            clock.advance(2 * TOMBSTONE);
            store.sweep(1_000).await.expect("an answer");
            assert_eq!(store.inner.books.used.load(Ordering::Relaxed), 0);
        });
    }
}
