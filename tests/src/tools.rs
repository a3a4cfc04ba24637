//! Programs that a test needs and the machine may lack.

use std::env;
use std::path::PathBuf;

/// The Debian package of each program that tests use.
const PACKAGES: [(&str, &str); 2] = [
    ("chromedriver", "chromium-driver"),
    ("chromium", "chromium"),
];

/// Where a program is. `None`, and a line that says so, if this machine has none: the test is to return then.
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
