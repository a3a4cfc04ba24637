//! Packing: stores keep small payloads with the head and large ones beside it, and a slot that crosses from one to
//! the other is neither lost nor there twice.

use std::sync::Arc;

use super::trial::{HOUR, Noise, Trial, next_with, noise, slot};
use crate::key::Key;
use crate::record::{Ended, Record, Slot};
use crate::signature::Signature;
use crate::store::Store;

/// Lengths on both sides of what a store may pack: a payload of 256 bytes; 700 and 2,048 together.
const LENGTHS: [usize; 14] = [
    0, 1, 255, 256, 257, 444, 699, 700, 701, 2_047, 2_048, 2_049, 5_000, 70_000,
];

/// A session that is written again and again.
struct Walk<'a, S> {
    trial: &'a Trial<S>,
    key: Key,
    there: Arc<Record>,
}

impl<'a, S: Store> Walk<'a, S> {
    async fn begin(trial: &'a Trial<S>, slots: impl IntoIterator<Item = Slot>) -> Self {
        let (key, there) = trial.session(slots).await;
        Self { trial, key, there }
    }

    /// Puts another record in place of what is there.
    async fn to(&mut self, record: Record) {
        self.there = self.trial.put(&self.key, Some(&self.there), record).await;
    }

    /// Puts these slots in place of those that are there.
    async fn all(&mut self, slots: impl IntoIterator<Item = Slot>) {
        self.to(next_with(&self.there, slots)).await;
    }

    async fn set(&mut self, slot: Slot) {
        let mut next = self.there.next();
        next.set(Arc::new(slot));
        self.to(next).await;
    }

    async fn remove(&mut self, name: &str) {
        let mut next = self.there.next();
        next.remove(name);
        self.to(next).await;
    }
}

pub(super) async fn a_slot_grows_and_shrinks_across_the_limits<S: Store>(trial: &Trial<S>) {
    let mut walk = Walk::begin(trial, []).await;
    // By value: a closure over references would keep the case from being spawned.
    let pairs = LENGTHS
        .into_iter()
        .flat_map(|from| LENGTHS.map(|to| [from, to]));
    for (seed, length) in pairs.flatten().enumerate() {
        walk.all([slot("a", noise(seed, length))]).await;
    }
}

pub(super) async fn a_slot_grows_and_shrinks_among_others<S: Store>(trial: &Trial<S>) {
    let others = [
        slot("0", noise(0, 200)),
        slot("z", noise(1, 300)),
        slot("zz", "1"),
    ];
    let mut walk = Walk::begin(trial, others).await;
    let back = LENGTHS.iter().rev();
    for (seed, length) in LENGTHS.iter().chain(back).enumerate() {
        walk.set(slot("a", noise(seed, *length))).await;
    }
}

pub(super) async fn a_slot_crosses_the_limits_though_it_stays_the_same<S: Store>(trial: &Trial<S>) {
    // The others are smaller, and are packed before it.
    let same = || slot("same", noise(0, 250));
    let mut walk = Walk::begin(trial, [same()]).await;
    let (up, down) = (1..=22, (0..22).rev());
    for count in up.chain(down) {
        let others = (1..=count).map(|n| slot(&format!("other {n}"), noise(n, 100)));
        walk.all(others.chain([same()])).await;
    }
}

pub(super) async fn slots_of_one_length_change_places<S: Store>(trial: &Trial<S>) {
    let all = || (0..30).map(|n| slot(&format!("{n:02}"), noise(n, 128)));
    let mut walk = Walk::begin(trial, all()).await;
    for without in [0, 29, 5, 6, 15] {
        let others = all().enumerate().filter(|(n, _)| *n != without);
        walk.all(others.map(|(_, slot)| slot)).await;
        walk.all(all()).await;
    }
    walk.all(all().take(3)).await;
    walk.all(all().skip(3)).await;
    walk.all([]).await;
}

pub(super) async fn a_large_slot_is_removed_and_put_back<S: Store>(trial: &Trial<S>) {
    let (a, b) = (|| slot("a", noise(0, 5_000)), slot("b", noise(1, 5_000)));
    let mut walk = Walk::begin(trial, [a(), b]).await;
    walk.remove("a").await;
    walk.set(a()).await;
    walk.remove("b").await;
    walk.remove("a").await;
    walk.set(slot("a", noise(2, 4_000))).await;
    walk.set(a()).await;
}

pub(super) async fn an_expiry_changes_and_the_payload_stays<S: Store>(trial: &Trial<S>) {
    let slots = [10, 300, 5_000].map(|length| slot(&length.to_string(), noise(0, length)));
    let mut walk = Walk::begin(trial, slots.clone()).await;
    let later = trial.now() + HOUR;
    for expires in [Some(later), Some(later + HOUR), None, Some(trial.now())] {
        for slot in &slots {
            walk.set(slot.retimed(expires)).await;
        }
    }
}

pub(super) async fn a_signature_changes_and_the_payload_stays<S: Store>(trial: &Trial<S>) {
    let slots = [10, 300, 5_000].map(|length| slot(&length.to_string(), noise(0, length)));
    let mut walk = Walk::begin(trial, slots.clone()).await;
    for nonce in 0..3_u8 {
        for slot in &slots {
            let signature = Signature::unique([nonce; 16]);
            let payload = slot.payload().to_vec();
            let name = slot.name().clone();
            walk.set(Slot::signed(name, payload, None, signature)).await;
        }
    }
}

pub(super) async fn a_payload_moves_to_another_name<S: Store>(trial: &Trial<S>) {
    for length in [10, 300, 5_000] {
        let payload = || noise(length, length);
        let mut walk = Walk::begin(trial, [slot("a", payload())]).await;
        walk.all([slot("b", payload())]).await;
        walk.all([slot("a", payload()), slot("b", noise(0, length))])
            .await;
        walk.all([slot("a", noise(0, length)), slot("b", payload())])
            .await;
    }
}

pub(super) async fn large_slots_stay_while_a_small_one_changes<S: Store>(trial: &Trial<S>) {
    let large = (0..8).map(|n| slot(&format!("large {n}"), noise(n, 64 << 10)));
    let mut walk = Walk::begin(trial, large).await;
    for n in 0..20 {
        walk.set(slot("n", n.to_string())).await;
    }
}

pub(super) async fn a_large_slot_changes_while_others_stay<S: Store>(trial: &Trial<S>) {
    let slots = (0..8).map(|n| slot(&n.to_string(), noise(n, 5_000)));
    let mut walk = Walk::begin(trial, slots).await;
    for n in 0..16 {
        // As long as before.
        walk.set(slot(&(n % 8).to_string(), noise(100 + n, 5_000)))
            .await;
    }
}

pub(super) async fn an_end_leaves_no_slot_behind<S: Store>(trial: &Trial<S>) {
    let slots = [
        slot("small", "1"),
        slot("large", noise(0, 5_000)),
        slot("b", noise(1, 900)),
    ];
    let mut walk = Walk::begin(trial, slots).await;
    walk.to(walk.there.tombstone(Ended::LoggedOut, trial.now()))
        .await;
    walk.to(walk.there.next()).await;
    walk.to(trial.record([slot("large", noise(2, 4_000))]))
        .await;
}

pub(super) async fn two_hundred_slots_come_and_go<S: Store>(trial: &Trial<S>) {
    let make = |n: usize| slot(&format!("slot {n}"), noise(n, n * 11 % 700));
    let mut walk = Walk::begin(trial, (0..200).map(make)).await;
    walk.all((0..200).filter(|n| n % 2 == 0).map(make)).await;
    walk.all((0..200).filter(|n| n % 3 == 0).map(make)).await;
    walk.all((0..200).rev().map(make)).await;
    walk.all([]).await;
}

pub(super) async fn three_hundred_large_slots_shrink_and_grow<S: Store>(trial: &Trial<S>) {
    let all = |seed: usize, length: usize| {
        (0..300).map(move |n| slot(&format!("slot {n}"), noise(n + seed, length)))
    };
    let mut walk = Walk::begin(trial, all(0, 3_400)).await;
    walk.all(all(0, 3)).await;
    walk.all(all(0, 3_400)).await;
    walk.all(all(1, 3_400)).await;
    // One is as it was, and one stands with the head.
    walk.all(all(1, 3_400).take(1).chain([slot("small", "1")]))
        .await;
    walk.all(all(2, 300)).await;
}

pub(super) async fn any_series_of_changes_comes_back<S: Store>(trial: &Trial<S>) {
    let mut walk = Walk::begin(trial, []).await;
    let mut dice = Noise::new(1);
    for seed in 0..200 {
        let mut next = walk.there.next();
        for _ in 0..=dice.below(4) {
            change(&mut next, &mut dice, seed);
        }
        walk.to(next).await;
    }
}

/// Changes one of twelve slots in one of the ways there are.
fn change(record: &mut Record, dice: &mut Noise, seed: usize) {
    let name = dice.below(12).to_string();
    let there = record.slot(&name).cloned();
    let slot = match (dice.below(5), there) {
        (0, _) => {
            record.remove(&name);
            return;
        }
        (1, Some(there)) => there.retimed(Some(record.expires())),
        (2, Some(there)) => {
            let signature = Signature::unique((seed as u128).to_le_bytes());
            let expires = there.expires();
            Slot::signed(name, there.payload().to_vec(), expires, signature)
        }
        _ => {
            let length = LENGTHS[dice.below(LENGTHS.len() - 1)] / (1 + dice.below(3));
            slot(&name, noise(seed, length))
        }
    };
    record.set(Arc::new(slot));
}
