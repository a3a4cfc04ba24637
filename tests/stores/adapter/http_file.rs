//! Code of the tower-sessions family over our file.

use std::fs;

use session_runtime::ForTowerSessions;
use session_runtime::store::SqliteStore;
use session_tests::PATIENCE;
use tempfile::TempDir;

use super::Browser;
use super::login::{axum_login_logs_in_and_out, club};

fn open(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(folder.path().join("db")).expect("a file")
}

#[tokio::test]
async fn axum_login_runs_over_the_sqlite_store() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    axum_login_logs_in_and_out(open(&folder)).await;
}

#[tokio::test]
async fn a_login_outlives_a_restart() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mut browser = Browser::new(club(open(&folder)));
    browser.get("/login").await;
    browser.app = club(open(&folder));
    assert_eq!(browser.get("/").await.1, "ada");
}

#[tokio::test]
async fn a_stolen_file_holds_no_id() {
    use tower_sessions::SessionStore;
    use tower_sessions::cookie::time::OffsetDateTime;
    use tower_sessions::session::{Id, Record};

    let folder = tempfile::tempdir().expect("a scratch folder");
    let store = ForTowerSessions::new(open(&folder)).deadline(PATIENCE); // else it tidies up while it is read
    let canary = ("canary".to_owned(), "seen".into());
    let mut record = Record {
        id: Id::default(),
        data: [canary].into(),
        expiry_date: OffsetDateTime::from_unix_timestamp(4_000_000_000).expect("a date"),
    };
    store.create(&mut record).await.expect("an answer");
    let id = record.id;
    let files = fs::read_dir(folder.path()).expect("a folder");
    let bytes: Vec<u8> = files
        .flat_map(|file| fs::read(file.expect("a file").path()).expect("bytes"))
        .collect();
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(
        holds(b"canary") && holds(b"seen"),
        "it is looked for in the right place"
    );
    assert!(!holds(id.to_string().as_bytes()));
    assert!(!holds(&id.0.to_le_bytes()) && !holds(&id.0.to_be_bytes()));
    assert!(!holds(format!("{:032x}", id.0).as_bytes()));
    drop(store);
}
