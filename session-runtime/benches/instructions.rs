//! How many instructions and allocations a request takes: the guard that nothing gets slower unnoticed.
//!
//! ```sh
//! cargo bench -p session-runtime --bench instructions
//! ```
//!
//! Runs each case under valgrind, which counts what is executed, so that neither the machine's speed nor its load matters.
//! Fails if a case takes a tenth more than is written here. Whoever makes one faster writes the new number down.

#![allow(missing_docs, clippy::print_stdout)]

mod shop;

use std::env;
use std::hint::black_box;
use std::process::{Command, ExitCode};

use axum::Router;
use shop::{Client, plain, sessions};

/// What is counted: the requests that a client sends in turn.
struct Case {
    name: &'static str,
    paths: &'static [&'static str],
    cookies: Cookies,
    /// What a turn takes, all in all.
    instructions: u64,
    /// What it takes beside plain axum.
    allocations: u64,
}

/// What a client comes with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cookies {
    None,
    Session,
    /// That among six of others.
    Many,
}

const fn case(
    name: &'static str,
    paths: &'static [&'static str],
    cookies: Cookies,
    (instructions, allocations): (u64, u64),
) -> Case {
    Case {
        name,
        paths,
        cookies,
        instructions,
        allocations,
    }
}

const CASES: [Case; 9] = [
    case(
        "untouched, no cookie",
        &["/untouched"],
        Cookies::None,
        (13_200, 5),
    ),
    case("untouched", &["/untouched"], Cookies::Session, (14_300, 5)),
    case(
        "untouched, many cookies",
        &["/untouched"],
        Cookies::Many,
        (14_200, 5),
    ),
    case("read", &["/read"], Cookies::Session, (26_800, 9)),
    case("read, many cookies", &["/read"], Cookies::Many, (27_500, 9)),
    case("change", &["/change"], Cookies::Session, (37_200, 15)),
    case("create", &["/change"], Cookies::None, (37_500, 18)),
    case(
        "flash",
        &["/notify", "/notice"],
        Cookies::Session,
        (74_400, 34),
    ),
    case(
        "login and logout",
        &["/change", "/login", "/logout"],
        Cookies::None,
        (174_200, 98),
    ),
];

/// How many turns are taken before counting, and how many are counted.
const BEFORE: u64 = 50;
const COUNTED: u64 = 200;

/// How often each is run, and the least counts: where the allocator happens to find room makes a difference of a few in a hundred.
const RUNS: usize = 3;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.as_slice() {
        [side, case, turns] => {
            run(side, case, turns.parse().expect("a number"));
            ExitCode::SUCCESS
        }
        _ => compare(),
    }
}

fn app(side: &str) -> Router {
    match side {
        "plain" => plain(),
        _ => sessions(),
    }
}

fn find(name: &str) -> &'static Case {
    let mut cases = CASES.iter();
    cases
        .find(|case| case.name == name)
        .expect("a case of that name")
}

fn client(side: &str, case: &Case) -> Client {
    let mut client = Client::new(app(side));
    match case.cookies {
        Cookies::None => {}
        Cookies::Session => client.begin(""),
        Cookies::Many => client.begin("_ga=GA1.1.1234567890.1234567890; theme=dark; lang=en; _gid=GA1.2.9.8; consent=1; ab=b; "),
    }
    client
}

fn run(side: &str, case: &str, turns: u64) {
    let case = find(case);
    let mut client = client(side, case);
    for _ in 0..turns {
        turn(&mut client, case);
    }
}

/// One turn. Without a cookie of its own to begin with, a client keeps what it is given for the turn.
fn turn(client: &mut Client, case: &Case) {
    let keeps = case.paths.len() > 1 && case.cookies == Cookies::None;
    for path in case.paths {
        black_box(client.send(path, keeps));
    }
    if keeps {
        client.forget();
    }
}

fn compare() -> ExitCode {
    println!(
        "{:26} {:>12} {:>12} {:>12} {:>12}",
        "", "instructions", "of before", "plain", "allocations"
    );
    let mut worse = false;
    for case in &CASES {
        let ours = (0..RUNS).map(|_| instructions("sessions", case));
        let (ours, plain) = (ours.min().unwrap_or(0), instructions("plain", case));
        let allocations = allocations("sessions", case).saturating_sub(allocations("plain", case));
        println!(
            "{:26} {ours:>12} {:>12} {plain:>12} {allocations:>12}",
            case.name, case.instructions
        );
        if ours > case.instructions + case.instructions / 10 {
            println!("  a tenth more instructions than before");
            worse = true;
        }
        if allocations > case.allocations {
            println!("  more than the {} allocations of before", case.allocations);
            worse = true;
        }
    }
    if worse {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Counts the instructions that a turn takes: so many more turns, so many more instructions.
fn instructions(side: &str, case: &Case) -> u64 {
    let (few, many) = (
        total(side, case, BEFORE),
        total(side, case, BEFORE + COUNTED),
    );
    many.saturating_sub(few) / COUNTED
}

fn total(side: &str, case: &Case, turns: u64) -> u64 {
    let exe = env::current_exe().expect("the path of this program");
    let output = Command::new("valgrind")
        .args([
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
        ])
        .arg(exe)
        .args([side, case.name, &turns.to_string()])
        .output()
        .expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.split_once("refs:"));
    let (_, number) = line.unwrap_or_else(|| panic!("valgrind counts instructions: {text}"));
    number.trim().replace(',', "").parse().expect("a number")
}

/// Counts the allocations that a turn takes at least: tables grow now and then.
fn allocations(side: &str, case: &Case) -> u64 {
    let mut client = client(side, case);
    (0..BEFORE).for_each(|_| turn(&mut client, case));
    let counted =
        (0..32).map(|_| allocation_counter::measure(|| turn(&mut client, case)).count_total);
    counted.min().unwrap_or(0)
}
