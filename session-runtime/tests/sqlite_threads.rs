//! Alone in its process, so that it can count threads.

#![cfg(all(feature = "sqlite", feature = "testing", target_os = "linux"))]

mod common;

use std::fs;
use std::time::Duration;

use common::create;
use session_runtime::store::SqliteStore;
use session_runtime::{Clock, SystemClock};

fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("a list of threads");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("session-")).count()
}

#[tokio::test]
async fn the_threads_end_with_the_last_handle() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let store = SqliteStore::open(folder.path().join("sessions.db")).expect("a store");
    let clone = store.clone();
    drop(store);
    create(&clone, SystemClock::default().now(), &[]).await;
    // They name themselves.
    come_to(3).await;
    drop(clone);
    come_to(0).await;
}

async fn come_to(count: usize) {
    for _ in 0..12_000 {
        if threads() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} threads", threads());
}
