//! The promises of `docs/guarantees.md`, and the tests that it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PROMISES: &str = include_str!("../../docs/guarantees.md");

/// What is to be run on each store is listed in one of these.
const ON_EACH: [&str; 3] = [
    "on_each_store!",
    "on_each_server!",
    "in_memory_and_in_a_file!",
];

/// One row of a table: what is promised, where, and the tests.
struct Promise<'a> {
    says: &'a str,
    place: &'a str,
    tests: Vec<&'a str>,
}

impl<'a> Promise<'a> {
    fn of(row: &'a str) -> Option<Self> {
        let cells: Vec<_> = row.strip_prefix("| ")?.split(" | ").collect();
        let [says, place, tests] = *cells else {
            panic!("three cells: {row}");
        };
        let tests = tests.split('`').skip(1).step_by(2).collect();
        (place != "where").then_some(Self { says, place, tests })
    }
}

fn promises() -> Vec<Promise<'static>> {
    PROMISES.lines().filter_map(Promise::of).collect()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// All tests there are, and those that are run on each store or server.
fn tests() -> (BTreeSet<String>, BTreeSet<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["http", "users", "stores", "shop", "../session-runtime/src"] {
        sources(&root.join(folder), &mut files);
    }
    let (mut all, mut on_each) = (BTreeSet::new(), BTreeSet::new());
    for file in files {
        let text = fs::read_to_string(file).expect("text");
        let mut attributed = false;
        for line in text.lines().map(str::trim) {
            let name = line.trim_start_matches("async ").strip_prefix("fn ");
            let name = name.and_then(|name| name.split(['(', '<']).next());
            match name {
                Some(name) if attributed => drop(all.insert(name.to_owned())),
                _ => {}
            }
            attributed = line.starts_with("#[test")
                || line.starts_with("#[tokio::test")
                || attributed && name.is_none();
        }
        for list in ON_EACH.iter().flat_map(|list| text.split(list).skip(1)) {
            let list = list.split([')', '}']).next().unwrap_or_default();
            let names = list.trim_start_matches([' ', '(', '{']).split(',');
            let names = names.map(|name| name.trim().to_owned());
            on_each.extend(names);
        }
    }
    all.extend(on_each.iter().cloned());
    (all, on_each)
}

#[test]
fn each_test_that_a_promise_names_is_there_and_run_where_it_says() {
    let (all, on_each) = tests();
    let promises = promises();
    assert!(promises.len() > 20, "{}", promises.len());
    let mut wrong = Vec::new();
    for Promise { says, place, tests } in &promises {
        let lacking = tests.iter().filter(|test| !all.contains(**test));
        wrong.extend(lacking.map(|test| format!("there is no test {test}: {says}")));
        let each = tests.iter().any(|test| on_each.contains(*test));
        if tests.is_empty() || place.starts_with("each") && !each {
            wrong.push(format!("no test on each store: {says}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
