//! The suite of promises, over each store of this crate.

#![cfg(feature = "testing")]

use session_runtime::testing;

#[cfg(feature = "memory")]
#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_keeps_every_promise() {
    use session_runtime::store::MemoryStore;

    testing::conformance(async |clock| MemoryStore::new().with_clock(clock)).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_store_keeps_every_promise() {
    use session_runtime::store::SqliteStore;

    let folder = tempfile::tempdir().expect("a scratch folder");
    let count = std::sync::atomic::AtomicUsize::new(0);
    testing::conformance(async |clock| {
        let name = count
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            .to_string();
        SqliteStore::options()
            .clock(clock)
            .open(folder.path().join(name))
            .expect("a fresh file")
    })
    .await;
}
