//! What a request costs as things grow.

use std::time::Instant;

use axum::body::Body;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::Request;
use http::header::COOKIE;

use crate::apps::{self, ALL, OURS, PLAIN};
use crate::client::{Client, cookie, exchange};
use crate::measure::{
    Case, Contender, Row, Samples, contenders, crowd, head, print, run as measure,
};
use crate::redis_server::RedisServer;
use crate::serve::runtime;

const ROUNDS: usize = 101;

/// Sessions by which is measured what one takes.
const WEIGHED: usize = 10_000;

pub(crate) fn run() {
    println!("\n### Growth\n\nMicroseconds, net of no sessions, 10th percentile.");
    fields();
    sizes();
    sessions(&ALL, "memory", &[1_000, 10_000, 100_000, 1_000_000]);
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("sessions.db");
    let file = file.to_str().expect("a path of text");
    sessions(&[PLAIN, OURS], file, &[1_000, 10_000, 100_000]);
    weights();
    at_once();
}

fn titles<'a>(first: &'a str, names: &[&'a str]) -> Vec<&'a str> {
    let mut titles = vec![first];
    titles.extend(&names[1..]);
    titles
}

fn show(row: &Row) {
    let mut cells = vec![row.name.clone()];
    cells.extend(
        row.figures
            .iter()
            .map(|figure| format!("{:.2}", figure.low)),
    );
    print(&cells);
}

fn fields() {
    let runtime = runtime();
    let all = contenders(&runtime, &ALL, "memory", 0, "");
    head(&titles("fields there are, changed", &ALL));
    for declared in [1, 10, 50, 100, 200] {
        let begin = format!("/wide{declared}?{declared}");
        let changed = if declared == 1 {
            vec![1]
        } else {
            vec![1, declared]
        };
        for changed in changed {
            let name = format!("{declared}, {changed}");
            let path = format!("/wide{declared}?{changed}");
            let case = Case::one(&name, Some(&begin), &path, None);
            show(&measure(&runtime, &all, &case, ROUNDS));
        }
    }
}

fn sizes() {
    let runtime = runtime();
    let all = contenders(&runtime, &ALL, "memory", 0, "");
    head(&titles("size of the session, what is done", &ALL));
    for kib in [1, 16, 64, 256, 1_024] {
        let begin = format!("/fill?{}", kib << 10);
        let large = format!("/large?{}", kib << 10);
        for (done, path, expect) in [
            ("read a small field", "/read", Some("7")),
            ("change a small field", "/change", None),
            ("change the large field", &*large, Some("ok")),
        ] {
            let case = Case::one(&format!("{kib} KiB, {done}"), Some(&begin), path, expect);
            show(&measure(&runtime, &all, &case, ROUNDS));
        }
    }
}

fn sessions(names: &[&'static str], place: &str, counts: &[usize]) {
    let runtime = runtime();
    let title = if place == "memory" {
        "live sessions, what is done"
    } else {
        "the same, in SQLite"
    };
    head(&titles(title, names));
    let all = contenders(&runtime, names, place, 0, "");
    let mut there = 0;
    for count in counts {
        for Contender { name, app } in &all {
            if *name != PLAIN {
                runtime.block_on(crowd(app, count - there, "/create"));
            }
        }
        there = *count;
        for (done, begin, path, expect) in [
            ("read", Some("/fill?9"), "/read", Some("7")),
            ("change", Some("/fill?9"), "/change", None),
            ("create", None, "/create", Some("1")),
        ] {
            let case = Case::one(&format!("{count}, {done}"), begin, path, expect);
            show(&measure(&runtime, &all, &case, ROUNDS));
        }
    }
}

fn weights() {
    head(&titles("bytes an idle session takes", &ALL));
    for (name, begin) in [("one field", "/create"), ("22 fields", "/fill?9")] {
        let weigh = |contender: &&str| {
            let runtime = runtime();
            let app = runtime.block_on(apps::app(contender, "memory"));
            runtime.block_on(Client::new(&app).begin(begin));
            let counted = allocation_counter::measure(|| {
                runtime.block_on(async {
                    for _ in 0..WEIGHED {
                        Client::new(&app).begin(begin).await;
                    }
                });
            });
            (counted.bytes_current as f64 / WEIGHED as f64)
                .round()
                .to_string()
        };
        let mut cells = vec![name.to_owned()];
        cells.extend(ALL[1..].iter().map(weigh));
        print(&cells);
    }
}

/// Requests at once on Redis, in one thread, to two instances in turn: each adds one to a map in the session.
fn at_once() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let mut columns = titles("requests at once, Redis, two instances: µs each", &ALL);
    columns.push("lost updates of 100");
    head(&columns);
    for sharing in [true, false] {
        for at_once in [1, 4, 16, 64] {
            let whose = if sharing {
                "on one session"
            } else {
                "each on its own"
            };
            let mut cells = vec![format!("{at_once} {whose}")];
            let mut lost = Vec::new();
            for name in &ALL[1..] {
                let (micros, missing) = together(name, &redis.url(), at_once, sharing);
                cells.push(format!("{micros:.0}"));
                lost.push(format!("{missing:.0}"));
            }
            cells.push(lost.join(" / "));
            print(&cells);
        }
    }
}

/// Returns how long each of so many requests at once takes, and how many of a hundred updates are lost.
fn together(name: &str, place: &str, at_once: usize, sharing: bool) -> (f64, f64) {
    let times = (768 / at_once).max(24);
    runtime().block_on(async {
        // The third is to read what has come of it: it has nothing in its memory.
        let mut instances = Vec::new();
        for _ in 0..3 {
            instances.push(apps::app(name, place).await);
        }
        let get = |instance: usize, path: &str, cookie: &str| {
            let request = Request::get(path).header(COOKIE, cookie);
            let request = request.body(Body::empty()).expect("a request");
            exchange(instances[instance].clone(), request)
        };
        let mut cookies: Vec<String> = Vec::new();
        for _ in 0..if sharing { 1 } else { at_once } {
            let (_, headers) = get(0, "/fill?9", "").await;
            cookies.push(cookie(&headers).expect("a session"));
        }
        let mut micros = Vec::new();
        for time in 0..times {
            let start = Instant::now();
            let ask = |one: usize| get((time + one) % 2, "/add", &cookies[one % cookies.len()]);
            let all: FuturesUnordered<_> = (0..at_once).map(ask).collect();
            all.count().await;
            micros.push(start.elapsed().as_secs_f64() * 1e6 / at_once as f64);
        }
        let mut kept = 0.0;
        for cookie in &cookies {
            let (pears, _) = get(2, "/cart", cookie).await;
            kept += pears.parse::<f64>().expect("a number");
        }
        let lost = 100.0 - kept * 100.0 / (times * at_once) as f64;
        (Samples::new(micros).percentile(10), lost)
    })
}
