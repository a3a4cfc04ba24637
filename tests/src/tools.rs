//! Programs that a test needs and the machine may lack.

use std::env;
use std::fmt::Debug;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// What has not come about by then does not. Nobody waits that long for what does, and a machine may be slow.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The Debian package of each program that tests use.
const PACKAGES: [(&str, &str); 8] = [
    ("chromedriver", "chromium-driver"),
    ("chromium", "chromium"),
    ("initdb", "postgresql"),
    ("mariadb-install-db", "mariadb-server"),
    ("mariadbd", "mariadb-server"),
    ("openssl", "openssl"),
    ("pgbouncer", "pgbouncer"),
    ("redis-server", "redis-server"),
];

/// Debian keeps a folder for each version of PostgreSQL, none of them on the PATH.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Where servers are, which is not on the PATH of everybody.
const SERVERS: &str = "/usr/sbin";

/// Finds a program. `None`, and a line that says so, if this machine has none: the test is to return then.
///
/// # Panics
///
/// If it is missing where `CI=true`: there a test that is left out is a test that has failed.
#[must_use = "without the program the test is to return"]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub fn require(program: &str) -> Option<PathBuf> {
    let found = env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .chain([PathBuf::from(SERVERS)])
        .chain(postgres_folders())
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        let package = PACKAGES.iter().find(|(known, _)| *known == program);
        let package = package.map_or(program, |(_, package)| package);
        let lack =
            format!("`{program}` is not on the PATH: on Debian, `apt-get install {package}`");
        assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{lack}");
        eprintln!("skipped: {lack}");
    }
    found
}

/// The newest first.
fn postgres_folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}

/// Reads how many times as much a test is to do as it does by default: `SESSION_TEST_TIMES`. With 50, the tests that say
/// so come to the numbers they would have if time were no matter.
///
/// # Panics
///
/// If that is no number.
pub fn times() -> usize {
    let times = env::var("SESSION_TEST_TIMES").ok();
    times.map_or(1, |times| {
        times.parse().expect("`SESSION_TEST_TIMES` is a number")
    })
}

/// Looks every few milliseconds whether something has come about.
///
/// # Panics
///
/// If it does not.
pub async fn wait_for(what: &str, mut there: impl AsyncFnMut() -> bool) {
    let tries = Tries::begin();
    while !there().await {
        tries.go_on(what);
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same where nothing else is to go on meanwhile.
pub(crate) fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let tries = Tries::begin();
    while !there() {
        tries.go_on(what);
        thread::sleep(PAUSE);
    }
}

/// Tries of what a machine that is busy with other things may be too slow for, though not each time for minutes.
#[derive(Debug)]
pub struct Tries(Instant);

impl Tries {
    /// Begins.
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Tries once more.
    ///
    /// # Panics
    ///
    /// If it has been tried for minutes. Says what came of it.
    pub fn go_on(&self, found: impl Debug) {
        assert!(self.0.elapsed() < PATIENCE, "in vain: {found:?}");
    }
}
