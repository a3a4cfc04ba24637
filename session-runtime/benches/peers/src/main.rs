//! What requests cost with this library and with its peers, in one run.
//!
//! ```sh
//! cargo run --release              # everything, as Markdown; some five minutes
//! cargo run --release cases        # requests in process
//! cargo run --release http         # over HTTP, in memory, on Redis and on PostgreSQL
//! cargo run --release growth       # against fields, sizes, sessions, requests at once
//! cargo run --release day          # a day of a shop: commands, bytes, lost updates
//! cargo run --release compile      # crates, and what building them takes
//! cargo run --release plot         # the cases, and draws them into docs/performance.svg
//! ```
//!
//! Contenders take turns, round by round, so that a machine whose speed drifts treats them alike. Each answer is checked.
//! `docs/performance.md` says how to read the figures.

mod apps;
mod cases;
mod client;
mod compile;
mod day;
mod growth;
mod http_load;
mod measure;
mod plot;
mod postgres_server;
mod redis_server;
mod serve;

use std::env;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [] => {
            plot::draw(&cases::run());
            http_load::run();
            growth::run();
            day::run();
            compile::run();
        }
        ["cases"] => drop(cases::run()),
        ["http"] => http_load::run(),
        ["growth"] => growth::run(),
        ["day"] => day::run(),
        ["compile"] => compile::run(),
        ["plot"] => plot::draw(&cases::run()),
        ["serve", contender, place] => http_load::serve(contender, place),
        _ => panic!("one of: cases, http, growth, day, compile, plot; or nothing"),
    }
}
