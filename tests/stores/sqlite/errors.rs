//! What goes wrong with the file, and how a caller learns of it.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;
use session_runtime::Clock;
use session_runtime::store::{Durability, Store, Swapped};
use session_tests::wait_for;

use crate::records::tombstone;

use super::scratch::{
    Held, KEPT, Scratch, TTL, begin, counter, create, load, put, session_key, slot, with,
};

#[tokio::test]
async fn a_file_locked_by_another_holds_up_no_load() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let before = scratch.record([counter(0)]);
    let key = create(&store, &before).await;
    let held = Held::new(&scratch, &store).await;
    let after = with(&before, counter(1));
    let mut swap = Box::pin(store.swap(&key, Some(&before), &after));
    // The only thread of this runtime goes on.
    begin(&mut swap).await;
    assert_eq!(load(&store, &key).await, Some(before.clone()));
    held.release().await;
    assert_eq!(swap.await.unwrap(), Swapped::Done);
}

#[tokio::test]
async fn a_file_that_stays_locked_is_contended_and_nothing_is_written() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let other = scratch.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (key, record) = (session_key(), scratch.record([]));
    let error = store.swap(&key, None, &record).await.unwrap_err();
    assert!(error.is_transient() && !error.is_unknown(), "{error:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(load(&store, &key).await, None);
    put(&store, &key, None, &record).await;
}

#[tokio::test]
async fn a_scan_passes_over_rows_of_others() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let mut keys = Vec::new();
    for _ in 0..20 {
        let key = create(&store, &scratch.record([])).await;
        let stray =
            "INSERT INTO records (key, version, expires, head) VALUES (?1, x'00', 0, x'00')";
        let put = scratch.sql().execute(stray, [format!("{key} of another")]);
        assert_eq!(put, Ok(1));
        keys.push(key);
    }
    keys.sort_by_key(ToString::to_string);
    for limit in [1, 2, 3, 7, 100] {
        let (mut found, mut next) = (Vec::new(), None::<String>);
        loop {
            let scanned = store.scan(next.as_deref(), limit).await.unwrap();
            assert!(scanned.keys.len() <= limit);
            found.extend(scanned.keys);
            next = scanned.next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(found, keys, "{limit}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_no_other() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let record = scratch.record([]);
    let key = create(&store, &record).await;
    let damage = "UPDATE records SET head = x'ff00' WHERE key = ?1";
    scratch.sql().execute(damage, [key.to_string()]).unwrap();
    let error = store.load(&key).await.unwrap_err();
    assert!(!error.is_transient() && !error.is_full(), "{error:?}");
    // Both are in the queue before either is written.
    let held = Held::new(&scratch, &store).await;
    let sound = session_key();
    let swaps = async {
        tokio::join!(
            store.swap(&key, None, &record),
            store.swap(&sound, None, &record)
        )
    };
    let mut swaps = Box::pin(swaps);
    begin(&mut swaps).await;
    held.release().await;
    let (broken, done) = swaps.await;
    assert!(!broken.unwrap_err().is_transient());
    assert_eq!(done.unwrap(), Swapped::Done);
}

#[tokio::test]
async fn a_payload_that_is_gone_is_no_record_but_an_error() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let key = create(&store, &scratch.record([slot("large", vec![0; 5_000])])).await;
    assert_eq!(scratch.sql().execute("DELETE FROM payloads", []), Ok(1));
    let error = store.load(&key).await.unwrap_err();
    assert!(!error.is_transient() && !error.is_full(), "{error:?}");
}

#[tokio::test]
async fn a_damaged_file_is_broken_and_no_repeat_mends_it() {
    let scratch = Scratch::new();
    let mut keys = Vec::new();
    {
        let store = scratch.store();
        for n in 0..100 {
            keys.push(
                create(
                    &store,
                    &scratch.record([counter(n), slot("a", vec![0; 500])]),
                )
                .await,
            );
        }
    }
    let log = scratch.path.with_extension("db-wal");
    wait_for("the last to close the file empties the log", async || {
        !log.exists()
    })
    .await;
    // All but the pages that the schema is on.
    let bytes = std::fs::metadata(&scratch.path).unwrap().len();
    let mut file = OpenOptions::new().write(true).open(&scratch.path).unwrap();
    file.seek(SeekFrom::Start(8 << 10)).unwrap();
    file.write_all(&vec![0xff; usize::try_from(bytes).unwrap() - (8 << 10)])
        .unwrap();
    let store = scratch.store();
    let load = store.load(&keys[50]).await.unwrap_err();
    let swap = store
        .swap(&session_key(), None, &scratch.record([]))
        .await
        .unwrap_err();
    for error in [load, swap] {
        assert!(!error.is_transient() && !error.is_full(), "{error:?}");
    }
}

#[tokio::test]
async fn a_full_file_refuses_new_sessions_and_keeps_the_live_ones() {
    let scratch = Scratch::new();
    let options = scratch.options().durability(Durability::Fast);
    let store = options
        .max_bytes(256 << 10)
        .open(&scratch.path)
        .expect("a store");
    let large = || scratch.record([slot("a", vec![b'.'; 4 << 10])]);
    let mut live = Vec::new();
    let error = loop {
        let (key, record) = (session_key(), large());
        match store.swap(&key, None, &record).await {
            Ok(swapped) => assert_eq!(swapped, Swapped::Done),
            Err(error) => break error,
        }
        live.push((key, record));
    };
    assert!(error.is_full() && !error.is_transient(), "{error:?}");
    assert!(live.len() > 20, "{} sessions of 4 KiB fit 256", live.len());
    for (key, record) in &mut live {
        // A field can be taken out.
        let mut after = record.next();
        after.remove("a");
        let after = Arc::new(after);
        put(&store, key, Some(record), &after).await;
        assert_eq!(load(&store, key).await, Some(after));
    }
    scratch.clock.advance(TTL + KEPT);
    assert_eq!(store.sweep(1_000).await.unwrap().deleted, live.len());
    for _ in &live {
        create(&store, &large()).await;
    }
}

#[tokio::test]
async fn in_a_full_file_each_session_can_end() {
    const ROOM: u64 = 1 << 20;
    let scratch = Scratch::new();
    let options = scratch.options().durability(Durability::Fast);
    let store = options
        .max_bytes(ROOM)
        .open(&scratch.path)
        .expect("a store");
    let mut live = Vec::new();
    loop {
        let cart = slot("cart", r#"["apples","pears","plums"]"#);
        let (key, record) = (session_key(), scratch.record([cart, counter(0)]));
        match store.swap(&key, None, &record).await {
            Ok(swapped) => assert_eq!(swapped, Swapped::Done),
            Err(error) => break assert!(error.is_full(), "{error:?}"),
        }
        live.push((key, record));
    }
    // What is only used takes nothing of what is kept for those that end.
    for (key, record) in &mut live {
        for n in [7, 8, 9] {
            let used = with(record, counter(n));
            match store.swap(key, Some(record), &used).await {
                Ok(swapped) => {
                    assert_eq!(swapped, Swapped::Done);
                    *record = used;
                }
                Err(error) => assert!(error.is_full(), "{error:?}"),
            }
        }
    }
    // Each moves to the end of the index by which is swept, whose pages split.
    let mut expires = scratch.clock.now() + TTL * 12;
    for (key, record) in &live {
        expires = expires + Duration::from_millis(1);
        put(&store, key, Some(record), &tombstone(record, expires)).await;
    }
    let pages = scratch
        .sql()
        .pragma_query_value(None, "page_count", |row| row.get(0));
    let bytes = pages.map(|pages: u32| u64::from(pages) << 10).unwrap();
    assert!(bytes <= ROOM + ROOM / 16, "{bytes} bytes");
}

#[tokio::test]
async fn a_full_file_lets_a_swap_through_that_came_with_one_too_large() {
    let scratch = Scratch::new();
    let store = scratch
        .options()
        .max_bytes(256 << 10)
        .open(&scratch.path)
        .expect("a store");
    let (large, small) = (
        scratch.record([slot("a", vec![0; 1 << 20])]),
        scratch.record([]),
    );
    let keys = [session_key(), session_key()];
    let held = Held::new(&scratch, &store).await;
    let swaps = async {
        tokio::join!(
            store.swap(&keys[0], None, &large),
            store.swap(&keys[1], None, &small)
        )
    };
    let mut swaps = Box::pin(swaps);
    begin(&mut swaps).await;
    held.release().await;
    let (refused, done) = swaps.await;
    assert!(refused.unwrap_err().is_full());
    assert_eq!(done.unwrap(), Swapped::Done);
    assert_eq!(load(&store, &keys[0]).await, None);
    let left = "SELECT count(*) FROM payloads WHERE name = ?1";
    let left: i64 = scratch
        .sql()
        .query_row(left, params!["a"], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}
