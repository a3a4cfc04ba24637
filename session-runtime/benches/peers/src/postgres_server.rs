//! A PostgreSQL of this run's own, which ends with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use std::{fs, io};

use tempfile::TempDir;

/// Debian keeps a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Whom the server runs for, where this program runs for root.
const USER: &str = "postgres";

pub(crate) struct PostgresServer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl PostgresServer {
    /// Starts one on a free port, which waits for the disk as it does by itself; `None` if this machine has no PostgreSQL.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            println!("\nNo PostgreSQL on this machine: nothing is measured on it.");
            return None;
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let folder = tempfile::tempdir().expect("a scratch folder");
        let whole = run(Command::new("chown").arg(USER).arg(folder.path())).is_ok();
        let data = folder.path().join("data");
        let program = |name: &str| {
            let program = programs.join(name);
            let mut command = if whole {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
                command.arg(program);
                command
            } else {
                Command::new(program)
            };
            command.current_dir(folder.path()).arg("-D").arg(&data);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        run(program("initdb").args(["-A", "trust", "-U", USER])).expect("a cluster");
        let mut server = program("postgres");
        server.args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
        let server = Self {
            process: server.spawn().expect("a server"),
            port,
            _folder: folder,
        };
        let ready = || {
            let mut asked = Command::new(programs.join("pg_isready"));
            asked.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            run(&mut asked)
        };
        while ready().is_err() {
            sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }
}

/// Returns where the newest version has its programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(Path::new(VERSIONS)).ok()?.flatten();
    let programs = versions.map(|version| version.path().join("bin"));
    programs
        .filter(|programs| programs.join("initdb").exists())
        .max()
}

fn run(command: &mut Command) -> io::Result<()> {
    if command.status()?.success() {
        Ok(())
    } else {
        Err(io::Error::other("it fails"))
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // An immediate stop, which its other processes follow.
        drop(run(
            Command::new("kill").args(["-QUIT", &self.process.id().to_string()])
        ));
        drop(self.process.wait());
    }
}
