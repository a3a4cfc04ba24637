//! Sweeping, beside whoever writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use session_runtime::Key;
use session_runtime::store::{Record, SqliteStore, Store, StoreError, Swapped};
use session_tests::{multiply_in_sqlite, times};
use tokio::task::JoinSet;

use super::scratch::{
    KEPT, Scratch, TTL, counter, create, load, number, put, session_key, slot, with,
};

const LIVE: usize = 64;
const BATCH: usize = 1_000;

fn rows(scratch: &Scratch, table: &str) -> usize {
    let count = format!("SELECT count(*) FROM {table}");
    let rows: i64 = scratch
        .sql()
        .query_row(&count, [], |row| row.get(0))
        .unwrap();
    usize::try_from(rows).unwrap()
}

#[tokio::test]
async fn payloads_go_with_their_record_and_others_stay() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let large =
        |scratch: &Scratch| scratch.record([slot("a", vec![0; 5_000]), slot("b", vec![1; 5_000])]);
    let expired = create(&store, &large(&scratch)).await;
    scratch.clock.advance(Duration::from_millis(1));
    let record = large(&scratch);
    let live = create(&store, &record).await;
    scratch.clock.advance(TTL + KEPT - Duration::from_millis(1));
    let swept = store.sweep(BATCH).await.unwrap();
    assert_eq!(
        (swept.deleted, swept.expired),
        (1, vec![(expired.clone(), None)])
    );
    assert_eq!(load(&store, &expired).await, None);
    assert_eq!(load(&store, &live).await, Some(record));
    assert_eq!(
        (rows(&scratch, "records"), rows(&scratch, "payloads")),
        (1, 2)
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_swept_all_the_same() {
    for damage in [
        "key = 'nobody''s', head = x'ff'",
        "head = 'text'",
        "head = 5",
    ] {
        let scratch = Scratch::new();
        let store = scratch.store();
        create(&store, &scratch.record([])).await;
        create(&store, &scratch.record([])).await;
        let damage = format!("UPDATE records SET {damage} WHERE id = 1");
        scratch.sql().execute(&damage, []).unwrap();
        scratch.clock.advance(TTL + KEPT);
        let swept = store.sweep(BATCH).await.unwrap();
        assert_eq!((swept.deleted, swept.expired.len()), (2, 1), "{damage}");
    }
}

/// Writes all the while: whatever is not done has been disturbed. Returns the last number.
async fn write(
    store: SqliteStore,
    key: Key,
    mut seen: Arc<Record>,
    sweeping: Arc<AtomicBool>,
) -> (Key, usize) {
    while sweeping.load(Ordering::Relaxed) {
        let after = with(&seen, counter(number(&seen) + 1));
        match store.swap(&key, Some(&seen), &after).await {
            Ok(swapped) => {
                assert_eq!(swapped, Swapped::Done);
                seen = after;
            }
            Err(error) => still_locked(&error),
        }
    }
    (key, number(&seen))
}

/// Checks that a call was answered that the file was locked for long: by the other, on a machine that stands still. The layer asks
/// again.
fn still_locked(error: &StoreError) {
    assert!(error.is_transient(), "{error}");
}

/// Sweeps until nothing is left, and returns how many have gone.
async fn sweep(store: &SqliteStore) -> usize {
    let mut total = 0;
    loop {
        let swept = match store.sweep(BATCH).await {
            Ok(swept) => swept,
            Err(error) => {
                still_locked(&error);
                continue;
            }
        };
        assert!(swept.deleted <= BATCH);
        assert_eq!(swept.expired.len(), swept.deleted);
        total += swept.deleted;
        if swept.deleted == 0 {
            return total;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_sweep_disturb_no_swap_and_touch_no_live_record() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let expired = 20_000 * times();
    let key = create(&store, &scratch.record([counter(0)])).await;
    multiply_in_sqlite(&scratch.path, &key, expired);
    scratch.clock.advance(TTL + KEPT);
    let sweeping = Arc::new(AtomicBool::new(true));
    let mut writers = JoinSet::new();
    for _ in 0..LIVE {
        let (key, record) = (session_key(), scratch.record([counter(0)]));
        put(&store, &key, None, &record).await;
        writers.spawn(write(store.clone(), key, record, Arc::clone(&sweeping)));
    }
    let other = scratch.store();
    let (one, two) = tokio::join!(sweep(&store), sweep(&other));
    sweeping.store(false, Ordering::Relaxed);
    assert_eq!(one + two, expired);
    for (key, written) in writers.join_all().await {
        assert!(written > 0, "a writer was held up all the while");
        assert_eq!(
            number(&load(&store, &key).await.expect("it lives")),
            written
        );
    }
    assert_eq!(rows(&scratch, "records"), LIVE);
}
