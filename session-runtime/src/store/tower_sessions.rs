//! Records in a store of the tower-sessions family.
//!
//! That family's trait has no conditional write: a store there is told what a session is to be from now on. So the
//! comparison is made here, between a load and a save that nothing in this process comes between.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::key::Key;
use crate::record::{Record, Version};
use crate::store::{KEPT_AFTER_EXPIRY, Store, StoreError, Swapped, Swept};

mod family;

pub(crate) use family::{Data, date, timestamp};
use family::{Family, v0_14, v0_15};

/// The name of the one value in an entry of theirs.
const RECORD: &str = "record";

/// How many locks the keys share: enough that swaps of different records seldom wait for each other.
const STRIPES: usize = 256;

/// How long a save that their store does not answer keeps others from its record.
const HOLD: Duration = Duration::from_secs(30);

/// How long what never expires is kept after it was last written. There are databases whose times end in 2038.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Keeps records in a store that was written for the tower-sessions family: whatever database it is that has one.
///
/// **The last writer wins.** That family's trait cannot compare before it writes. In one process nothing is lost all
/// the same: swaps of one record queue, and each loads, compares and saves. Several processes over one database
/// overwrite each other's changes. If you run several, use a store that compares, such as this crate's own.
///
/// | promise of [`Store`] | in one process | among several |
/// |---|---|---|
/// | a swap compares | kept | lost: of two swaps at once one counts, though both are answered `Done` |
/// | nothing comes back to life | kept | lost: a late save may write over the end of a session |
/// | a creation compares | kept | kept, if their store has a `create` of its own |
/// | a swap is one round trip | two: a load and a save | |
/// | [`sweep`](Store::sweep) | deletes nothing: run the deletion task that their store has | |
/// | what never expires | is kept for ten years after it was last written | |
///
/// Give it a table or a prefix of its own. Its entries have ids that can be computed, from a user's name for instance,
/// so a [`SessionManagerLayer`](https://docs.rs/tower-sessions) over the same table would hand them out to whoever
/// presents such an id. Whoever reads the table learns the values and the names of users, and no id of a session.
///
/// A save that the layer has given up on runs on in a task of its own, for half a minute at most, and until then no
/// other swap of its record begins.
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
    entries: Arc<Entries>,
    /// Each for many keys.
    stripes: Arc<[Arc<Mutex<()>>]>,
}

impl TowerSessionsStore {
    /// Stands before a store that was written for version 0.15 of `tower-sessions-core`.
    ///
    /// ```
    /// use session_runtime::store::TowerSessionsStore;
    /// let store = TowerSessionsStore::v0_15(tower_sessions::MemoryStore::default());
    /// # let _ = store;
    /// ```
    pub fn v0_15(store: impl tower_sessions_core_0_15::SessionStore) -> Self {
        Self::over(v0_15::Theirs(store))
    }

    /// Stands before a store that was written for version 0.14 of `tower-sessions-core`.
    ///
    /// ```
    /// use session_runtime::store::TowerSessionsStore;
    /// let store = TowerSessionsStore::v0_14(tower_sessions_0_14::MemoryStore::default());
    /// # let _ = store;
    /// ```
    pub fn v0_14(store: impl tower_sessions_core_0_14::SessionStore) -> Self {
        Self::over(v0_14::Theirs(store))
    }

    fn over(store: impl Family) -> Self {
        Self {
            entries: Arc::new(Entries(Box::new(store))),
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
        }
    }

    async fn hold(&self, key: &Key) -> OwnedMutexGuard<()> {
        let stripe = usize::from(key.spread().to_le_bytes()[0]) % STRIPES;
        Arc::clone(&self.stripes[stripe]).lock_owned().await
    }
}

impl fmt::Debug for TowerSessionsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerSessionsStore").finish_non_exhaustive()
    }
}

impl Store for TowerSessionsStore {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.entries.load(id_of(key)).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        let held = self.hold(key).await;
        let (entries, id) = (Arc::clone(&self.entries), id_of(key));
        let (before, after) = (before.map(|before| before.version()), Arc::clone(after));
        let swap = async move { entries.swap(id, before, &after).await };
        to_its_end(held, swap).await
    }

    /// Deletes nothing: their store has a deletion task of its own.
    async fn sweep(&self, _: usize) -> Result<Swept, StoreError> {
        Ok(Swept::default())
    }
}

/// Does `work` and then lets go of its key, though nobody may wait for it any more: a save that ended after the next
/// one would overwrite that.
async fn to_its_end<T: Send + 'static>(
    held: OwnedMutexGuard<()>,
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

/// Records as entries of a store of theirs.
struct Entries(Box<dyn Family>);

impl Entries {
    async fn load(&self, id: i128) -> Result<Option<Arc<Record>>, StoreError> {
        let data = self.0.load(id).await?;
        let record = data.as_ref().map(from_data);
        Ok(record.transpose()?.map(Arc::new))
    }

    /// Loads, compares and saves, while the key is held.
    async fn swap(
        &self,
        id: i128,
        before: Option<Version>,
        after: &Record,
    ) -> Result<Swapped, StoreError> {
        let there = self.load(id).await?;
        if there.as_ref().map(|record| record.version()) != before {
            return Ok(Swapped::Stale(there));
        }
        let (data, expires) = (to_data(after), kept_until(after));
        if there.is_none() {
            if self.0.create(id, data.clone(), expires).await? {
                return Ok(Swapped::Done);
            }
            if let Some(there) = self.load(id).await? {
                return Ok(Swapped::Stale(Some(there)));
            }
            // What is in the way has expired: their store shows it no more, and has not deleted it yet.
        }
        self.0.save(id, data, expires).await?;
        Ok(Swapped::Done)
    }
}

/// Returns the id of the entry for a key: half a digest, as many bits as an id of theirs has.
fn id_of(key: &Key) -> i128 {
    let digest = Sha256::digest(key.to_string());
    digest.first_chunk().copied().map_or(0, i128::from_le_bytes)
}

/// Returns until when their store, which goes by its own clock, is to keep a record: by what is left of it.
fn kept_until(record: &Record) -> OffsetDateTime {
    let left = record.expires().since(record.seen());
    let now = timestamp(OffsetDateTime::now_utc());
    date(now + left.min(FOREVER) + KEPT_AFTER_EXPIRY)
}

fn to_data(record: &Record) -> Data {
    let text = BASE64.encode(record.to_bytes());
    Data::from([(RECORD.to_owned(), Value::from(text))])
}

fn from_data(data: &Data) -> Result<Record, StoreError> {
    let text = data.get(RECORD).and_then(Value::as_str);
    let bytes = text.and_then(|text| BASE64.decode(text).ok());
    let bytes = bytes.ok_or_else(|| {
        StoreError::broken(
            "what is stored there is no record of this library: give the sessions a table or a prefix of their own",
        )
    })?;
    Ok(Record::from_bytes(&bytes.into())?)
}
