//! Processes: killed, several on one file, out of room, and their threads. Each is this test binary, which runs one
//! test again with the file's name in its environment.

#![cfg(unix)]

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use session_runtime::store::{SqliteStore, Store, StoreError, Swapped};
use session_runtime::{Clock, Key, SystemClock, UserId};
use session_tests::{times, wait_for};
use tokio::task::JoinSet;

use super::scratch::{
    Held, Scratch, begin, counter, create, load, number, put, record, slot, waiting_writes, with,
};
use super::writing::increment;

/// Says to a process that it is one of these, and which file is its.
const FILE: &str = "SESSION_TEST_SQLITE_FILE";

/// How a line begins that is for the parent.
const SAYS: &str = "child: ";

fn file() -> Option<PathBuf> {
    env::var_os(FILE).map(PathBuf::from)
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn say(what: impl std::fmt::Display) {
    // The harness may have begun the line.
    println!("\n{SAYS}{what}");
}

/// Runs a test of this file in a process of its own. It is killed when it is dropped.
struct Process {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Process {
    fn start(test: &str, file: &Path) -> Self {
        Self::run(
            Command::new(env::current_exe().expect("a path")),
            test,
            file,
        )
    }

    /// Lets no file of the process grow beyond so many blocks of 512 bytes; it learns of that by an error.
    fn limited(test: &str, file: &Path, blocks: u32) -> Self {
        let mut shell = Command::new("sh");
        let limit = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        shell
            .arg("-c")
            .arg(limit)
            .arg(env::current_exe().expect("a path"));
        Self::run(shell, test, file)
    }

    fn run(mut command: Command, test: &str, file: &Path) -> Self {
        let path = module_path!().split_once("::").expect("a module").1;
        command.args(["--exact", "--nocapture", &format!("{path}::{test}")]);
        let command = command.env(FILE, file).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let out = child.stdout.take().expect("a pipe");
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        let said = lines.filter_map(|line| line.strip_prefix(SAYS).map(str::to_owned));
        let lines = Box::new(said);
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("the process says more")
    }

    /// Kills it, and returns what it had said until then.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it runs");
        self.lines.by_ref().collect()
    }

    fn end(mut self) {
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn user(n: usize) -> Key {
    Key::User(UserId::new(n.to_string()))
}

const WRITERS: usize = 4;

/// A number, and a value beside the head that goes with it.
fn large(n: usize) -> session_runtime::store::Slot {
    slot("large", n.to_string().repeat(1_000 + n % 3 * 500))
}

#[tokio::test]
async fn child_that_writes() {
    let Some(file) = file() else { return };
    let store = SqliteStore::open(file).expect("a store");
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write_for_ever(store.clone(), n));
    }
    writers.join_all().await;
}

async fn write_for_ever(store: SqliteStore, writer: usize) {
    let (key, now) = (user(writer), SystemClock::default().now());
    let mut seen = load(&store, &key).await;
    loop {
        let n = seen.as_ref().map_or(0, |seen| number(seen) + 1);
        let after = match &seen {
            Some(seen) => with(&with(seen, counter(n)), large(n)),
            None => record(now, [counter(n), large(n)]),
        };
        put(&store, &key, seen.as_ref(), &after).await;
        say(format!("{writer} {n}"));
        seen = Some(after);
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_kill_9() {
    let scratch = Scratch::new();
    let mut acknowledged = HashMap::new();
    let note = |acknowledged: &mut HashMap<usize, usize>, line: String| {
        let (writer, n) = line.split_once(' ').expect("two numbers");
        acknowledged.insert(
            writer.parse().expect("a number"),
            n.parse().expect("a number"),
        );
    };
    for round in 0..5 * times() {
        let mut process = Process::start("child_that_writes", &scratch.path);
        for _ in 0..20 + round % 7 * 10 {
            note(&mut acknowledged, process.next());
        }
        process
            .kill()
            .into_iter()
            .for_each(|line| note(&mut acknowledged, line));
        let store = scratch.store();
        for (writer, n) in &acknowledged {
            let record = load(&store, &user(*writer)).await.expect("it was created");
            let there = number(&record);
            assert!(
                (*n..=n + 1).contains(&there),
                "{n} was acknowledged, {there} is there"
            );
            assert_eq!(**record.slot("large").expect("a value"), large(there));
        }
    }
}

const EACH: usize = 100;

#[tokio::test]
async fn child_that_increments() {
    let Some(file) = file() else { return };
    let store = SqliteStore::open(file).expect("a store");
    for _ in 0..EACH {
        increment(&store, &user(0)).await;
    }
}

#[tokio::test]
async fn three_processes_on_one_file_lose_no_increment() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (key, start) = (user(0), record(SystemClock::default().now(), [counter(0)]));
    put(&store, &key, None, &start).await;
    let others = [0; 2].map(|_| Process::start("child_that_increments", &scratch.path));
    for _ in 0..EACH {
        increment(&store, &key).await;
    }
    others.into_iter().for_each(Process::end);
    assert_eq!(
        number(&load(&store, &key).await.expect("a record")),
        3 * EACH
    );
}

/// Swaps one record until the disk takes no more.
async fn swap_until_it_fails(
    store: &SqliteStore,
    key: &Key,
) -> (Arc<session_runtime::store::Record>, StoreError) {
    let mut seen = load(store, key).await.expect("a record");
    loop {
        let after = with(&seen, counter(number(&seen) + 1));
        match store.swap(key, Some(&seen), &after).await {
            Ok(swapped) => assert_eq!(swapped, Swapped::Done),
            Err(error) => return (seen, error),
        }
        seen = after;
    }
}

#[tokio::test]
async fn child_whose_disk_fails() {
    let Some(path) = file() else { return };
    let scratch = Scratch::at(path);
    let store = scratch.store();
    let key = user(0);
    let (seen, error) = swap_until_it_fails(&store, &key).await;
    assert!(error.is_unknown() && error.is_transient(), "{error:?}");
    assert_eq!(load(&store, &key).await.as_ref(), Some(&seen));
    // Two that contradict each other, in one transaction, which fails.
    let held = Held::new(&scratch, &store).await;
    let [one, two] = [counter(0), counter(1)].map(|counter| with(&seen, counter));
    let swaps = async {
        tokio::join!(
            store.swap(&key, Some(&seen), &one),
            store.swap(&key, Some(&seen), &two)
        )
    };
    let mut swaps = Box::pin(swaps);
    begin(&mut swaps).await;
    assert_eq!(waiting_writes(&store), 2);
    held.release().await;
    let (one, two) = swaps.await;
    for outcome in [one, two] {
        // No `Stale` that brings what was rolled back.
        assert!(outcome.is_err_and(|error| error.is_unknown()));
    }
    assert_eq!(load(&store, &key).await.as_ref(), Some(&seen));
    say(number(&seen));
}

#[tokio::test]
async fn a_disk_that_fails_leaves_the_outcome_unknown_and_the_file_whole() {
    let scratch = Scratch::new();
    let key = user(0);
    let start = record(SystemClock::default().now(), [counter(0)]);
    put(&scratch.store(), &key, None, &start).await;
    let mut process = Process::limited("child_whose_disk_fails", &scratch.path, 512);
    let last: usize = process.next().parse().expect("a number");
    process.end();
    assert!(last > 100, "{last} swaps fit");
    let store = scratch.store();
    assert_eq!(number(&load(&store, &key).await.expect("a record")), last);
    increment(&store, &key).await;
}

/// Returns how many threads of this process are a store's: they name themselves.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a list of threads");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("session-")).count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn child_that_counts_threads() {
    let Some(file) = file() else { return };
    let store = SqliteStore::open(file).expect("a store");
    let clone = store.clone();
    drop(store);
    create(&clone, &record(SystemClock::default().now(), [])).await;
    wait_for("one writes and two read", async || threads() == 3).await;
    drop(clone);
    wait_for("they end", async || threads() == 0).await;
    say("ended");
}

#[cfg(target_os = "linux")]
#[test]
fn the_threads_end_with_the_last_handle() {
    let scratch = Scratch::new();
    let mut process = Process::start("child_that_counts_threads", &scratch.path);
    assert_eq!(process.next(), "ended");
    process.end();
}
