//! A store of any kind behind one type, so that a test of each store is compiled once.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use session_runtime::Key;
use session_runtime::store::{Record, Scanned, Store, StoreError, Swapped, Swept};

/// [`Store`], whichever it is. The library has the like for itself, where no app can get at it.
#[async_trait]
pub trait AnyStore: Send + Sync {
    /// [`Store::name`].
    fn name(&self) -> String;
    /// [`Store::load`].
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError>;
    /// [`Store::load_latest`].
    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError>;
    /// [`Store::is_cached`].
    fn is_cached(&self) -> bool;
    /// [`Store::swap`].
    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError>;
    /// [`Store::scan`].
    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError>;
    /// [`Store::sweep`].
    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError>;
}

impl fmt::Debug for dyn AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[async_trait]
impl<S: Store> AnyStore for S {
    fn name(&self) -> String {
        Store::name(self)
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        Store::load(self, key).await
    }

    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        Store::load_latest(self, key).await
    }

    fn is_cached(&self) -> bool {
        Store::is_cached(self)
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        Store::swap(self, key, before, after).await
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        Store::scan(self, after, limit).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        Store::sweep(self, limit).await
    }
}
