//! What is published: whose files, what the manifests say, and where the links of the front page lead.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const PUBLISHED: [&str; 2] = ["session-macros", "session-runtime"];

/// Returns what cargo writes when it is called so, at the workspace's root.
fn cargo(arguments: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).expect(path)
}

#[test]
fn a_package_has_its_own_files_and_the_licences() {
    let own = [
        "src/",
        "docs/",
        "README.md",
        "LICENSE-",
        "Cargo.",
        ".cargo_vcs_info.json",
    ];
    for package in PUBLISHED {
        let list = cargo(&["package", "--list", "--allow-dirty", "-p", package]);
        let files: Vec<_> = list.lines().collect();
        let foreign = |file: &&&str| !own.iter().any(|own| file.starts_with(own));
        let foreign: Vec<_> = files.iter().filter(foreign).collect();
        assert!(foreign.is_empty(), "{package}: {foreign:?}");
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            assert!(files.contains(&licence), "{package} lacks {licence}");
            assert_eq!(read(&format!("{package}/{licence}")), read(licence));
        }
        let snapshots = files.iter().filter(|file| file.contains("tests/"));
        assert!(package != "session-macros" || snapshots.count() == 0);
    }
}

#[test]
fn a_manifest_says_what_a_registry_shows() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    for package in PUBLISHED {
        let manifest = packages.iter().find(|found| found["name"] == package);
        let manifest = manifest.expect(package);
        for key in ["description", "license", "documentation", "rust_version"] {
            assert!(manifest[key].is_string(), "{package} has no {key}");
        }
        for key in ["keywords", "categories"] {
            assert!(
                !manifest[key].as_array().expect(key).is_empty(),
                "{package} has no {key}"
            );
        }
    }
}

#[test]
fn the_shop_compiles_the_stores_that_it_runs_on_and_others_where_it_is_told_to() {
    let tree = |feature: &str| {
        let tree = [
            "tree",
            "-p",
            "session-examples",
            "-e",
            "normal",
            "--prefix",
            "none",
        ];
        cargo(&[&tree[..], &["--features", feature]].concat())
    };
    for (feature, present) in [
        ("", &["rusqlite"][..]),
        ("redis", &["rusqlite", "redis"]),
        ("redis-tls", &["rusqlite", "redis", "rustls"]),
        ("postgres", &["rusqlite", "tokio-postgres"]),
        ("postgres-tls", &["rusqlite", "tokio-postgres", "rustls"]),
        ("mysql", &["rusqlite", "mysql_async"]),
        ("mysql-tls", &["rusqlite", "mysql_async", "rustls"]),
    ] {
        let tree = tree(feature);
        for name in [
            "rusqlite",
            "redis",
            "tokio-postgres",
            "mysql_async",
            "rustls",
        ] {
            let is_there = tree
                .lines()
                .any(|line| line.starts_with(&format!("{name} v")));
            assert_eq!(is_there, present.contains(&name), "{feature}: {name}");
        }
    }
}

/// Returns a version's first two numbers.
fn numbers(version: &str) -> (u32, u32) {
    let mut numbers = version
        .split('.')
        .map(|number| number.parse().expect(version));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// That what is called of std is as old, clippy's `incompatible_msrv` checks.
#[test]
fn no_dependency_asks_for_a_newer_compiler_than_is_promised() {
    let about = cargo(&["-vV"]);
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.expect("cargo says where it runs");
    // What other systems need is not there, offline.
    let all = [
        "metadata",
        "--format-version",
        "1",
        "--all-features",
        "--filter-platform",
        host,
    ];
    let metadata: Value = serde_json::from_str(&cargo(&all)).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages
        .iter()
        .find(|package| package["name"] == PUBLISHED[1]);
    let promised = ours.expect("it is there")["rust_version"]
        .as_str()
        .expect("a version");
    let newer: Vec<_> = packages
        .iter()
        .filter(|package| {
            let asked = package["rust_version"].as_str();
            asked.is_some_and(|asked| numbers(asked) > numbers(promised))
        })
        .map(|package| format!("{} {}", package["name"], package["rust_version"]))
        .collect();
    assert!(
        packages.len() > 100 && newer.is_empty(),
        "newer than {promised}: {newer:?}"
    );
}

/// A relative link leads nowhere from a registry's page, and somewhere else from rustdoc's.
#[test]
fn links_in_the_docs_lead_there_from_wherever_they_are_read() {
    const GUIDE: &str = "https://docs.rs/session-runtime/latest/session_runtime/guide/";
    let chapters = read("session-runtime/src/lib.rs");
    let mut to_guide = 0;
    let docs = ["users", "stores", "guarantees", "ARCHITECTURE", "DESIGN"];
    let docs = docs.map(|name| format!("docs/{name}.md"));
    for file in docs.iter().map(String::as_str).chain(["README.md"]) {
        let text = read(file);
        for target in text.split("](").skip(1) {
            let target = target.split(')').next().unwrap_or_default();
            let stays = target.starts_with('#') || target.starts_with("https://");
            assert!(stays, "{file}: {target}");
            if let Some(chapter) = target.strip_prefix(GUIDE) {
                let module = format!("pub mod {} {{}}", chapter.trim_end_matches('/'));
                assert!(chapters.contains(&module), "{file}: {target}");
                to_guide += 1;
            }
        }
    }
    assert!(to_guide >= 2);
}
