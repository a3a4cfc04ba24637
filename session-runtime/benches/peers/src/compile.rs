//! Seconds of the processor that a build takes: of a first app, with its dependencies, and of what is derived.
//!
//! A build is `cargo build` without optimisation, into an empty folder, of the versions in this workspace's lockfile. What
//! counts is the time of all its processes: another load on the machine matters little.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{fs, iter};

use tempfile::TempDir;

use crate::measure::{head, print};

/// How many structs are derived for.
const STRUCTS: [usize; 3] = [1, 10, 50];

/// Fields of each.
const FIELDS: usize = 20;

/// Their types, in turn.
const TYPES: [&str; 4] = ["u32", "String", "Vec<u32>", "Option<String>"];

/// How often what is derived is built; the fastest counts.
const BUILDS: usize = 3;

/// The dependency that an app with sessions in memory has besides axum, and its use in `main`.
const APPS: [(&str, &str, &str); 4] = [
    ("plain", "", "drop(app);"),
    (
        "session-runtime",
        "session-runtime = { path = \"{ours}\" }",
        "use session_runtime::{SessionLayer, store::MemoryStore}; drop(app.layer(SessionLayer::new(MemoryStore::new())));",
    ),
    (
        "tower-sessions",
        "tower-sessions = \"0.15\"",
        "use tower_sessions::{MemoryStore, SessionManagerLayer}; drop(app.layer(SessionManagerLayer::new(MemoryStore::default())));",
    ),
    (
        "axum_session",
        "axum_session = \"0.22\"",
        "use axum_session::{SessionConfig, SessionLayer, SessionNullPool, SessionStore}; \
         let store = SessionStore::<SessionNullPool>::new(None, SessionConfig::default()).await.unwrap(); drop(app.layer(SessionLayer::new(store)));",
    ),
];

pub(crate) fn run() {
    apps();
    derived();
}

/// A package in a scratch folder, with a folder of its own for what is built.
struct Package {
    folder: TempDir,
}

impl Package {
    fn new(dependencies: &str) -> Self {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ours = peers.join("../..");
        let dependencies = dependencies.replace("{ours}", &ours.to_string_lossy());
        let folder = tempfile::tempdir().expect("a scratch folder");
        let manifest = format!(
            "[package]\nname = \"app\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n{dependencies}\n"
        );
        fs::write(folder.path().join("Cargo.toml"), manifest).expect("the manifest");
        fs::create_dir(folder.path().join("src")).expect("a folder");
        fs::copy(peers.join("Cargo.lock"), folder.path().join("Cargo.lock")).expect("the lockfile");
        Self { folder }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join("src").join(file), text).expect("the source");
    }

    /// Runs a command in it; returns what it prints, and below that its seconds of the processor.
    fn command(&self, command: &str) -> String {
        let script = format!(
            "set -e; TIMEFORMAT='%U %S'; {{ time {command} 2>errors; }} 2>&1 || cat errors"
        );
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(self.folder.path())
            .env("CARGO_TARGET_DIR", self.folder.path().join("target"))
            .env("CARGO_INCREMENTAL", "0")
            .output()
            .expect("bash");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Builds it; returns the seconds that the processor takes.
    fn build(&self) -> f64 {
        let printed = self.command("cargo build --offline --quiet");
        let last = printed.lines().last().unwrap_or_default();
        let seconds: Option<Vec<f64>> = last.split(' ').map(|s| s.parse().ok()).collect();
        seconds
            .unwrap_or_else(|| panic!("no build: {printed}"))
            .iter()
            .sum()
    }

    /// Counts the crates below it.
    fn crates(&self) -> usize {
        let tree = self.command("cargo tree --offline --edges no-dev --prefix none --format {p}");
        let names = tree.lines().filter_map(|line| line.split_once(" v"));
        let names: BTreeSet<_> = names
            .map(|(name, rest)| (name, rest.split(' ').next()))
            .collect();
        names.len() - 1 // the app
    }
}

fn apps() {
    println!("\n### Building a first app\n");
    head(&["", "crates", "more than plain axum", "CPU seconds", "more"]);
    let mut plain = None;
    for (name, dependency, uses) in APPS {
        let package = Package::new(&format!(
            "axum = \"0.8\"\ntokio = {{ version = \"1\", features = [\"full\"] }}\n{dependency}"
        ));
        let main = format!(
            "#[tokio::main] async fn main() {{ let app: axum::Router = axum::Router::new().route(\"/\", axum::routing::get(async || \"hello\")); {uses} }}"
        );
        package.write("main.rs", &main);
        let (crates, seconds) = (package.crates(), package.build());
        let (fewest, least) = *plain.get_or_insert((crates, seconds));
        print(&[
            name.to_owned(),
            crates.to_string(),
            (crates - fewest).to_string(),
            format!("{seconds:.1}"),
            format!("{:.1}", seconds - least),
        ]);
    }
}

/// The derives of a struct, and a use of them: serde generates its code where that is used.
const DERIVES: [(&str, &str, &str); 2] = [
    ("Session", "session_runtime::Session", ""),
    (
        "Serialize, Deserialize",
        "serde::Serialize, serde::Deserialize",
        "pub fn there(it: &S) -> String { serde_json::to_string(it).unwrap() } pub fn back(text: &str) -> S { serde_json::from_str(text).unwrap() }",
    ),
];

fn derived() {
    println!("\n### Deriving\n");
    println!(
        "CPU milliseconds that building a crate takes longer for a field, of {FIELDS} in each struct.\n"
    );
    let package = Package::new(
        "session-runtime = { path = \"{ours}\" }\nserde = { version = \"1\", features = [\"derive\"] }\nserde_json = \"1\"",
    );
    package.write("lib.rs", "");
    package.build();
    let least = |structs, derive, uses| {
        let build = |n| {
            // Another text each time, or nothing is built.
            package.write(
                "lib.rs",
                &format!("// {n}\n{}", source(structs, derive, uses)),
            );
            package.build()
        };
        (0..BUILDS).map(build).fold(f64::INFINITY, f64::min)
    };
    let structs = STRUCTS.map(|structs| structs.to_string());
    let columns: Vec<&str> = iter::once("structs in the crate")
        .chain(structs.iter().map(String::as_str))
        .collect();
    head(&columns);
    let nothing = least(0, "", "");
    for (name, derive, uses) in DERIVES {
        let cells = STRUCTS.map(|structs| {
            let fields = u32::try_from(structs * FIELDS).expect("some thousand");
            let seconds = least(structs, derive, uses) - nothing;
            format!("{:.1}", seconds * 1_000.0 / f64::from(fields))
        });
        let row: Vec<String> = iter::once(format!("`{name}`")).chain(cells).collect();
        print(&row);
    }
}

/// So many modules with a struct each.
fn source(structs: usize, derive: &str, uses: &str) -> String {
    (0..structs).fold(String::new(), |mut text, n| {
        write!(text, "pub mod m{n} {{ #[derive({derive})] pub struct S {{").expect("text");
        for (field, of) in (0..FIELDS).zip(TYPES.iter().cycle()) {
            write!(text, " pub f{field}: {of},").expect("text");
        }
        writeln!(text, " }} {uses} }}").expect("text");
        text
    })
}
