//! Requests in process, one at a time.

use crate::apps::{ALL, OURS, PLAIN, TOWER};
use crate::measure::{Case, Figure, Row, contenders, head, print, run as measure, step};
use crate::serve::runtime;

/// How many sessions are alive besides.
const OTHERS: usize = 5_000;

const ROUNDS: usize = 401;

fn cases() -> Vec<Case> {
    let (small, medium, large) = (Some("/fill?9"), Some("/fill?65536"), Some("/fill?1048576"));
    let one = Case::one;
    vec![
        one("no cookie, untouched", None, "/untouched", Some("ok")),
        one("cookie, untouched", small, "/untouched", Some("ok")),
        Case {
            has_others: true,
            ..one(
                "the same with six foreign cookies",
                small,
                "/untouched",
                Some("ok"),
            )
        },
        one("read one small field", small, "/read", Some("7")),
        one("read-modify-write a counter", small, "/change", None),
        one("create a session", None, "/create", Some("1")),
        one(
            "64 KiB session: read one small field",
            medium,
            "/read",
            Some("7"),
        ),
        one(
            "64 KiB session: change one small field",
            medium,
            "/change",
            None,
        ),
        Case {
            steps: vec![step("/notify", Some("ok")), step("/notice", Some("Saved."))],
            ..one("flash: set, then read and used up", small, "", None)
        },
        one(
            "one field of 1 MiB changed",
            large,
            "/large?1048576",
            Some("ok"),
        ),
        one(
            "100 fields changed in one request",
            Some("/wide100?100"),
            "/wide100?100",
            None,
        ),
    ]
}

/// A guest puts something into a cart, logs in as somebody whom the store knows, and out.
fn login() -> Case {
    let mut steps: Vec<_> = ["/add", "/login", "/logout"]
        .map(|path| step(path, Some("ok")))
        .into();
    steps[0].is_timed = false;
    steps[2].is_timed = false;
    Case {
        steps,
        ..Case::one("login of a guest with a cart, known user", None, "", None)
    }
}

pub(crate) fn run() -> Vec<Row> {
    let runtime = runtime();
    println!("\n### In process");
    let mut columns = vec![""];
    columns.extend(&ALL[1..]);
    columns.extend(["ratio", "allocations", "KiB allocated"]);
    head(&columns);
    let all = contenders(&runtime, &ALL, "memory", OTHERS, "/fill?9");
    let ours = contenders(&runtime, &[PLAIN, OURS], "memory", OTHERS, "/fill?9");
    let compared = cases().into_iter().map(|case| (case, &all));
    compared
        .chain([(login(), &ours)])
        .map(|(case, contenders)| measure(&runtime, contenders, &case, ROUNDS))
        .inspect(show)
        .collect()
}

fn show(row: &Row) {
    let each = |cell: &dyn Fn(&Figure) -> String| -> Vec<String> {
        let cells = ALL[1..].iter().map(|name| row.figure(name));
        cells
            .map(|figure| figure.map_or("–".to_owned(), cell))
            .collect()
    };
    let mut cells = vec![row.name.clone()];
    cells.extend(each(&|figure| {
        let Figure {
            low,
            median,
            spread,
            ..
        } = figure;
        format!("{low:.2} ({median:.2}, {spread:.2})")
    }));
    let ratio = row.figure(OURS).zip(row.figure(TOWER));
    cells.push(ratio.map_or("–".to_owned(), |(ours, theirs)| {
        format!("{:.2}", ours.low / theirs.low)
    }));
    cells.push(each(&|figure| figure.allocations.to_string()).join(" / "));
    cells.push(each(&|figure| format!("{:.1}", figure.bytes as f64 / 1024.0)).join(" / "));
    print(&cells);
}
