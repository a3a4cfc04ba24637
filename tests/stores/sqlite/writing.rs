//! The thread that writes: batches, and callers who go away.

use session_runtime::store::{Store, Swapped};
use tokio::task::JoinSet;

use super::scratch::{
    Held, Scratch, begin, counter, create, load, number, put, slot, waiting_writes, with,
};
use crate::records::insist;
use session_runtime::Key;
use session_runtime::store::SqliteStore;
use session_tests::wait_for;

#[tokio::test]
async fn of_two_swaps_in_one_transaction_the_second_sees_the_first() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let before = scratch.record([counter(0)]);
    let key = create(&store, &before).await;
    let held = Held::new(&scratch, &store).await;
    let [one, two] = [1, 2].map(|n| with(&before, counter(n)));
    let swaps = async {
        tokio::join!(
            store.swap(&key, Some(&before), &one),
            store.swap(&key, Some(&before), &two)
        )
    };
    let mut swaps = Box::pin(swaps);
    begin(&mut swaps).await;
    held.release().await;
    let (first, second) = swaps.await;
    assert_eq!(first.unwrap(), Swapped::Done);
    assert_eq!(second.unwrap(), Swapped::Stale(Some(one)));
}

#[tokio::test]
async fn a_swap_given_up_while_it_waits_is_not_made() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let before = scratch.record([counter(0)]);
    let key = create(&store, &before).await;
    let held = Held::new(&scratch, &store).await;
    let after = with(&before, counter(1));
    let mut given_up = Box::pin(store.swap(&key, Some(&before), &after));
    begin(&mut given_up).await;
    drop(given_up);
    held.release().await;
    create(&store, &scratch.record([])).await;
    assert_eq!(load(&store, &key).await, Some(before.clone()));
    put(&store, &key, Some(&before), &after).await;
}

#[tokio::test]
async fn a_swap_given_up_while_another_process_writes_is_not_made() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let before = scratch.record([counter(0), slot("large", vec![1; 10_000])]);
    let key = create(&store, &before).await;
    let other = scratch.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let after = with(&with(&before, counter(1)), slot("large", vec![2; 10_000]));
    let mut given_up = Box::pin(store.swap(&key, Some(&before), &after));
    begin(&mut given_up).await;
    wait_for("the writer takes it", async || waiting_writes(&store) == 0).await;
    drop(given_up);
    other.execute_batch("ROLLBACK").unwrap();
    create(&store, &scratch.record([])).await;
    assert_eq!(load(&store, &key).await, Some(before.clone()));
    put(&store, &key, Some(&before), &after).await;
}

/// Adds one to the number under a key, however often others come first.
pub(crate) async fn increment(store: &SqliteStore, key: &Key) {
    let mut seen = load(store, key).await.expect("a record");
    loop {
        let after = with(&seen, counter(number(&seen) + 1));
        match insist(store, key, Some(&seen), &after).await {
            Swapped::Done => return,
            Swapped::Stale(there) => seen = there.expect("a record"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_on_one_file_lose_no_increment() {
    const TASKS: usize = 64;
    const EACH: usize = 4;
    let scratch = Scratch::new();
    let stores = [scratch.store(), scratch.store()];
    let key = create(&stores[0], &scratch.record([counter(0)])).await;
    let mut tasks = JoinSet::new();
    for n in 0..TASKS {
        let (store, key) = (stores[n % 2].clone(), key.clone());
        tasks.spawn(async move {
            for _ in 0..EACH {
                increment(&store, &key).await;
            }
        });
    }
    tasks.join_all().await;
    let record = load(&stores[0], &key).await.expect("a record");
    assert_eq!(number(&record), TASKS * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_never_torn() {
    const SWAPS: usize = 300;
    // One in the head and one beside it, which moves into the head and out again.
    let slots = |n: usize| {
        [
            counter(n),
            slot("large", n.to_string().repeat(1 + n % 2 * 2_000)),
        ]
    };
    let scratch = Scratch::new();
    let store = scratch.store();
    let mut seen = scratch.record(slots(0));
    let key = create(&store, &seen).await;
    let (writing, written) = (store.clone(), key.clone());
    let writer = tokio::spawn(async move {
        for n in 1..=SWAPS {
            let [number, large] = slots(n);
            let after = with(&with(&seen, number), large);
            put(&writing, &written, Some(&seen), &after).await;
            seen = after;
        }
    });
    loop {
        let record = load(&store, &key).await.expect("a record");
        let n = number(&record);
        let [_, large] = slots(n);
        assert_eq!(
            record.slot("large").expect("it is there").payload(),
            large.payload()
        );
        if n == SWAPS {
            break;
        }
    }
    writer.await.expect("no panic");
}
