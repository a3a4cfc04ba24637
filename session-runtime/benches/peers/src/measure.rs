//! Rounds of a case, in turn over all contenders, and the tables they make.

use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use tokio::runtime::Runtime;

use crate::apps::{self, PLAIN};
use crate::client::{Client, Step};

/// How long a round takes: on a busy machine, many of them are over before another process gets its turn.
const ROUND: Duration = Duration::from_micros(500);

/// Turns before anything is measured.
const WARM_UP: usize = 50;

/// What a client does again and again.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Where its session begins; `None`: each turn is a new client's.
    pub(crate) begin: Option<String>,
    pub(crate) has_others: bool,
    pub(crate) steps: Vec<Step>,
}

impl Case {
    /// One request, with a session that begins at `begin`.
    pub(crate) fn one(
        name: &str,
        begin: Option<&str>,
        path: &str,
        expect: Option<&'static str>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            begin: begin.map(str::to_owned),
            has_others: false,
            steps: vec![step(path, expect)],
        }
    }
}

pub(crate) fn step(path: &str, expect: Option<&'static str>) -> Step {
    Step {
        path: path.to_owned(),
        expect,
        is_timed: true,
    }
}

/// A contender's app, with other sessions in it.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) app: Router,
}

/// Microseconds of each round, in order of size.
#[derive(Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn new(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    /// The value that so many of a hundred are at most.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

/// What a case costs a contender more than no sessions.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) low: f64,
    pub(crate) median: f64,
    /// Half of the rounds are within this of each other.
    pub(crate) spread: f64,
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
}

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) figures: Vec<Figure>,
}

impl Row {
    pub(crate) fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

/// Makes the contenders, with `others` sessions besides, which begin at `begin`.
pub(crate) fn contenders(
    runtime: &Runtime,
    names: &[&'static str],
    place: &str,
    others: usize,
    begin: &str,
) -> Vec<Contender> {
    let make = |name: &&'static str| {
        let app = runtime.block_on(apps::app(name, place));
        if *name != PLAIN {
            runtime.block_on(crowd(&app, others, begin));
        }
        Contender { name, app }
    };
    names.iter().map(make).collect()
}

/// Begins so many sessions, some at once: stores on disk write them together.
pub(crate) async fn crowd(app: &Router, sessions: usize, begin: &str) {
    let mut left = sessions;
    while left > 0 {
        let now = left.min(256);
        let begin = |_| async { Client::new(app).begin(begin).await };
        join_all((0..now).map(begin)).await;
        left -= now;
    }
}

/// Runs a case: the first contender is the one that has no sessions.
pub(crate) fn run(runtime: &Runtime, contenders: &[Contender], case: &Case, rounds: usize) -> Row {
    let mut runs: Vec<Run<'_>> = contenders
        .iter()
        .map(|contender| Run::new(runtime, contender, case))
        .collect();
    for _ in 0..rounds {
        runs.iter_mut().for_each(|run| run.round(runtime));
    }
    let done: Vec<_> = runs.into_iter().map(|run| run.finish(runtime)).collect();
    let (plain, plain_allocations, plain_bytes) = &done[0];
    let net = |((samples, allocations, bytes), contender): (&(Samples, u64, u64), &Contender)| {
        let above = |percent| samples.percentile(percent) - plain.percentile(10);
        Figure {
            name: contender.name,
            low: above(10),
            median: above(50),
            spread: above(75) - above(25),
            allocations: allocations.saturating_sub(*plain_allocations),
            bytes: bytes.saturating_sub(*plain_bytes),
        }
    };
    Row {
        name: case.name.clone(),
        figures: done.iter().zip(contenders).skip(1).map(net).collect(),
    }
}

struct Run<'a> {
    case: &'a Case,
    client: Client,
    turns: u32,
    micros: Vec<f64>,
}

impl<'a> Run<'a> {
    fn new(runtime: &Runtime, contender: &Contender, case: &'a Case) -> Self {
        let mut client = Client::new(&contender.app);
        if case.has_others {
            client = client.with_others();
        }
        if let Some(begin) = &case.begin {
            runtime.block_on(client.begin(begin));
        }
        let mut run = Self {
            case,
            client,
            turns: 1,
            micros: Vec::new(),
        };
        for _ in 0..WARM_UP {
            run.round(runtime);
        }
        let turn = Samples::new(std::mem::take(&mut run.micros)).percentile(50);
        run.turns = ((ROUND.as_secs_f64() * 1e6 / turn) as u32).max(1);
        run
    }

    /// Without a session of its own to begin with, a client keeps what it is given for the turn.
    fn keeps(&self) -> bool {
        self.case.begin.is_none() && self.case.steps.len() > 1
    }

    fn round(&mut self, runtime: &Runtime) {
        let taken = runtime.block_on(async {
            let mut taken = Duration::ZERO;
            for _ in 0..self.turns {
                for step in &self.case.steps {
                    let time = self.client.step(step, self.keeps()).await;
                    taken += if step.is_timed { time } else { Duration::ZERO };
                }
                self.leave();
            }
            taken
        });
        self.micros
            .push(taken.as_secs_f64() * 1e6 / f64::from(self.turns));
    }

    fn leave(&mut self) {
        if self.case.begin.is_none() {
            self.client.forget();
        }
    }

    /// Returns the times of the rounds, and what a turn allocates at least: tables grow now and then.
    fn finish(mut self, runtime: &Runtime) -> (Samples, u64, u64) {
        let counted: Vec<(u64, u64)> = (0..32).map(|_| self.count(runtime)).collect();
        let least = counted.into_iter().min().unwrap_or_default();
        (Samples::new(self.micros), least.0, least.1)
    }

    fn count(&mut self, runtime: &Runtime) -> (u64, u64) {
        let mut total = (0, 0);
        for step in &self.case.steps {
            let counted = self.client.count(runtime, step, self.keeps());
            if step.is_timed {
                total.0 += counted.count_total;
                total.1 += counted.bytes_total;
            }
        }
        self.leave();
        total
    }
}

/// Prints a row of a Markdown table.
pub(crate) fn print(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// Prints the head of a Markdown table; all columns but the first are numbers.
pub(crate) fn head(cells: &[&str]) {
    println!("\n| {} |", cells.join(" | "));
    println!("|---|{}", "--:|".repeat(cells.len() - 1));
}
