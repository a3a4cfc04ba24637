//! Stores that break one promise each, to see that a history tells.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use session_runtime::Key;
use session_runtime::store::{
    MemoryStore, Record, Slot, Store, StoreError, Swapped, Swept, Version,
};

use super::run::Dice;

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    LastWriterWins,
    Revives,
    DropsEveryHundredthSwap,
    StaleCache,
    AppliesTwiceAfterADoubt,
    IgnoresExpiry,
    LosesAPlace,
    TornCredit,
}

pub(super) const FLAWS: [Flaw; 8] = [
    Flaw::LastWriterWins,
    Flaw::Revives,
    Flaw::DropsEveryHundredthSwap,
    Flaw::StaleCache,
    Flaw::AppliesTwiceAfterADoubt,
    Flaw::IgnoresExpiry,
    Flaw::LosesAPlace,
    Flaw::TornCredit,
];

/// A store in memory that is slow, loses answers, and has a flaw.
pub(super) struct Broken {
    inner: MemoryStore,
    flaw: Flaw,
    dice: Mutex<Dice>,
    swaps: AtomicUsize,
    /// What a cache holds that nobody tells of changes.
    cached: Mutex<HashMap<Key, Arc<Record>>>,
    /// Swaps that were made, and whose answers were lost.
    doubts: Mutex<HashSet<Version>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broken {
    pub(super) fn new(flaw: Flaw, dice: Dice) -> Self {
        Self {
            inner: MemoryStore::new(),
            flaw,
            dice: Mutex::new(dice),
            swaps: AtomicUsize::new(0),
            cached: Mutex::default(),
            doubts: Mutex::default(),
        }
    }

    fn one_in(&self, times: usize) -> bool {
        locked(&self.dice).below(times) == 0
    }

    async fn on_the_way(&self) -> Result<(), StoreError> {
        let wait = locked(&self.dice).below(3);
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait as u64)).await;
        }
        if self.one_in(40) {
            return Err(StoreError::unavailable("on the way"));
        }
        Ok(())
    }

    /// Puts `after` there whatever there is.
    async fn force(
        &self,
        key: &Key,
        there: &Arc<Record>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        let mut there = Arc::clone(there);
        loop {
            match self.inner.swap(key, Some(&there), after).await? {
                Swapped::Stale(Some(now)) => there = now,
                done => return Ok(done),
            }
        }
    }

    /// Returns what is to be written of `after`.
    fn kept(&self, key: &Key, before: Option<&Arc<Record>>, after: &Arc<Record>) -> Arc<Record> {
        let is_user = matches!(key, Key::User(_));
        let slot = |name: &str, json: &Value| Arc::new(Slot::new(name, json.to_string(), None));
        let list = |record: &Record| {
            let slot = record.slot("@sessions")?;
            serde_json::from_slice::<Value>(slot.payload()).ok()
        };
        let places = |record: &Record| {
            list(record).map_or(0, |list| list["p"].as_array().map_or(0, Vec::len))
        };
        let with = |slots: Vec<Arc<Slot>>| Arc::new(Record::clone(after).with_slots(slots));
        match self.flaw {
            Flaw::IgnoresExpiry => {
                let slots = after.slots().iter();
                with(slots.map(|slot| Arc::new(slot.retimed(None))).collect())
            }
            Flaw::LosesAPlace if is_user && self.one_in(10) => match list(after) {
                Some(mut list) => {
                    if let Some(places) = list["p"].as_array_mut().filter(|places| places.len() > 1)
                    {
                        places.remove(0);
                    }
                    with(vec![slot("@sessions", &list)])
                }
                None => Arc::clone(after),
            },
            // The record alone opens nothing: its user's list has no place for it any more.
            Flaw::Revives if is_user => match before {
                Some(before) if places(before) > places(after) => {
                    with(before.slot("@sessions").cloned().into_iter().collect())
                }
                _ => Arc::clone(after),
            },
            Flaw::TornCredit if is_user => {
                let changed = |name: &str| {
                    let before = before.and_then(|before| before.slot(name));
                    before.map(|slot| slot.payload()) != after.slot(name).map(|slot| slot.payload())
                };
                if !(changed("log") && changed("@sessions")) {
                    return Arc::clone(after);
                }
                let log = before.and_then(|before| before.slot("log")).cloned();
                with(vec![
                    log.unwrap_or_else(|| slot("log", &Value::Array(Vec::new()))),
                ])
            }
            _ => Arc::clone(after),
        }
    }

    /// The record with what changed numbers in it done once more.
    fn doubled(before: &Record, after: &Record) -> Record {
        let list = |record: &Record| -> Vec<u64> {
            let log = record.slot("log");
            log.and_then(|slot| serde_json::from_slice(slot.payload()).ok())
                .unwrap_or_default()
        };
        let (old, mut new) = (list(before), list(after));
        new.extend(new.clone().into_iter().filter(|id| !old.contains(id)));
        let log = serde_json::to_string(&new).expect("numbers");
        let points = new.len().to_string();
        let slots = [("log", log), ("points", points)];
        let slots = slots.map(|(name, json)| Arc::new(Slot::new(name, json, None)));
        if new.is_empty() {
            after.clone()
        } else {
            after.clone().with_slots(slots)
        }
        .next()
    }
}

impl Store for Broken {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.on_the_way().await?;
        if self.flaw == Flaw::StaleCache && !self.one_in(4) {
            let cached = locked(&self.cached).get(key).cloned();
            if cached.is_some() {
                return Ok(cached);
            }
        }
        let loaded = self.inner.load(key).await?;
        if let Some(record) = &loaded {
            locked(&self.cached).insert(key.clone(), Arc::clone(record));
        }
        Ok(loaded)
    }

    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.on_the_way().await?;
        self.inner.load(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.on_the_way().await?;
        let count = self.swaps.fetch_add(1, Ordering::Relaxed);
        if self.flaw == Flaw::DropsEveryHundredthSwap && count % 100 == 99 {
            return Ok(Swapped::Done);
        }
        if self.flaw == Flaw::AppliesTwiceAfterADoubt
            && let Some(before) = before
            && locked(&self.doubts).remove(&after.version())
        {
            let doubled = Arc::new(Self::doubled(before, after));
            self.inner.swap(key, Some(after), &doubled).await?;
            return Ok(Swapped::Done);
        }
        let kept = self.kept(key, before, after);
        let mut swapped = self.inner.swap(key, before, &kept).await?;
        if let Swapped::Stale(Some(there)) = &swapped {
            let is_ended = there.ended().is_some() && after.ended().is_none();
            let is_own = there.version() == after.version();
            if self.flaw == Flaw::LastWriterWins && !is_own
                || self.flaw == Flaw::Revives && is_ended
            {
                let there = Arc::clone(there);
                swapped = self.force(key, &there, &kept).await?;
            }
        }
        if swapped == Swapped::Done && self.one_in(30) {
            locked(&self.doubts).insert(after.version());
            return Err(StoreError::unavailable("on the way back"));
        }
        Ok(swapped)
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.inner.sweep(limit).await
    }
}
