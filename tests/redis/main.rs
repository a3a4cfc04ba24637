//! Records on Redis: the suite of promises, and what a server may do to them.

use std::sync::Arc;

use session_runtime::store::RedisStore;
use session_runtime::testing::{CASES, SWEEPER_CASES, conformance_case};
use session_runtime::{Clock, Key, SessionId, SlotChange, SystemClock, Timestamp};
use session_tests::{PATIENCE, RedisCluster, RedisServer, wait_for};

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

/// What a server keeps that drops what has expired by itself.
fn cases() -> impl Iterator<Item = &'static str> {
    let cases = CASES.iter().copied();
    cases.filter(|case| !SWEEPER_CASES.contains(case))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_keeps_every_promise() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    for case in cases() {
        conformance_case(case, |_| server.store()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_every_promise() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    for case in cases() {
        conformance_case(case, |_| cluster.store()).await;
    }
}

/// A store that waits for its server however busy this machine is.
async fn connect(url: &str) -> RedisStore {
    let options = RedisStore::options().timeout(PATIENCE);
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
