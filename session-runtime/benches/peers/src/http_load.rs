//! Over HTTP: each contender in a process of its own, with one thread, and browsers that keep their connections here.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::apps::{self, ALL, AXUM_SESSION, CACHED, OURS, PLAIN, TOWER};
use crate::client::AGENT;
use crate::measure::{Samples, head, print};
use crate::postgres_server::PostgresServer;
use crate::redis_server::RedisServer;
use crate::serve::{self, runtime};

/// Connections, each with a session of its own.
const BROWSERS: usize = 16;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(250);

/// Requests by which the server's commands are counted.
const COUNTED: usize = 200;

/// Names the contenders by another framework, which the program in `apart` serves: one with sessions, one without.
const ACTIX: &str = "actix-session";
const ACTIX_PLAIN: &str = "actix";

/// Serves a contender until nobody holds this process's input any more.
pub(crate) fn serve(contender: &str, place: &str) {
    serve::end_with_input();
    serve::serve(apps::app(contender, place));
}

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(contender: &str, place: &str) -> Self {
        let is_apart = contender.starts_with(ACTIX_PLAIN)
            || contender == TOWER && place.starts_with("postgres://");
        let mut command = if is_apart {
            Command::new(&*APART)
        } else {
            let mut command = Command::new(env::current_exe().expect("this program"));
            command.arg("serve");
            command
        };
        let mut process = command
            .args([contender, place])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("a port");
        Self { process, port }
    }
}

/// The program in `apart`, built when it is first started.
static APART: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("apart");
    let target = folder.join("target");
    let built = Command::new("cargo")
        .args(["build", "--release", "--quiet"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", &target)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "it builds");
    target.join("release/session-peers-apart")
});

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A connection that is kept, and the session that was begun over it.
struct Browser {
    stream: TcpStream,
    request: String,
    answer: Vec<u8>,
    last: Option<u32>,
}

impl Browser {
    async fn new(port: u16, path: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let mut browser = Self {
            stream,
            request: request("/fill?9", ""),
            answer: Vec::new(),
            last: None,
        };
        let (head, _) = browser.exchange().await;
        let set = head.lines().filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("set-cookie").then_some(value)
        });
        let pairs: Vec<&str> = set.filter_map(|value| value.split(';').next()).collect();
        browser.request = request(path, &pairs.join("; "));
        browser
    }

    /// Asks, and checks the answer: a number, after a change the next.
    async fn ask(&mut self, changes: bool) -> Duration {
        let start = Instant::now();
        let (_, text) = self.exchange().await;
        let taken = start.elapsed();
        let number: u32 = text.parse().expect("a number");
        // Without sessions the numbers are everybody's.
        let before = self.last.replace(number);
        let fits = before.is_none_or(|last| {
            if changes {
                number > last
            } else {
                number == last
            }
        });
        assert!(fits, "{number} after {before:?}");
        taken
    }

    async fn exchange(&mut self) -> (String, String) {
        let sent = self.stream.write_all(self.request.as_bytes()).await;
        sent.expect("a connection");
        self.answer.clear();
        loop {
            let read = self
                .stream
                .read_buf(&mut self.answer)
                .await
                .expect("an answer");
            assert!(read > 0, "the server has closed the connection");
            let text = std::str::from_utf8(&self.answer).expect("text");
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && body.len() >= length(head)
            {
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                return (head.to_owned(), body.to_owned());
            }
        }
    }
}

fn request(path: &str, cookie: &str) -> String {
    let cookie = if cookie.is_empty() {
        String::new()
    } else {
        format!("Cookie: {cookie}\r\n")
    };
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {AGENT}\r\n{cookie}\r\n")
}

fn length(head: &str) -> usize {
    let mut lines = head.lines();
    let line = lines.find_map(|line| line.strip_prefix("content-length: "));
    line.and_then(|length| length.parse().ok())
        .expect("a length")
}

/// One contender, served.
struct Served {
    name: &'static str,
    browsers: Vec<Browser>,
    /// Of each round: seconds a request takes, and milliseconds that one in a hundred takes longer than.
    seconds: Vec<f64>,
    longest: Vec<f64>,
    _server: Server,
}

impl Served {
    fn new(runtime: &Runtime, name: &'static str, place: &str, path: &str) -> Self {
        let server = Server::start(name, place);
        let open = join_all((0..BROWSERS).map(|_| Browser::new(server.port, path)));
        Self {
            name,
            browsers: runtime.block_on(open),
            seconds: Vec::new(),
            longest: Vec::new(),
            _server: server,
        }
    }

    fn round(&mut self, runtime: &Runtime, changes: bool) {
        let start = Instant::now();
        let each = self.browsers.iter_mut().map(|browser| async move {
            let mut taken = Vec::new();
            while start.elapsed() < ROUND {
                taken.push(browser.ask(changes).await.as_secs_f64() * 1e3);
            }
            taken
        });
        let all: FuturesUnordered<_> = each.collect();
        let taken = runtime.block_on(all.collect::<Vec<_>>()).concat();
        self.seconds
            .push(start.elapsed().as_secs_f64() / taken.len() as f64);
        self.longest.push(Samples::new(taken).percentile(99));
    }

    fn count(&mut self, runtime: &Runtime, changes: bool) {
        runtime.block_on(async {
            for _ in 0..COUNTED {
                self.browsers[0].ask(changes).await;
            }
        });
    }

    fn finish(&self) -> (f64, f64) {
        let low = |samples: &Vec<f64>| Samples::new(samples.clone()).percentile(10);
        (1.0 / low(&self.seconds), low(&self.longest))
    }
}

pub(crate) fn run() {
    println!("\n### Over HTTP");
    let columns = [
        "",
        "requests/s",
        "of no sessions",
        "p99, ms",
        "p99 of no sessions",
        "commands a request",
    ];
    head(&columns);
    let (redis, postgres) = (RedisServer::start(), PostgresServer::start());
    for (name, path) in [("read", "/read"), ("change", "/change")] {
        let table = |on: &str, place: &str, contenders: &[_], redis| {
            rows(&format!("{name}, {on}"), path, place, contenders, redis);
        };
        table("memory", "memory", &ALL, None);
        if let Some(redis) = &redis {
            let all = [PLAIN, OURS, CACHED, TOWER, AXUM_SESSION, ACTIX_PLAIN, ACTIX];
            table("Redis", &redis.url(), &all, Some(redis));
        }
        if let Some(postgres) = &postgres {
            table("PostgreSQL", &postgres.url(), &[PLAIN, OURS, TOWER], None);
        }
    }
}

fn rows(
    what: &str,
    path: &str,
    place: &str,
    contenders: &[&'static str],
    redis: Option<&RedisServer>,
) {
    let runtime = runtime();
    let changes = path == "/change";
    let contenders = contenders.iter();
    let mut served: Vec<_> = contenders
        .map(|contender| Served::new(&runtime, contender, place, path))
        .collect();
    for _ in 0..ROUNDS {
        served
            .iter_mut()
            .for_each(|served| served.round(&runtime, changes));
    }
    let mut without = served[0].finish();
    for served in &mut served {
        let (rate, longest) = served.finish();
        if served.name == ACTIX_PLAIN {
            without = (rate, longest);
        }
        let (plain, plain_longest) = without;
        let commands = redis
            .filter(|_| ![PLAIN, ACTIX_PLAIN].contains(&served.name))
            .map_or("–".to_owned(), |redis| {
                let count = || served.count(&runtime, changes);
                redis.traffic(COUNTED, count).commands
            });
        print(&[
            format!("{what}: {}", served.name),
            format!("{rate:.0}"),
            format!("{:.2}", rate / plain),
            format!("{longest:.2}"),
            format!("{:.2}", longest / plain_longest),
            commands,
        ]);
    }
}
