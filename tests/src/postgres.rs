//! Private PostgreSQL servers, and what stands between them and a store.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use session_runtime::Clock;
use session_runtime::store::{PostgresOptions, PostgresStore};
use tokio_postgres::{Client, NoTls};

use crate::Port;
use crate::certificates::certify;
use crate::tools::{PATIENCE, require, wait_until};

/// The password in every private server's URL, to be looked for where it must not be.
pub const POSTGRES_PASSWORD: &str = "canary-b7f3";

/// Quick, small, and nothing outside its folder. The tests' many pools need more connections than usual; and what they
/// count is not to have vacuuming in it, whenever that comes.
const SETTINGS: &str = "listen_addresses = '127.0.0.1'\n\
    unix_socket_directories = ''\n\
    dynamic_shared_memory_type = mmap\n\
    recovery_init_sync_method = syncfs\n\
    shared_buffers = 64MB\n\
    max_connections = 300\n\
    autovacuum = off\n\
    log_min_messages = fatal\n";

/// As long as no test is about durability, the disk need not be waited for.
const CARELESS: &str = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n";

/// A server of its own, on a free port and in a scratch folder. Both are gone when it drops, and also when the test's
/// process ends or is killed.
#[derive(Debug)]
pub struct PostgresServer {
    binaries: PathBuf,
    folder: PathBuf,
    port: Port,
    guard: Child,
    /// Closed by the end of this process, whatever brings that about.
    lifeline: Option<ChildStdin>,
    schemas: AtomicUsize,
}

impl PostgresServer {
    /// The one server that the tests of a process share. `None` if this machine has none; see [`require`].
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<PostgresServer>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Starts a server that may be killed. `None` if this machine has none; see [`require`].
    pub fn start() -> Option<Self> {
        Self::start_with(CARELESS)
    }

    /// The same, with other settings, in the form of `postgresql.conf`. It waits for the disk unless told otherwise.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start_with(settings: &str) -> Option<Self> {
        let server = Self::prepare()?;
        server.make(settings);
        server.restart();
        Some(server)
    }

    /// Starts one that lets in only who comes over TLS, with the password, and the [`watcher`](Self::watcher). Its certificate is of an authority that nobody knows, and for the host
    /// `localhost`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start_with_tls() -> Option<Self> {
        let openssl = require("openssl")?;
        let server = Self::prepare()?;
        server.make(&format!("{CARELESS}ssl = on\n"));
        certify(|| {
            let mut command = server.unprivileged(&openssl);
            command.current_dir(server.data());
            command
        });
        let hosts = "hostssl all all 127.0.0.1/32 scram-sha-256\n\
            hostnossl all watcher 127.0.0.1/32 trust\n";
        fs::write(server.data().join("pg_hba.conf"), hosts).expect("a file");
        let mut single = server.unprivileged(&server.binaries.join("postgres"));
        single.arg("--single").arg("-D").arg(server.data());
        single.arg("postgres");
        let roles = format!(
            "ALTER ROLE postgres PASSWORD '{POSTGRES_PASSWORD}'\nCREATE ROLE watcher SUPERUSER LOGIN\n"
        );
        feed(single, &roles);
        server.restart();
        Some(server)
    }

    /// The certificate of the authority that a server with TLS has its own of.
    pub fn authority(&self) -> PathBuf {
        self.data().join("authority.crt")
    }

    /// A folder, and a guard over it. `None` if this machine has no PostgreSQL; see [`require`].
    fn prepare() -> Option<Self> {
        let initdb = require("initdb")?.canonicalize().expect("it was found");
        let folder = tempfile::Builder::new()
            .prefix("session-postgres-")
            .tempdir();
        let folder = folder.expect("a scratch folder").keep();
        let mut guard = guard(&folder);
        Some(Self {
            binaries: initdb.parent().expect("it lies in a folder").to_owned(),
            lifeline: guard.stdin.take(),
            guard,
            port: Port::free(),
            schemas: AtomicUsize::new(0),
            folder,
        })
    }

    fn make(&self, settings: &str) {
        if let Some(user) = unprivileged() {
            let mut chown = Command::new("chown");
            run(chown.args(["-R", user]).arg(&self.folder));
        }
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--no-locale", "-E", "UTF8", "-U", "postgres"]);
        // Whoever can reach the port is let in: checking a password takes long, unoptimised.
        run(initdb.args(["-A", "trust"]));
        let all = format!("port = {}\n{SETTINGS}{settings}", self.port());
        fs::write(self.data().join("postgresql.auto.conf"), all).expect("a file");
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A command of the server's, on its data.
    fn command(&self, name: &str) -> Command {
        let mut command = self.unprivileged(&self.binaries.join(name));
        command.arg("-D").arg(self.data());
        command
    }

    /// A command as a user whom the server runs for: it does not for root.
    fn unprivileged(&self, program: &Path) -> Command {
        let mut command = match unprivileged() {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={user}"));
                command.arg(format!("--regid={}", group_of(user)));
                command.arg("--clear-groups").arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(&self.folder);
        command
    }

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop), and waits until it is up.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn restart(&self) {
        // What a killed server leaves behind is in the way of the next for a moment.
        wait_until("PostgreSQL starts: see its log above", || {
            let started = self.control(&["start"]);
            if !started {
                eprintln!("{}", self.log());
            }
            started
        });
    }

    /// Stops it as an operator does: who is connected is told so and sent away.
    ///
    /// # Panics
    ///
    /// If it does not stop.
    pub fn stop(&self) {
        assert!(self.control(&["stop", "-m", "fast"]), "PostgreSQL stops");
    }

    fn control(&self, what: &[&str]) -> bool {
        let mut command = self.command("pg_ctl");
        command
            .args(["-w", "-s", "-t", &PATIENCE.as_secs().to_string(), "-l"])
            .arg(self.folder.join("log"))
            .args(what);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("pg_ctl runs").success()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// `kill -9` of all of it, amid whatever it does.
    ///
    /// # Panics
    ///
    /// If it is not there to be killed.
    pub fn kill(&self) {
        let main = self.main_process();
        // Its children end by themselves, but not at once: what they do until then would not be lost. Some may have ended.
        let kill = format!(
            "children=$(cat /proc/{main}/task/{main}/children) && kill -9 {main} && {{ kill -9 $children || :; }}"
        );
        run(Command::new("sh").args(["-c", &kill]));
        while Path::new(&format!("/proc/{main}/exe")).exists() {
            std::thread::yield_now();
        }
        // Nobody may have taken note of its end yet, and the next would take it for alive.
        fs::remove_file(self.data().join("postmaster.pid")).expect("it was there");
    }

    fn main_process(&self) -> String {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).expect("it runs");
        file.lines().next().unwrap_or_default().to_owned()
    }

    /// Returns the port where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its URL, password and all.
    pub fn url(&self) -> String {
        self.url_at(self.port())
    }

    /// The same by way of whatever listens on `port`.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://postgres:{POSTGRES_PASSWORD}@127.0.0.1:{port}/postgres")
    }

    /// Options for tables that no one else has. A call waits long for a connection: that this machine is busy is no
    /// fault of the store's.
    pub fn options(&self, clock: impl Clock) -> PostgresOptions {
        let number = self.schemas.fetch_add(1, Ordering::Relaxed);
        let options = PostgresStore::options().schema(format!("test_{number}"));
        options.wait(PATIENCE).clock(clock)
    }

    /// An empty store, in a schema of its own.
    ///
    /// # Panics
    ///
    /// If the server does not let it be made.
    pub async fn store(&self, clock: impl Clock) -> PostgresStore {
        let store = self
            .options(clock)
            .connect(&self.url())
            .expect("the URL is fine");
        store.migrate().await.expect("the tables can be made");
        store
    }

    /// A connection to look behind the store's back.
    ///
    /// # Panics
    ///
    /// If the server does not let it be made.
    pub async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// The same of a server [with TLS](Self::start_with_tls).
    ///
    /// # Panics
    ///
    /// If the server does not let it in.
    pub async fn watcher(&self) -> Client {
        connect(&format!(
            "postgres://watcher@127.0.0.1:{}/postgres",
            self.port()
        ))
        .await
    }
}

async fn connect(url: &str) -> Client {
    let connected = tokio_postgres::connect(url, NoTls).await;
    let (client, connection) = connected.expect("the server is up");
    tokio::spawn(connection);
    client
}

/// A private pgbouncer that lends each connection for one transaction at a time. It is gone when it drops, and when the
/// test's process ends.
#[derive(Debug)]
pub struct Pgbouncer {
    port: Port,
    guard: Child,
    lifeline: Option<ChildStdin>,
}

impl Pgbouncer {
    /// Starts one in front of a server, with two connections to it. `None` if this machine has none; see [`require`].
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(server: &PostgresServer) -> Option<Self> {
        let program = require("pgbouncer")?;
        let held = Port::free();
        let port = held.number();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n\
             max_client_conn = 300\n",
            server.port()
        );
        let file = server.folder.join(format!("pgbouncer-{port}.ini"));
        fs::write(&file, settings).expect("a file");
        let command = server.unprivileged(&program);
        let script = r#""$@" & pid=$!; cat > /dev/null; kill -9 "$pid""#;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script, "guard"])
            .arg(command.get_program())
            .args(command.get_args())
            .arg(&file);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut guard = shell.process_group(0).spawn().expect("a shell");
        let bouncer = Self {
            port: held,
            lifeline: guard.stdin.take(),
            guard,
        };
        wait_until("pgbouncer starts", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(bouncer)
    }

    /// Returns the port where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        drop(self.guard.wait());
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        drop(self.guard.wait());
    }
}

/// A shell that waits for the end of this process, then stops the server and removes its folder.
fn guard(folder: &Path) -> Child {
    let script = r#"
        cat > /dev/null
        if read main < "$1/data/postmaster.pid" && kill -QUIT "$main"; then
            tries=0
            while kill -0 "$main" && [ "$((tries += 1))" -lt 250 ]; do sleep 0.02; done
        fi
        rm -rf "$1"
    "#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "guard"]).arg(folder);
    shell
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Whoever interrupts or kills the tests, as a group, is not to kill this.
    shell.process_group(0).spawn().expect("a shell")
}

/// Whom to run the server as, if this is root.
fn unprivileged() -> Option<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let has = |user: &str| users.lines().any(|line| line.starts_with(user));
    is_root.then(|| {
        if has("postgres:") {
            "postgres"
        } else {
            "nobody"
        }
    })
}

fn group_of(user: &str) -> String {
    let output = Command::new("id")
        .args(["-g", user])
        .output()
        .expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs a command with that on its standard input.
fn feed(mut command: Command, input: &str) {
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("the command is there");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(child.wait().expect("it ends").success(), "{command:?}");
}

fn run(command: &mut Command) {
    let output = command.output().expect("the command is there");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
