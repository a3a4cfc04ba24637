//! What the client of PostgreSQL logs, through the `log` crate.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};
use session_runtime::{Key, SystemClock};
use session_tests::PostgresServer;

use super::{loaded, put, record, slot, with};

/// A name, a small value and a large one's beginning that are nowhere else.
const CANARIES: [&str; 3] = ["amarant-3c9", "quince-7d1", "medlar-5b2"];

/// The lines that tell of a statement, and those of them in which a canary is.
struct Statements {
    all: AtomicUsize,
    telling: Mutex<Vec<String>>,
}

static STATEMENTS: Statements = Statements {
    all: AtomicUsize::new(0),
    telling: Mutex::new(Vec::new()),
};

impl Log for Statements {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, line: &Record<'_>) {
        let line = line.args().to_string();
        if !line.contains("executing statement") {
            return;
        }
        self.all.fetch_add(1, Ordering::Relaxed);
        if CANARIES.iter().any(|canary| tells(&line, canary)) {
            let telling = self.telling.lock();
            telling.unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    fn flush(&self) {}
}

/// Returns `true` if the text is in a line, as text or as `Debug` has bytes.
fn tells(line: &str, text: &str) -> bool {
    let bytes = format!("{:?}", text.as_bytes());
    line.contains(text) || line.contains(bytes.trim_matches(['[', ']']))
}

#[tokio::test]
async fn no_name_and_no_value_is_logged_on_any_level() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    log::set_logger(&STATEMENTS).expect("nobody else sets one");
    log::set_max_level(LevelFilter::Trace);
    let store = server.store(SystemClock::default()).await;
    let [name, small, large] = CANARIES;
    let key = Key::User(name.into());
    let first = record([slot("text", small)]);
    put(&store, &key, None, &first).await;
    let second = with(&first, slot("note", large.repeat(4_000)));
    put(&store, &key, Some(&first), &second).await;
    assert!(loaded(&store, &key).await.is_some());
    log::set_max_level(LevelFilter::Off);

    let telling = STATEMENTS.telling.lock();
    let telling = telling.unwrap_or_else(PoisonError::into_inner);
    assert_eq!(*telling, [""; 0]);
    assert!(
        STATEMENTS.all.load(Ordering::Relaxed) >= 3,
        "they are looked for in the right place"
    );
}
