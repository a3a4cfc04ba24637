//! The suite of promises, over files.

use std::sync::atomic::{AtomicUsize, Ordering};

use session_runtime::store::{Durability, SqliteStore};
use session_runtime::testing::conformance;

async fn keeps_its_promises(durability: Durability) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let files = AtomicUsize::new(0);
    conformance(async |clock| {
        let n = files.fetch_add(1, Ordering::Relaxed);
        let options = SqliteStore::options().durability(durability).clock(clock);
        options
            .open(folder.path().join(format!("{n}.db")))
            .expect("a fresh file")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_keeps_its_promises() {
    keeps_its_promises(Durability::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_file_keeps_its_promises() {
    keeps_its_promises(Durability::Fast).await;
}
