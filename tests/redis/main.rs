//! Records on Redis: the suite of promises, and what a server may do to them.

use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::RedisStore;
use session_runtime::testing::{CASES, conformance_case};
use session_runtime::{Clock, Key, SessionId, SlotChange, SystemClock, Timestamp};
use session_tests::{RedisCluster, RedisServer};

#[path = "../../session-runtime/tests/common/mod.rs"]
mod common;

mod cached;
mod cluster;
mod failover;
mod faults;
mod open;
mod owners;
mod room;
mod wire;

/// Cases that want a store to say what it has swept. Redis drops what has expired by itself.
fn sweeps(case: &str) -> bool {
    case.starts_with("sweeping_") || case == "a_claimed_record_lapses_in_its_time"
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_keeps_every_promise() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    for case in CASES.iter().filter(|case| !sweeps(case)) {
        conformance_case(case, |_| server.store()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_every_promise() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    for case in CASES.iter().filter(|case| !sweeps(case)) {
        conformance_case(case, |_| cluster.store()).await;
    }
}

/// A store that waits for its server however busy this machine is.
async fn connect(url: &str) -> RedisStore {
    let options = RedisStore::options().timeout(Duration::from_secs(20));
    options.connect(url).await.expect("the server answers")
}

fn now() -> Timestamp {
    SystemClock::default().now()
}

/// Sets a slot that was absent.
fn new(name: &str, payload: impl Into<Vec<u8>>) -> SlotChange {
    SlotChange::set(None, Arc::new(common::slot(name, payload)))
}

/// Keys of one tag, as a session has them that moves.
fn successive_keys<const N: usize>() -> [Key; N] {
    let first = SessionId::generate().expect("random bytes");
    std::array::from_fn(|_| Key::from(&first.successor().expect("random bytes")))
}

/// Waits until something has come about, by looking.
async fn wait_for(what: &str, mut there: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if there().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("in vain: {what}");
}
