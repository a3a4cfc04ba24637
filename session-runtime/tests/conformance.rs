//! The suite of promises, over each store of this crate.

#![cfg(feature = "testing")]

use session_runtime::testing;

#[cfg(feature = "memory")]
#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_keeps_every_promise() {
    use session_runtime::store::MemoryStore;

    testing::conformance(async |clock| MemoryStore::new().with_clock(clock)).await;
}
