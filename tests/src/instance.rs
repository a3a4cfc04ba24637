//! One of several instances of an app, as a process of its own: `tests/instance.rs`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running instance. It is killed when this drops, and ends when the test does, however that ends.
#[derive(Debug)]
pub struct Instance {
    process: Child,
    address: String,
}

impl Instance {
    /// Starts the program over the store at `url`, of that name, and waits until it serves. It waits so long for its store.
    ///
    /// # Panics
    ///
    /// If it does not say where it is.
    pub fn start(program: &str, url: &str, name: &str, deadline: Duration) -> Self {
        let seconds = deadline.as_secs().to_string();
        let mut process = Command::new(program)
            .args([url, name, &seconds])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it has been built");
        let mut address = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        let read = BufReader::new(stdout).read_line(&mut address);
        assert!(read.expect("text") > 0, "it says where it is");
        Self {
            process,
            address: address.trim().to_owned(),
        }
    }

    /// Tells it to stop, as a service manager does.
    ///
    /// # Panics
    ///
    /// If there is no shell.
    #[cfg(unix)]
    pub fn tell_to_stop(&self) {
        let kill = format!("kill -TERM {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.expect("a shell").success(), "{kill}");
    }

    /// Returns `true` if it has not ended.
    ///
    /// # Panics
    ///
    /// If the system does not know.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("a child").is_none()
    }

    /// Waits until it has ended, and returns `true` if it had no fault.
    ///
    /// # Panics
    ///
    /// If the system does not know.
    pub fn has_succeeded(&mut self) -> bool {
        self.process.wait().expect("a child").success()
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
