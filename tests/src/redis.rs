//! Redis servers of a test's own: one, a primary with its replica, those that sentinels watch over, or a Cluster. None
//! outlives the test.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use redis::{Client, Connection, FromRedisValue};
use session_runtime::store::{RedisOptions, RedisStore};
use tempfile::TempDir;

use crate::Port;
use crate::tools::{PATIENCE, require, wait_for, wait_until};

/// Runs a program in the folder `$1` until nobody holds this shell's input any more: then the test is over, or
/// dead. If `$2` says so, the folder goes too.
const KEEPER: &str = r#"
    folder=$1; then=$2; shift 2
    cd "$folder"
    "$@" </dev/null >>log 2>&1 &
    echo $!
    cat >/dev/null
    kill -9 $! 2>/dev/null; wait
    [ "$then" = keep ] || rm -rf "$folder"
"#;

/// Connects once the server answers: that a machine is busy, or a server still reads its data, is no fault of the store's.
///
/// # Panics
///
/// If it does not.
pub async fn connect_to_redis(options: &RedisOptions, url: &str) -> RedisStore {
    let mut store = None;
    wait_for("the server answers", async || {
        store = options.clone().connect(url).await.ok();
        store.is_some()
    })
    .await;
    store.expect("it was waited for")
}

/// A private `redis-server` on a free port of this machine. It is killed when this drops.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    port: Port,
    /// The file of its configuration, if it has one, in its folder.
    file: Option<&'static str>,
    options: Vec<String>,
    folder: Folder,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
enum Folder {
    Mine(TempDir),
    /// Of a server that lasts as long as the process: its keeper removes it.
    Shared(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Mine(folder) => folder.path(),
            Self::Shared(path) => path,
        }
    }
}

#[derive(Debug)]
struct Running {
    keeper: Child,
    pid: u32,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk, with these options besides, such as `["--maxmemory", "8mb"]`.
    /// `None` if this machine has no Redis: the test is to return then.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use = "without Redis the test is to return"]
    pub fn start(options: &[&str]) -> Option<Self> {
        let folder = Folder::Mine(tempfile::tempdir().expect("a scratch folder"));
        Self::start_in(folder, options)
    }

    /// The server that all tests of this process share. Each has its own prefix.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use = "without Redis the test is to return"]
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<RedisServer>> = OnceLock::new();
        SHARED
            .get_or_init(|| RedisServer::start_in(lasting_folder(), &[]))
            .as_ref()
    }

    fn start_in(folder: Folder, options: &[&str]) -> Option<Self> {
        Self::start_with(folder, None, options)
    }

    fn start_with(folder: Folder, file: Option<&'static str>, options: &[&str]) -> Option<Self> {
        let server = Self {
            program: program()?,
            port: Port::free(),
            file,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            folder,
            running: Mutex::default(),
        };
        server.restart();
        Some(server)
    }

    /// Starts it once more, after [`kill`](Self::kill): at the same port, with what it finds on its disk.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&self) {
        let port = self.port().to_string();
        let then = match self.folder {
            Folder::Mine(_) => "keep",
            Folder::Shared(_) => "remove",
        };
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", KEEPER, "keeper"])
            .args([self.folder.path(), Path::new(then)])
            .arg(&self.program)
            .args(self.file)
            .args(["--port", &port, "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            // A replica need not wait for others that might come.
            .args(["--repl-diskless-sync-delay", "0"])
            .args(&self.options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut keeper = keeper.spawn().expect("a shell");
        let mut pid = String::new();
        let stdout = keeper.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut pid).expect("a line");
        let pid = pid.trim().parse().expect("the server's process");
        *self.running() = Some(Running { keeper, pid });
        wait_until("the server answers", || {
            assert!(!has_ended(pid), "it ends at once: {}", self.log());
            self.answers(pid)
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Returns `true` if it is this very process that answers.
    fn answers(&self, pid: u32) -> bool {
        let info: redis::RedisResult<String> = self.try_command(&["INFO", "server"]);
        info.is_ok_and(|info| info.contains(&format!("process_id:{pid}\r")))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn kill(&self) {
        self.signal("KILL");
        *self.running() = None;
    }

    /// Has it stand still: it takes what is sent, and answers nothing.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Has it go on.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.running().as_ref().expect("it is running").pid;
        let kill = format!("kill -{name} {pid}");
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.expect("a shell").success(), "{kill}");
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `redis://…`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// A store of its own on this server: nothing is in it.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn store(&self) -> RedisStore {
        let store = fresh().connect(&self.url()).await;
        store.expect("the server answers")
    }

    /// Sends a command by itself.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        match self.try_command(words) {
            Ok(answer) => answer,
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    /// Sends a command that may be refused.
    pub fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query(&mut self.connection()?)
    }

    fn connection(&self) -> redis::RedisResult<Connection> {
        // With a limit, reading fails when this process is stopped and continued meanwhile.
        Client::open(self.url())?.get_connection()
    }

    /// A number out of `INFO`.
    ///
    /// # Panics
    ///
    /// If there is none of that name.
    pub fn info(&self, name: &str) -> u64 {
        let info: String = self.command(&["INFO", "everything"]);
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|number| number.trim().parse().ok());
        number.unwrap_or_else(|| panic!("INFO tells no {name}"))
    }

    /// A server that copies this one, and has caught up with it.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use = "it is killed when it drops"]
    pub fn replica(&self) -> Self {
        let replica = Self::start(&[]).expect("what has one server has two");
        replica.follow(self);
        replica
    }

    /// Has it copy another from now on, and waits until it has caught up.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn follow(&self, primary: &Self) {
        let () = self.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
        wait_until("the replica has caught up", || {
            let info: String = self.command(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        });
    }

    /// Makes it a primary.
    ///
    /// # Panics
    ///
    /// If it refuses.
    pub fn promote(&self) {
        let () = self.command(&["REPLICAOF", "NO", "ONE"]);
    }
}

/// Three primaries that have 16,384 slots between them, a third each.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

const SLOTS: usize = 16_384;
const NODES: usize = 3;

/// In milliseconds. A node that says nothing for so long is taken for dead, and the Cluster is down: a busy machine is
/// not to bring that about.
const NODE_TIMEOUT: &str = "60000";

/// What makes a server a node.
const NODE: [&str; 4] = [
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    NODE_TIMEOUT,
];

impl RedisCluster {
    /// Starts a Cluster. `None` if this machine has no Redis.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use = "without Redis the test is to return"]
    pub fn start() -> Option<Self> {
        Self::start_in(|| Folder::Mine(tempfile::tempdir().expect("a scratch folder")))
    }

    /// The Cluster that all tests of this process share. Each has its own prefix.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use = "without Redis the test is to return"]
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<RedisCluster>> = OnceLock::new();
        SHARED
            .get_or_init(|| RedisCluster::start_in(lasting_folder))
            .as_ref()
    }

    fn start_in(folder: impl Fn() -> Folder) -> Option<Self> {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(RedisServer::start_in(folder(), &NODE)?);
        }
        let cluster = Self { nodes };
        let ports: Vec<_> = cluster.nodes.iter().map(RedisServer::port).collect();
        cluster.meet(&ports);
        Some(cluster)
    }

    /// Starts a Cluster whose nodes speak TLS at these ports, among each other, too. `options` says how a node is to do that.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use = "without Redis the test is to return"]
    pub fn start_with_tls(
        ports: &[Port; NODES],
        options: impl Fn(&Port) -> Vec<String>,
    ) -> Option<Self> {
        let mut nodes = Vec::new();
        for port in ports {
            let options = options(port);
            let mut all = NODE.to_vec();
            all.extend(["--tls-cluster", "yes"]);
            all.extend(options.iter().map(String::as_str));
            nodes.push(RedisServer::start(&all)?);
        }
        let cluster = Self { nodes };
        cluster.meet(&ports.each_ref().map(Port::number));
        Some(cluster)
    }

    /// Shares the slots out, and has the nodes find each other at these ports.
    fn meet(&self, ports: &[u16]) {
        for (n, node) in self.nodes.iter().enumerate() {
            let (first, last) = (n * SLOTS / NODES, (n + 1) * SLOTS / NODES - 1);
            let (first, last) = (first.to_string(), last.to_string());
            let () = node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            let () = node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
        }
        for port in &ports[1..] {
            let () = self.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string()]);
        }
        know_each_other(self.nodes.iter());
    }

    /// Has another node join, which has no slots yet.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use = "it is killed when it drops"]
    pub fn join(&self) -> RedisServer {
        let node = RedisServer::start(&NODE).expect("what has three servers has four");
        let port = node.port().to_string();
        let () = self.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port]);
        know_each_other(self.nodes.iter().chain([&node]));
        node
    }

    /// Has another node join, which copies one of these and has caught up with it.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use = "it is killed when it drops"]
    pub fn replica_of(&self, primary: &RedisServer) -> RedisServer {
        let replica = self.join();
        let id: String = primary.command(&["CLUSTER", "MYID"]);
        let () = replica.command(&["CLUSTER", "REPLICATE", &id]);
        wait_until("the replica has caught up", || {
            let info: String = replica.command(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        });
        replica
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// A store of its own on this Cluster: nothing is in it.
    ///
    /// # Panics
    ///
    /// If the Cluster does not answer.
    pub async fn store(&self) -> RedisStore {
        let urls: Vec<_> = self.nodes.iter().map(RedisServer::url).collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let store = fresh().connect_cluster(&urls).await;
        store.expect("the Cluster answers")
    }
}

fn know_each_other<'a>(nodes: impl Iterator<Item = &'a RedisServer> + Clone) {
    let known = format!("cluster_known_nodes:{}\r", nodes.clone().count());
    for node in nodes {
        wait_until("the nodes know each other", || {
            let info: String = node.command(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains(&known)
        });
    }
}

/// A primary, its replica, and three sentinels that watch over them.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
}

/// What the sentinels call the primary.
const SERVICE: &str = "shop";

/// The file that a sentinel keeps its configuration in.
const SENTINEL_FILE: &str = "sentinel.conf";

impl RedisSentinels {
    /// Starts them, the servers with these options besides. `None` if this machine has no Redis.
    ///
    /// The sentinels take no server for dead by themselves: a busy machine is not to bring that about.
    ///
    /// # Panics
    ///
    /// If they do not start.
    #[must_use = "without Redis the test is to return"]
    pub fn start(options: &[&str]) -> Option<Self> {
        let folder = || Folder::Mine(tempfile::tempdir().expect("a scratch folder"));
        let sentinels = Self::start_in(folder, options)?;
        wait_until("the sentinels know each other, and the replica", || {
            let knows = |sentinel: &RedisServer| {
                let about: HashMap<String, String> =
                    sentinel.command(&["SENTINEL", "MASTER", SERVICE]);
                about["num-slaves"] == "1" && about["num-other-sentinels"] == "2"
            };
            sentinels.sentinels.iter().all(knows)
        });
        Some(sentinels)
    }

    /// Those that all tests of this process share. Each has its own prefix.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use = "without Redis the test is to return"]
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<RedisSentinels>> = OnceLock::new();
        SHARED
            .get_or_init(|| RedisSentinels::start_in(lasting_folder, &[]))
            .as_ref()
    }

    fn start_in(folder: impl Fn() -> Folder, options: &[&str]) -> Option<Self> {
        let primary = RedisServer::start_in(folder(), options)?;
        let replica = RedisServer::start_in(folder(), options)?;
        replica.follow(&primary);
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(start_sentinel(folder(), primary.port(), &[])?);
        }
        Some(Self {
            servers: [primary, replica],
            sentinels,
        })
    }

    /// `redis+sentinel://…`
    pub fn url(&self) -> String {
        let addresses = self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.port.address());
        let addresses = addresses.collect::<Vec<_>>().join(",");
        format!("redis+sentinel://{addresses}/{SERVICE}")
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The server that was the primary when they were started, and the other one.
    pub fn servers(&self) -> [&RedisServer; 2] {
        self.servers.each_ref()
    }

    /// A store of its own on the primary: nothing is in it.
    ///
    /// # Panics
    ///
    /// If nobody answers.
    pub async fn store(&self) -> RedisStore {
        let store = fresh().connect(&self.url()).await;
        store.expect("the primary answers")
    }

    /// Starts one sentinel that calls whatever is at that port the primary, with these options besides. `None` if this machine
    /// has no Redis.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use = "without Redis the test is to return"]
    pub fn one(primary: u16, options: &[&str]) -> Option<RedisServer> {
        let folder = Folder::Mine(tempfile::tempdir().expect("a scratch folder"));
        start_sentinel(folder, primary, options)
    }

    /// Has all sentinels take another server for the primary, without a word to the servers.
    ///
    /// # Panics
    ///
    /// If they do not.
    pub fn name(&self, primary: &RedisServer) {
        for sentinel in &self.sentinels {
            let () = sentinel.command(&["SENTINEL", "REMOVE", SERVICE]);
            monitor(sentinel, primary.port());
        }
    }

    /// Has the sentinels make the replica the primary, and waits until they all call it so.
    ///
    /// # Panics
    ///
    /// If they do not.
    pub fn fail_over(&self) {
        wait_until("a sentinel begins", || {
            let failover = ["SENTINEL", "FAILOVER", SERVICE];
            let begun: redis::RedisResult<()> = self.sentinels[0].try_command(&failover);
            begun.is_ok() || self.is_over()
        });
        wait_until("all sentinels call it the primary", || self.is_over());
    }

    /// Has the sentinels take a server for dead that does not answer for a moment, and waits until they have failed over.
    ///
    /// # Panics
    ///
    /// If they do not.
    pub fn hurry(&self) {
        for sentinel in &self.sentinels {
            let () = sentinel.command(&["SENTINEL", "SET", SERVICE, "failover-timeout", "3000"]);
        }
        let (begun, mut moment) = (Instant::now(), Duration::from_millis(500));
        self.set_patience(moment);
        wait_until("all sentinels call it the primary", || {
            // A machine that is busy has the replica look dead, too, and nobody follows.
            if begun.elapsed() / 16 > moment {
                moment *= 2;
                self.set_patience(moment);
            }
            self.is_over()
        });
        // A machine that is busy has the next one look dead, too, and the first one is back, and empty.
        self.set_patience(PATIENCE);
    }

    fn set_patience(&self, patience: Duration) {
        for sentinel in &self.sentinels {
            set_patience(sentinel, patience);
        }
    }

    fn is_over(&self) -> bool {
        let named = |sentinel: &RedisServer| {
            let address: (String, u16) =
                sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
            address.1
        };
        let primary = self.servers[1].port();
        self.sentinels
            .iter()
            .all(|sentinel| named(sentinel) == primary)
    }
}

fn start_sentinel(folder: Folder, primary: u16, options: &[&str]) -> Option<RedisServer> {
    fs::write(folder.path().join(SENTINEL_FILE), "").expect("it can be written");
    let options = [&["--sentinel"], options].concat();
    let sentinel = RedisServer::start_with(folder, Some(SENTINEL_FILE), &options)?;
    monitor(&sentinel, primary);
    Some(sentinel)
}

/// Has a sentinel watch over a primary and its replicas.
fn monitor(sentinel: &RedisServer, primary: u16) {
    let port = primary.to_string();
    let () = sentinel.command(&["SENTINEL", "MONITOR", SERVICE, "127.0.0.1", &port, "2"]);
    set_patience(sentinel, PATIENCE);
}

/// Has a sentinel take a server for dead that does not answer for so long.
fn set_patience(sentinel: &RedisServer, patience: Duration) {
    let (what, patience) = ("down-after-milliseconds", patience.as_millis().to_string());
    let () = sentinel.command(&["SENTINEL", "SET", SERVICE, what, &patience]);
}

/// Options with a prefix that nobody has had.
fn fresh() -> RedisOptions {
    static STORES: AtomicUsize = AtomicUsize::new(0);
    let store = STORES.fetch_add(1, Ordering::Relaxed);
    RedisStore::options()
        .prefix(format!("test{store}:"))
        // However busy this machine is.
        .timeout(PATIENCE)
}

fn lasting_folder() -> Folder {
    Folder::Shared(tempfile::tempdir().expect("a scratch folder").keep())
}

/// Finds the program to run: `redis-server`, or what `SESSION_REDIS_SERVER` names, such as the path of a `valkey-server`.
fn program() -> Option<PathBuf> {
    match env::var_os("SESSION_REDIS_SERVER") {
        Some(other) => Some(other.into()),
        None => require("redis-server"),
    }
}

/// Returns `true` if a process has ended, though its parent may not have noticed.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, state)| state.starts_with('Z'))
}
