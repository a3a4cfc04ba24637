//! Private MariaDB servers.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use mysql_async::Conn;
use session_runtime::Clock;
use session_runtime::store::{MysqlOptions, MysqlStore};

use crate::certificates::certify;
use crate::tools::{PATIENCE, require, wait_until};
use crate::{Port, Tries};

/// The password in every private server's URL, to be looked for where it must not be.
pub const MYSQL_PASSWORD: &str = "canary-b7f3";

/// Quick, small, and nothing outside its folder. The tests' many pools need more connections than usual.
const SETTINGS: [&str; 6] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--max-connections=300",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    "--performance-schema=OFF",
];

/// As long as no test is about durability, the disk need not be waited for.
const CARELESS: [&str; 3] = [
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-flush-method=nosync",
];

/// A server of its own, on a free port and in a scratch folder. Both are gone when it drops, and also when the test's
/// process ends or is killed.
#[derive(Debug)]
pub struct MysqlServer {
    program: PathBuf,
    folder: PathBuf,
    port: Port,
    settings: Vec<String>,
    process: Mutex<Option<Child>>,
    guard: Child,
    /// Closed by the end of this process, whatever brings that about.
    lifeline: Option<ChildStdin>,
    databases: AtomicUsize,
}

impl MysqlServer {
    /// The one server that the tests of a process share. `None` if this machine has none; see [`require`].
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<MysqlServer>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Starts a server that may be killed. `None` if this machine has none; see [`require`].
    pub fn start() -> Option<Self> {
        Self::start_with(&CARELESS)
    }

    /// The same, with other options of `mariadbd`. It waits for the disk unless told otherwise.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start_with(settings: &[&str]) -> Option<Self> {
        let server = Self::prepare(settings)?;
        server.restart();
        Some(server)
    }

    /// A server that has yet to be started. `None` if this machine has none; see [`require`].
    fn prepare(settings: &[&str]) -> Option<Self> {
        let (program, install) = (require("mariadbd")?, require("mariadb-install-db")?);
        let folder = tempfile::Builder::new().prefix("session-mysql-").tempdir();
        let folder = folder.expect("a scratch folder").keep();
        let mut guard = guard(&folder);
        let server = Self {
            program,
            port: Port::free(),
            settings: settings.iter().map(ToString::to_string).collect(),
            process: Mutex::new(None),
            lifeline: guard.stdin.take(),
            guard,
            databases: AtomicUsize::new(0),
            folder,
        };
        server.make(&install);
        Some(server)
    }

    /// Starts one that lets in only who comes over TLS. Its certificate is of an authority that nobody knows, and for the host `localhost`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start_with_tls() -> Option<Self> {
        let openssl = require("openssl")?;
        let mut server = Self::prepare(&CARELESS)?;
        certify(|| {
            let mut command = Command::new(&openssl);
            command.current_dir(&server.folder);
            command
        });
        let options = [
            server.option("ssl-cert", "server.crt"),
            server.option("ssl-key", "server.key"),
            "--require-secure-transport=ON".to_owned(),
        ];
        server.settings.extend(options);
        server.restart();
        Some(server)
    }

    /// The certificate of the authority that a server with TLS has its own of.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.crt")
    }

    fn make(&self, install: &Path) {
        let mut command = self.command(install);
        command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        command.args(CARELESS);
        let output = command.output().expect("it runs");
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let users = format!(
            "CREATE DATABASE IF NOT EXISTS test;\n\
             CREATE USER IF NOT EXISTS shop@'127.0.0.1' IDENTIFIED BY '{MYSQL_PASSWORD}';\n\
             GRANT ALL ON *.* TO shop@'127.0.0.1' WITH GRANT OPTION;\n"
        );
        fs::write(self.folder.join("users.sql"), users).expect("a file");
    }

    /// A command of the server's, on its data.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("--no-defaults");
        command.arg(self.option("datadir", "data"));
        if is_root() {
            // It does not run as root unless it is told to.
            command.arg("--user=root");
        }
        // Another that starts removes what it finds in a folder for temporary tables, whosever they are.
        command.env("TMPDIR", &self.folder);
        command.current_dir(&self.folder);
        command
    }

    /// The option whose value is a path in its folder.
    fn option(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.folder.join(file).display())
    }

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop), and waits until it is up.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn restart(&self) {
        let mut command = self.command(&self.program);
        command
            .args(SETTINGS)
            .args(&self.settings)
            .arg(format!("--port={}", self.port()))
            .arg(self.option("socket", "socket"))
            .arg(self.option("pid-file", "pid"))
            .arg(self.option("log-error", "log"))
            .arg(self.option("init-file", "users.sql"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        // Whoever interrupts or kills the tests, as a group, leaves it to the guard.
        let process = command.process_group(0).spawn().expect("it runs");
        // By this the guard finds it, also before it has written that itself.
        fs::write(self.folder.join("pid"), process.id().to_string()).expect("a file");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        wait_until("MariaDB starts", || {
            let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            let ended = process
                .as_mut()
                .and_then(|process| process.try_wait().ok()?);
            assert!(ended.is_none(), "MariaDB ends: {}", self.log());
            greets(self.port())
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Stops it as an operator does: who is connected is sent away.
    ///
    /// # Panics
    ///
    /// If it does not stop.
    pub fn stop(&self) {
        self.signal("TERM");
    }

    /// `kill -9`, amid whatever it does.
    ///
    /// # Panics
    ///
    /// If it is not there to be killed.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    fn signal(&self, signal: &str) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let mut process = process.take().expect("it runs");
        let mut kill = Command::new("kill");
        let sent = kill.arg(format!("-{signal}")).arg(process.id().to_string());
        assert!(sent.status().expect("kill runs").success());
        process.wait().expect("it ends");
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
        format!("mysql://shop:{MYSQL_PASSWORD}@127.0.0.1:{port}/test")
    }

    /// Options for tables that no one else has. A call waits long for a connection: that this machine is busy is no
    /// fault of the store's.
    pub fn options(&self, clock: impl Clock) -> MysqlOptions {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let options = MysqlStore::options().database(format!("test_{number}"));
        options.wait(PATIENCE).clock(clock)
    }

    /// An empty store, in a database of its own.
    ///
    /// # Panics
    ///
    /// If the server does not let it be made.
    pub async fn store(&self, clock: impl Clock) -> MysqlStore {
        let store = self
            .options(clock)
            .connect(&self.url())
            .expect("the URL is fine");
        Self::make_tables(&store).await;
        store
    }

    /// Makes a store's tables. A server that has much to do for other tests may take longer than the store waits.
    ///
    /// # Panics
    ///
    /// If the server does not let them be made.
    pub async fn make_tables(store: &MysqlStore) {
        let tries = Tries::begin();
        while let Err(error) = store.migrate().await {
            tries.go_on(&error);
        }
    }

    /// A connection to look behind the store's back.
    ///
    /// # Panics
    ///
    /// If the server does not let it be made.
    pub async fn client(&self) -> Conn {
        // Not by way of its socket, where it knows the user not.
        let url = self.url() + "?prefer_socket=false";
        Conn::from_url(url).await.expect("the server is up")
    }
}

/// Returns `true` if a server says something to whoever connects: it listens before it is up.
fn greets(port: u16) -> bool {
    let greeted = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0; 5])
    });
    greeted.is_ok()
}

impl Drop for MysqlServer {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        drop(self.guard.wait());
        let process = self.process.get_mut();
        if let Some(process) = process.unwrap_or_else(PoisonError::into_inner) {
            drop(process.wait());
        }
    }
}

/// A shell that waits for the end of this process, then ends the server and removes its folder.
fn guard(folder: &Path) -> Child {
    let script = r#"
        cat > /dev/null
        read -r main < "$1/pid"
        if [ -n "$main" ] && kill -KILL "$main"; then
            tries=0
            while [ -e "/proc/$main/exe" ] && [ "$((tries += 1))" -lt 250 ]; do sleep 0.02; done
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

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}
