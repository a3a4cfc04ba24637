//! Looks at the lines that the client of PostgreSQL logs, through the `log` crate.

use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};
use session_runtime::{Key, SystemClock};
use session_tests::PostgresServer;

use super::{loaded, put, record, slot, with};

/// A name, a small value and a large one's beginning that are nowhere else.
const CANARIES: [&str; 3] = ["amarant-3c9", "quince-7d1", "medlar-5b2"];

/// The lines that tell of a statement.
struct Statements(Mutex<Vec<String>>);

static STATEMENTS: Statements = Statements(Mutex::new(Vec::new()));

impl Log for Statements {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, line: &Record<'_>) {
        let line = line.args().to_string();
        if line.contains("executing statement") {
            self.0.lock().unwrap().push(line);
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

    let lines = STATEMENTS.0.lock().unwrap();
    assert!(lines.len() >= 3, "they are looked for in the right place");
    for line in lines.iter() {
        assert!(!CANARIES.iter().any(|canary| tells(line, canary)), "{line}");
    }
}
