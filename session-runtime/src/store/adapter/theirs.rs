//! Our records in a store of theirs.

use std::collections::HashSet;
use std::fmt;
use std::mem;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::change::{Change, Committed, Kind};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::{Key, UserId};
use crate::record::{Record, State};
use crate::store::remembered::Remembered;
use crate::store::token::Token;
use crate::store::{Store, Swept};

use super::entry::Entry;
use super::family::{Data, Family, date_in, v0_14, v0_15};
use super::owners::{Listed, id_of, list_of};
use super::stripes::{Hold, Stripes};

/// By how much their store keeps what has expired: its clock may differ from the app's, which decides.
const MARGIN: Duration = Duration::from_secs(60);

/// How long a save that their store does not answer keeps others from its record.
const HOLD: Duration = Duration::from_secs(30);

/// How long what never expires is kept after it was last written. There are databases whose times end in 2038.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Records in a store that was written for the tower-sessions family: whatever database it is that has one.
///
/// **The last writer wins.** That family's trait cannot compare before it writes. In one process nothing is
/// lost all the same: commits to one record queue, and each is loaded, decided and saved. Several processes
/// over one database overwrite each other's changes. If you run several, use a store that compares, such as
/// this crate's own.
///
/// | promise of [`Store`] | in one process | among several |
/// |---|---|---|
/// | a commit compares, and conflicts are merged | kept | lost: of two commits at once one counts, though both are answered |
/// | nothing comes back to life | kept | lost: a late commit may write over the end of a session |
/// | a repeated commit is applied once | kept | kept, for the last eight commits to a record |
/// | a commit is one round trip | two: a load and a save. A login takes more, to list the session under its user | |
/// | [`rotate`](crate::Session::rotate) is one step | two saves: if the process ends between them, the old id stays good | |
/// | [`owned_by`](Store::owned_by) lists all | kept | may miss a session if one user logs in twice at the same moment |
/// | [`sweep`](Store::sweep) | does nothing: run the deletion task that their store has | |
/// | what never expires | is kept for ten years after it was last written | |
///
/// Give it a table or a prefix of its own. Its entries have ids that can be computed, from a user's name for
/// instance, so a [`SessionManagerLayer`](https://docs.rs/tower-sessions) over the same table would hand them
/// out to whoever presents such an id. The names of users stand there in clear; ids of sessions do not.
///
/// A save that the layer has given up on runs on in a task of its own, for half a minute at most, and until
/// then no other commit to its record begins.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_runtime::SessionLayer;
/// use session_runtime::store::TowerSessionsStore;
///
/// let theirs = tower_sessions::MemoryStore::default(); // or any other, such as one over sqlx
/// let layer = SessionLayer::new(TowerSessionsStore::v0_15(theirs));
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TowerSessionsStore {
    inner: Arc<Inner>,
}

impl TowerSessionsStore {
    /// Over a store that was written for version 0.15 of `tower-sessions-core`.
    ///
    /// ```
    /// use session_runtime::store::TowerSessionsStore;
    /// let store = TowerSessionsStore::v0_15(tower_sessions::MemoryStore::default());
    /// # let _ = store;
    /// ```
    pub fn v0_15(store: impl tower_sessions_core_0_15::SessionStore) -> Self {
        Self::over(v0_15::Theirs(store))
    }

    /// Over a store that was written for version 0.14 of `tower-sessions-core`.
    ///
    /// ```
    /// use session_runtime::store::TowerSessionsStore;
    /// let store = TowerSessionsStore::v0_14(tower_sessions_0_14::MemoryStore::default());
    /// # let _ = store;
    /// ```
    pub fn v0_14(store: impl tower_sessions_core_0_14::SessionStore) -> Self {
        Self::over(v0_14::Theirs(store))
    }

    /// Decides what comes of the change, and does it.
    async fn settle(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        let to = match &change.kind {
            Kind::Move(to, _) => Some(to),
            _ => None,
        };
        let held = self.inner.keys.hold(key.spread(), to.map(Key::spread));
        let (inner, key, change) = (Arc::clone(&self.inner), key.clone(), change.clone());
        to_its_end(held.await, async move { inner.settle(&key, &change).await }).await
    }

    /// The record that was moved away from `key` stops leading to its new one at `until`.
    async fn retire(&self, key: &Key, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let held = self.inner.keys.hold(key.spread(), None);
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        to_its_end(
            held.await,
            async move { inner.retire(&key, until, now).await },
        )
        .await
    }

    fn over(store: impl Family) -> Self {
        Self {
            inner: Arc::new(Inner {
                store: Box::new(store),
                keys: Stripes::default(),
                owners: Stripes::default(),
                remembered: Mutex::default(),
            }),
        }
    }
}

impl fmt::Debug for TowerSessionsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerSessionsStore")
            .field("keys", &self.inner.keys)
            .finish_non_exhaustive()
    }
}

impl Store for TowerSessionsStore {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        Ok(self.inner.entry(key).await?.map(|entry| entry.record))
    }

    async fn commit(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        let committed = self.settle(key, change).await?;
        if let (Committed::Applied, Some((old, until))) = (&committed, &change.retire) {
            self.retire(old, *until, change.now).await?;
        }
        Ok(committed)
    }

    async fn owned_by(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        self.inner.owned_by(owner).await
    }

    /// Deletes nothing: their store has a deletion task of its own.
    async fn sweep(&self, _: usize) -> Result<Swept, StoreError> {
        Ok(Swept::default())
    }
}

/// Does `work` and then lets go of its keys, though nobody may wait for it any more: a save that ended after the
/// next one would overwrite that.
async fn to_its_end<T: Send + 'static>(
    held: Hold,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let work = async move {
        let done = tokio::time::timeout(HOLD, work).await;
        drop(held);
        done.unwrap_or_else(|_| Err(StoreError::timeout()))
    };
    match tokio::spawn(work).await {
        Ok(answer) => answer,
        Err(lost) if lost.is_panic() => resume_unwind(lost.into_panic()),
        Err(lost) => Err(StoreError::unavailable(lost)),
    }
}

struct Inner {
    store: Box<dyn Family>,
    keys: Stripes,
    /// Taken after those of keys.
    owners: Stripes,
    remembered: Mutex<Remembered>,
}

impl Inner {
    // While the keys are held.

    async fn settle(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        let held = self.entry(key).await?;
        if self.recalls(key, change, held.as_ref()) {
            return Ok(Committed::Applied);
        }
        if let Some(refusal) = change.decide(held.as_ref().map(|held| &held.record)) {
            return Ok(refusal);
        }
        let next = Entry::after(change, held.as_ref());
        let applied = match (&change.kind, Entry::tombstone(change, held.as_ref())) {
            (Kind::Move(to, _), Some(tombstone)) => {
                self.arrive(to, &next, change).await?
                    && self.put(key, held.as_ref(), &tombstone, change.now).await?
            }
            (_, Some(tombstone)) => self.put(key, held.as_ref(), &tombstone, change.now).await?,
            (_, None) => self.put(key, held.as_ref(), &next, change.now).await?,
        };
        if !applied {
            return Ok(Committed::Exists);
        }
        self.remembered().insert(Token::new(key, change.id));
        Ok(Committed::Applied)
    }

    /// Puts what is moved under its new key, unless something lives there; what this very change has put there
    /// before its answer was lost is no such thing.
    async fn arrive(&self, to: &Key, moved: &Entry, change: &Change) -> Result<bool, StoreError> {
        let taken = self.entry(to).await?;
        let live = |taken: &Entry| taken.record.is_live(change.now);
        match &taken {
            Some(taken) if taken.names(change.id) => Ok(true),
            Some(taken) if live(taken) => Ok(false),
            taken => self.put(to, taken.as_ref(), moved, change.now).await,
        }
    }

    async fn retire(&self, key: &Key, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let Some(held) = self.entry(key).await? else {
            return Ok(());
        };
        if !matches!(held.record.state, State::Moved(_)) || held.record.expires <= until {
            return Ok(());
        }
        let mut retired = held.clone();
        Arc::make_mut(&mut retired.record).expires = until;
        self.put(key, Some(&held), &retired, now).await?;
        Ok(())
    }

    /// Whether the change was applied before, by this process or by another.
    fn recalls(&self, key: &Key, change: &Change, held: Option<&Entry>) -> bool {
        let mut remembered = self.remembered();
        remembered.forget(change.now);
        for commit in held.iter().flat_map(|held| &held.commits) {
            let token = Token::new(key, *commit);
            if !remembered.has(token) {
                remembered.insert(token);
            }
        }
        remembered.has(Token::new(key, change.id))
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn entry(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let data = self.store.load(id_of(key)).await?;
        data.as_ref().map(Entry::from_data).transpose()
    }

    /// Puts an entry in place of the one that is held, the owner's list first. Not if there was none, and there
    /// is one now.
    async fn put(
        &self,
        key: &Key,
        held: Option<&Entry>,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if let Some(owner) = &entry.owner
            && held.is_none_or(|held| held.owner.as_ref() != Some(owner))
        {
            self.list(owner, key, now).await?;
        }
        let lifetime = entry.record.expires.since(now);
        self.write(id_of(key), held.is_some(), entry.to_data(), lifetime)
            .await
    }

    async fn write(
        &self,
        id: i128,
        held: bool,
        data: Data,
        lifetime: Duration,
    ) -> Result<bool, StoreError> {
        let expires = date_in(lifetime.min(FOREVER) + MARGIN);
        if !held {
            if self.store.create(id, data.clone(), expires).await? {
                return Ok(true);
            }
            if self.store.load(id).await?.is_some() {
                return Ok(false);
            }
            // What is in the way has expired: their store shows it no more, and has not deleted it yet.
        }
        self.store.save(id, data, expires).await?;
        Ok(true)
    }

    // The owner index.

    async fn listed(&self, owner: &UserId) -> Result<Option<Listed>, StoreError> {
        let data = self.store.load(list_of(owner)).await?;
        Ok(data.as_ref().map(Listed::from_data))
    }

    /// The keys of all records of that owner. One that has moved since the list was read is followed: its new key
    /// may not have been listed yet.
    async fn owned_by(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        let listed = self.listed(owner).await?.unwrap_or_default();
        // A key that is listed and not there yet is not done with: another may lead to it a moment later.
        let (mut done, mut theirs) = (HashSet::new(), Vec::new());
        for key in listed.keys() {
            let mut key = key.clone();
            while !done.contains(&key) {
                let Some(entry) = self.entry(&key).await? else {
                    break;
                };
                if let State::Moved(to) = &entry.record.state {
                    done.insert(mem::replace(&mut key, to.clone()));
                } else if entry.owner.as_ref() == Some(owner) {
                    done.insert(key.clone());
                    theirs.push(key.clone());
                } else {
                    break;
                }
            }
        }
        Ok(theirs)
    }

    /// Lists the key under its owner, and drops what is there no more.
    async fn list(&self, owner: &UserId, key: &Key, now: Timestamp) -> Result<(), StoreError> {
        let spread = Key::User(owner.clone()).spread();
        let _held = self.owners.hold(spread, None).await;
        loop {
            let found = self.listed(owner).await?;
            let held = found.is_some();
            let mut listed = found.unwrap_or_default();
            for other in listed.settled(now) {
                if other != *key && !self.is_of(&other, owner).await? {
                    listed.remove(&other);
                }
            }
            listed.add(key, now);
            let id = list_of(owner);
            if self.write(id, held, listed.to_data(), FOREVER).await? {
                return Ok(());
            }
        }
    }

    async fn is_of(&self, key: &Key, owner: &UserId) -> Result<bool, StoreError> {
        let entry = self.entry(key).await?;
        Ok(entry.is_some_and(|entry| entry.owner.as_ref() == Some(owner)))
    }
}
