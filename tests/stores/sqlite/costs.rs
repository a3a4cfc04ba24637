//! How much is written: SQLite writes whole pages, and each commit waits for the disk.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::{Record, Slot};
use tokio::task::JoinSet;

use super::scratch::{Held, Scratch, counter, create, put, slot, waiting_writes, with};
use session_tests::wait_for;

const KIB: usize = 1 << 10;

/// More than a record remembers versions: while it learns them, it grows.
const SWAPS: usize = 40;

/// Fields that a session of 64 KiB may have besides the one that changes.
fn large_sessions() -> [Vec<Slot>; 3] {
    let field = |name: &str, n: usize, bytes: usize| slot(&format!("{name}{n}"), vec![b'.'; bytes]);
    let one = field("field", 0, 64 * KIB);
    let some = (0..16).map(|n| field("field", n, 4 * KIB));
    let small = (0..8).map(|n| field("small", n, 250));
    [
        vec![one],
        some.collect(),
        small.chain([field("large", 0, 62 * KIB)]).collect(),
    ]
}

/// Returns how many bytes a swap writes, on average, if `next` says by what it replaces a record.
async fn written(fields: Vec<Slot>, next: impl Fn(&Scratch, &Record, usize) -> Arc<Record>) -> u64 {
    let scratch = Scratch::new();
    let store = scratch.store();
    let mut seen = scratch.record(fields.into_iter().chain([counter(0)]));
    let key = create(&store, &seen).await;
    for _ in 0..100 {
        create(&store, &scratch.record([counter(0)])).await;
    }
    let before = scratch.log_bytes();
    for n in 1..=SWAPS {
        let after = next(&scratch, &seen, n);
        put(&store, &key, Some(&seen), &after).await;
        seen = after;
    }
    (scratch.log_bytes() - before) / SWAPS as u64
}

#[tokio::test]
async fn a_small_change_of_a_large_session_writes_less_than_2_kib() {
    for fields in large_sessions() {
        let written = written(fields, |_, seen, n| with(seen, counter(n))).await;
        assert!((1..2_048).contains(&written), "{written} bytes a swap");
    }
}

#[tokio::test]
async fn a_small_change_that_extends_a_large_session_writes_less_than_4_kib() {
    for fields in large_sessions() {
        let written = written(fields, |scratch, seen, n| {
            scratch.clock.advance(Duration::from_secs(1));
            let mut after = Record::clone(&scratch.record([]));
            for slot in seen.slots() {
                after.set(Arc::clone(slot));
            }
            with(&after, counter(n))
        });
        let written = written.await;
        assert!((2_048..4_096).contains(&written), "{written} bytes a swap");
    }
}

#[tokio::test]
async fn a_changed_field_of_a_large_session_is_written_alone() {
    let [_, fields, _] = large_sessions();
    let written = written(fields, |_, seen, n| {
        with(
            seen,
            slot(
                "field7",
                n.to_string().repeat(4 * KIB)[..4 * KIB].to_owned(),
            ),
        )
    });
    let written = written.await;
    assert!((4_096..12_288).contains(&written), "{written} bytes a swap");
}

/// Returns how many transactions the log holds: the last page of each is marked.
fn transactions(scratch: &Scratch) -> usize {
    const HEADER: usize = 32;
    const FRAME: usize = 24 + KIB;
    let log = fs::read(format!("{}-wal", scratch.path.display())).expect("a log");
    let frames = log[HEADER..].chunks_exact(FRAME);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn swaps_that_come_together_share_a_transaction() {
    const TASKS: usize = 64;
    let scratch = Scratch::new();
    let store = scratch.store();
    let held = Held::new(&scratch, &store).await;
    let before = transactions(&scratch);
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (store, record) = (store.clone(), scratch.record([counter(0)]));
        tasks.spawn(async move { create(&store, &record).await });
    }
    wait_for("all wait", async || waiting_writes(&store) == TASKS).await;
    held.release().await;
    assert_eq!(tasks.join_all().await.len(), TASKS);
    // What held them up, and all of them.
    assert_eq!(transactions(&scratch), before + 2);
}
