//! A store of any kind behind one type, so that a test of each store is compiled once.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use session_runtime::Key;
use session_runtime::store::{Record, Scanned, Store, StoreError, Swapped, Swept};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A store, whichever it is. Clones share it.
#[derive(Clone)]
pub struct AnyStore(Arc<dyn Erased>);

impl AnyStore {
    /// Takes that store.
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyStore").field(&self.0.name()).finish()
    }
}

impl Store for AnyStore {
    fn name(&self) -> String {
        self.0.name()
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.0.load(key).await
    }

    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.0.load_latest(key).await
    }

    fn is_cached(&self) -> bool {
        self.0.is_cached()
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.0.swap(key, before, after).await
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        self.0.scan(after, limit).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.0.sweep(limit).await
    }
}

/// [`Store`] with boxed futures.
trait Erased: Send + Sync {
    fn name(&self) -> String;
    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>>;
    fn load_latest<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>>;
    fn is_cached(&self) -> bool;
    fn swap<'a>(
        &'a self,
        key: &'a Key,
        before: Option<&'a Arc<Record>>,
        after: &'a Arc<Record>,
    ) -> Answer<'a, Swapped>;
    fn scan<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Scanned>;
    fn sweep(&self, limit: usize) -> Answer<'_, Swept>;
}

impl<S: Store> Erased for S {
    fn name(&self) -> String {
        self.name()
    }

    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>> {
        Box::pin(self.load(key))
    }

    fn load_latest<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Record>>> {
        Box::pin(self.load_latest(key))
    }

    fn is_cached(&self) -> bool {
        self.is_cached()
    }

    fn swap<'a>(
        &'a self,
        key: &'a Key,
        before: Option<&'a Arc<Record>>,
        after: &'a Arc<Record>,
    ) -> Answer<'a, Swapped> {
        Box::pin(self.swap(key, before, after))
    }

    fn scan<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Scanned> {
        Box::pin(self.scan(after, limit))
    }

    fn sweep(&self, limit: usize) -> Answer<'_, Swept> {
        Box::pin(self.sweep(limit))
    }
}
