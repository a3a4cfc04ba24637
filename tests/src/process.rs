//! The example shop as a process of its own, and guests who come by real HTTP.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};

use crate::tools::PATIENCE;

/// How often a shop is started that ends at once.
const STARTS: usize = 5;

/// A running shop. It is killed when it drops.
#[derive(Debug)]
pub struct Shop {
    process: Mutex<Child>,
    address: String,
    opened_in: Duration,
}

impl Shop {
    /// Opens the shop over a store, such as `memory` or `sqlite:/tmp/shop.db`, on a free port.
    ///
    /// # Panics
    ///
    /// If it cannot be built, or does not say where it is.
    pub fn open(store: &str) -> Self {
        Self::open_with(store, "127.0.0.1:0", &[])
    }

    /// The same with an address and more options.
    ///
    /// # Panics
    ///
    /// As [`open`](Self::open).
    pub fn open_with(store: &str, address: &str, options: &[&str]) -> Self {
        let mut shop = Command::new(binary());
        let deadline = PATIENCE.as_secs().to_string();
        shop.args(["--store", store, "--address", address])
            .args(["--deadline", &deadline])
            .args(options)
            .stdout(Stdio::piped());
        // A server that is as slow as this machine may not answer it in time.
        let opened = (0..STARTS).find_map(|_| Self::start(&mut shop));
        opened.expect("the shop prints its address (what went wrong stands above)")
    }

    fn start(shop: &mut Command) -> Option<Self> {
        let started = Instant::now();
        let mut process = shop.spawn().expect("the shop starts");
        let stdout = process.stdout.take().expect("it is piped");
        let address = printed_address(stdout);
        let opened = Self {
            process: Mutex::new(process),
            address: address.unwrap_or_default(),
            opened_in: started.elapsed(),
        };
        (!opened.address.is_empty()).then_some(opened)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns how long it took from its start to its address.
    pub fn opened_in(&self) -> Duration {
        self.opened_in
    }

    /// A page's address.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks the shop to close, as a service manager does, and waits until it has.
    ///
    /// # Panics
    ///
    /// If it cannot be asked.
    pub fn close(self) -> ExitStatus {
        let mut process = self.process();
        let kill = format!("kill -TERM {}", process.id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.expect("a shell").success(), "{kill}");
        process.wait().expect("it was started")
    }

    /// `kill -9`, amid whatever it does.
    ///
    /// # Panics
    ///
    /// If it is not there to be killed.
    pub fn kill(&self) {
        self.process().kill().expect("it is there");
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // After `close` and `kill` there is none: no matter.
        let mut process = self.process();
        drop(process.kill());
        drop(process.wait());
    }
}

/// Reads on, so that the shop never waits for its reader, and returns the address once it is printed. `None` if the
/// shop has ended.
fn printed_address(stdout: impl std::io::Read + Send + 'static) -> Option<String> {
    let (found, address) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("http://") {
                drop(found.send(address.to_owned()));
            }
        }
    });
    address.recv_timeout(PATIENCE).ok()
}

/// The shop's binary, built once. `cargo test` has built all it consists of, so this links and little else.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            // All of the workspace, so that features are those of `cargo test`, and no dependency is built twice.
            .args(["build", "--workspace", "--example", "shop"])
            .args([
                "--features",
                "session-examples/mysql,session-examples/postgres,session-examples/redis",
            ])
            .args(["--message-format", "json-render-diagnostics"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .stderr(Stdio::inherit());
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let output = build.output().expect("cargo runs");
        assert!(output.status.success(), "the shop can be built");
        let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
        messages
            .lines()
            .find_map(executable)
            .expect("cargo says where it put the shop")
    })
}

/// The path in cargo's message about the shop.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    (message["target"]["name"] == "shop")
        .then(|| message["executable"].as_str().map(PathBuf::from))
        .flatten()
}

/// What guests call the shop.
const SHOP: &str = "shop.test";

/// A browser that knows no more than one cookie and forms.
#[derive(Debug)]
pub struct Guest {
    client: Client,
    cookie: Mutex<Option<String>>,
}

/// What a guest gets to see.
#[derive(Debug)]
pub struct Page {
    /// The status.
    pub status: StatusCode,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The HTML.
    pub body: String,
}

fn client() -> ClientBuilder {
    Client::builder().redirect(Policy::none()).timeout(PATIENCE)
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}

impl Guest {
    /// A guest without a cookie.
    ///
    /// # Panics
    ///
    /// Never in practice: the client has no settings that could be wrong.
    pub fn new() -> Self {
        Self {
            client: client().build().expect("the settings are fine"),
            cookie: Mutex::default(),
        }
    }

    /// The same under another `User-Agent` than none.
    ///
    /// # Panics
    ///
    /// If that is no header.
    #[must_use]
    pub fn calling_itself(mut self, agent: &str) -> Self {
        self.client = client().user_agent(agent).build().expect("a header");
        self
    }

    /// `name=value`, as the shop has set it.
    ///
    /// # Panics
    ///
    /// If another thread panicked while it looked.
    pub fn cookie(&self) -> Option<String> {
        self.cookie.lock().expect("no one panics here").clone()
    }

    /// Presents this cookie from now on.
    ///
    /// # Panics
    ///
    /// As [`cookie`](Self::cookie).
    pub fn present(&self, cookie: Option<String>) {
        *self.cookie.lock().expect("no one panics here") = cookie;
    }

    /// Looks at a page.
    ///
    /// # Errors
    ///
    /// If there is no answer, or not all of it.
    pub async fn get(&self, shop: &Shop, path: &str) -> reqwest::Result<Page> {
        self.send(self.client.get(shop.url(path))).await
    }

    /// Sends a form.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn post(&self, shop: &Shop, path: &str, form: &str) -> reqwest::Result<Page> {
        self.send(self.form(shop, path, form)).await
    }

    /// The same with more headers.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn post_with(
        &self,
        shop: &Shop,
        path: &str,
        form: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Page> {
        let mut request = self.form(shop, path, form);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    fn form(&self, shop: &Shop, path: &str, form: &str) -> RequestBuilder {
        let request = self.client.post(shop.url(path)).body(form.to_owned());
        request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")
    }

    /// Whatever port a shop has, it is known by one name: over plain http the port is a part of the cookie's.
    async fn send(&self, mut request: RequestBuilder) -> reqwest::Result<Page> {
        request = request.header(HOST, SHOP);
        if let Some(cookie) = self.cookie() {
            request = request.header(COOKIE, cookie);
        }
        let response = request.send().await?;
        self.keep_cookie(&response);
        let location = response.headers().get(LOCATION);
        Ok(Page {
            status: response.status(),
            headers: response.headers().clone(),
            location: location.and_then(|value| value.to_str().ok().map(str::to_owned)),
            body: response.text().await?,
        })
    }

    fn keep_cookie(&self, response: &Response) {
        let set = response.headers().get(SET_COOKIE);
        let Some(set) = set.and_then(|value| value.to_str().ok()) else {
            return;
        };
        let pair = set.split(';').next().unwrap_or_default();
        let removed = pair.ends_with('=') || set.contains("Max-Age=0");
        self.present((!removed).then(|| pair.to_owned()));
    }
}

impl Page {
    /// The quantity of a product, on the cart's page.
    pub fn quantity(&self, sku: &str) -> u32 {
        let field = format!("id=\"quantity-{sku}\"");
        let value = self.body.split_once(&field).and_then(|(_, after)| {
            let (_, value) = after.split_once("value=\"")?;
            let (value, _) = value.split_once('"')?;
            value.parse().ok()
        });
        value.unwrap_or(0)
    }
}
