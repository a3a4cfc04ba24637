//! A Redis of this run's own, which ends with it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use redis::{Connection, cmd};
use tempfile::TempDir;

pub(crate) struct RedisServer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl RedisServer {
    /// Starts one on a free port that keeps nothing on disk; `None` if this machine has no Redis.
    pub(crate) fn start() -> Option<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let folder = tempfile::tempdir().expect("a scratch folder");
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            println!("\nNo `redis-server` on this machine: nothing is measured on Redis.");
            return None;
        };
        let server = Self {
            process,
            port,
            _folder: folder,
        };
        while server.connection().is_err() {
            sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn connection(&self) -> redis::RedisResult<Connection> {
        redis::Client::open(self.url())?.get_connection()
    }

    /// Counts what the server does for `requests` that `work` sends.
    pub(crate) fn traffic(&self, requests: usize, work: impl FnOnce()) -> Traffic {
        let mut connection = self.connection().expect("Redis");
        let reset: redis::RedisResult<()> = cmd("CONFIG").arg("RESETSTAT").query(&mut connection);
        reset.expect("counters");
        work();
        let stats: String = cmd("INFO")
            .arg("everything")
            .query(&mut connection)
            .expect("counters");
        let each = |count: &str| count.parse::<f64>().expect("a number") / requests as f64;
        let counted = stats.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = each(rest.split(',').next()?);
            (calls >= 0.1 && name != "info").then(|| format!("{name} {calls:.1}"))
        });
        let mut counted: Vec<String> = counted.collect();
        counted.sort();
        if counted.is_empty() {
            counted.push("none".to_owned());
        }
        let bytes = |name: &str| {
            let count = stats.lines().find_map(|line| line.strip_prefix(name));
            each(count.expect("the server counts it").trim())
        };
        Traffic {
            commands: counted.join(", "),
            received: bytes("total_net_input_bytes:"),
            sent: bytes("total_net_output_bytes:"),
        }
    }
}

/// The server's work for each of some requests.
pub(crate) struct Traffic {
    /// The commands, and how many of each.
    pub(crate) commands: String,
    /// Bytes, by the server's own count.
    pub(crate) received: f64,
    pub(crate) sent: f64,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
