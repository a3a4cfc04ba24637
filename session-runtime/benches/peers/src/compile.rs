//! What a team's builds pay for: crates, and the processor's time, of small apps that are written to a scratch folder.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::measure::{head, print};

/// Fields of each struct.
const FIELDS: usize = 20;

/// Builds of each app, of which the fastest counts.
const TIMES: usize = 3;

pub(crate) fn run() {
    println!(
        "\n### Compile cost\n\nA debug build from nothing, with one job. Seconds are the processor's, of cargo and rustc together."
    );
    let axum = "axum = \"0.8.9\"\ntokio = { version = \"1.54\", features = [\"full\"] }\n";
    let ours = format!(
        "session-runtime = {{ path = {:?} }}\n",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    );
    let serde = "serde = { version = \"1\", features = [\"derive\"] }\n";
    head(&["", "crates", "seconds"]);
    let mut without = None;
    for (name, more, main) in [
        ("axum, hello world", "", HELLO.to_owned()),
        ("with session-runtime, in memory", &*ours, OURS.to_owned()),
        (
            "with tower-sessions, in memory",
            "tower-sessions = \"0.15\"\n",
            TOWER.to_owned(),
        ),
    ] {
        let app = App::new(&format!("{axum}{more}{serde}"), &main);
        let crates = app.crates();
        let seconds = app.seconds(App::clean);
        let (fewer, faster) = *without.get_or_insert((crates, seconds));
        let figures = (crates - fewer, seconds - faster);
        print(&[
            name.to_owned(),
            format!("{crates} (+{})", figures.0),
            format!("{seconds:.1} (+{:.1})", figures.1),
        ]);
    }
    head(&[
        "structs of 20 fields",
        "ours, ms a field",
        "serde's two, ms a field",
    ]);
    let [ours, serde] = [
        ("session_runtime::Session", &*ours),
        ("serde::Serialize, serde::Deserialize", serde),
    ]
    .map(|(derives, dependency)| {
        let app = App::new(dependency, "fn main() {}\n");
        let least = app.seconds(App::touch);
        move |structs: usize| {
            app.write(&declared(derives, structs));
            (app.seconds(App::touch) - least) * 1e3 / (structs * FIELDS) as f64
        }
    });
    for structs in [1, 10, 50] {
        let cells = [ours(structs), serde(structs)].map(|millis| format!("{millis:.1}"));
        print(&[structs.to_string(), cells[0].clone(), cells[1].clone()]);
    }
}

const HELLO: &str = r#"
use axum::{Router, routing::get};

#[tokio::main]
async fn main() {
    let app = Router::new().route("/", get(async || "hello"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, app).await.unwrap();
}
"#;

const OURS: &str = r#"
use axum::{Router, routing::get};
use session_runtime::{Session, SessionLayer, store::MemoryStore};

#[derive(Session)]
struct Shop {
    count: u32,
}

async fn count(mut session: Session<Shop>) -> String {
    let count = session.count.get_mut();
    *count += 1;
    count.to_string()
}

#[tokio::main]
async fn main() {
    let app = Router::new().route("/", get(count)).layer(SessionLayer::new(MemoryStore::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, app).await.unwrap();
}
"#;

const TOWER: &str = r#"
use axum::{Router, routing::get};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

async fn count(session: Session) -> String {
    let count = session.get::<u32>("count").await.unwrap().unwrap_or_default() + 1;
    session.insert("count", count).await.unwrap();
    count.to_string()
}

#[tokio::main]
async fn main() {
    let layer = SessionManagerLayer::new(MemoryStore::default());
    let app = Router::new().route("/", get(count)).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, app).await.unwrap();
}
"#;

/// Writes so many structs that derive something.
fn declared(derives: &str, structs: usize) -> String {
    let types = ["u32", "String", "Vec<u32>", "Option<String>"];
    let mut text = String::from("#![allow(dead_code)]\nfn main() {}\n");
    for number in 0..structs {
        writeln!(text, "#[derive({derives})]\nstruct S{number} {{").expect("memory");
        for field in 0..FIELDS {
            writeln!(text, "    f{field}: {},", types[field % types.len()]).expect("memory");
        }
        text.push_str("}\n");
    }
    text
}

/// A package of its own, in a folder that goes with it.
struct App(tempfile::TempDir);

impl App {
    fn new(dependencies: &str, main: &str) -> Self {
        let app = Self(tempfile::tempdir().expect("a scratch folder"));
        fs::create_dir(app.0.path().join("src")).expect("a scratch folder");
        let manifest = format!(
            "[package]\nname = \"app\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n{dependencies}"
        );
        fs::write(app.0.path().join("Cargo.toml"), manifest).expect("a scratch folder");
        // The versions that are measured elsewhere, as far as they are needed here.
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
        fs::copy(lock, app.0.path().join("Cargo.lock")).expect("the lock file");
        app.write(main);
        app
    }

    fn write(&self, main: &str) {
        fs::write(self.0.path().join("src/main.rs"), main).expect("a scratch folder");
    }

    fn cargo(&self, script: &str) -> String {
        let output = Command::new("bash")
            .args(["-c", script])
            .current_dir(self.0.path())
            .env("CARGO_TARGET_DIR", self.0.path().join("target"))
            .env("CARGO_INCREMENTAL", "0")
            .output()
            .expect("bash");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &text
    }

    /// Counts the crates that are compiled, its own among them.
    fn crates(&self) -> usize {
        let tree = self.cargo("cargo tree -q -e normal,build --prefix none --no-dedupe | cut -d' ' -f1,2 | sort -u");
        tree.lines().filter(|line| !line.is_empty()).count()
    }

    fn clean(&self) {
        drop(fs::remove_dir_all(self.0.path().join("target")));
    }

    fn touch(&self) {
        let path = self.0.path().join("src/main.rs");
        let text = fs::read(&path).expect("a scratch folder");
        fs::write(&path, text).expect("a scratch folder");
    }

    /// Returns what a build takes at least, after `before`.
    fn seconds(&self, before: impl Fn(&Self)) -> f64 {
        self.cargo("cargo build -q -j1");
        let build = || {
            before(self);
            let text = self.cargo("TIMEFORMAT='took %U %S'; time cargo build -q -j1");
            let took = text.lines().find_map(|line| line.strip_prefix("took "));
            let parts = took.expect("bash says how long").split(' ');
            parts
                .map(|part| part.parse::<f64>().expect("seconds"))
                .sum()
        };
        (0..TIMES).map(|_| build()).fold(f64::INFINITY, f64::min)
    }
}
