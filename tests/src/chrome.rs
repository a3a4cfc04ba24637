//! Chromium without a window, driven through chromedriver.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::json;
use tempfile::TempDir;
use thirtyfour::common::capabilities::chrome::ChromeCapabilities;
use thirtyfour::prelude::*;

use crate::tools::{require, wait_for};

/// The size of the window, and so the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// 1280 pixels wide, with scripts switched off: a page is to work without.
    Desktop,
    /// 390 pixels wide, with a finger for a mouse.
    Phone,
}

/// A browser with a profile of its own, which is gone when it drops.
#[derive(Debug)]
pub struct Chrome {
    /// The page, and what one can do with it.
    pub web: WebDriver,
    screen: Screen,
    _driver: Driver,
    _profile: TempDir,
}

impl Chrome {
    /// Starts a browser. `None` if this machine has none; see [`require`].
    ///
    /// # Panics
    ///
    /// If it is there and does not start.
    pub async fn open(screen: Screen) -> Option<Self> {
        let chromedriver = require("chromedriver")?;
        let chromium = require("chromium")?;
        let mut said = Vec::new();
        for _ in 0..STARTS {
            match Self::start(&chromedriver, &chromium, screen).await {
                Ok(chrome) => return Some(chrome),
                Err(lines) => said.extend(lines),
            }
        }
        panic!("Chromium does not start: {said:#?}");
    }

    /// Starts one, or returns what was said until that failed.
    async fn start(
        chromedriver: &Path,
        chromium: &Path,
        screen: Screen,
    ) -> Result<Self, Vec<String>> {
        let profile = TempDir::new().expect("a scratch folder");
        let driver = Driver::start(chromedriver)?;
        let capabilities = capabilities(chromium, profile.path(), screen).expect("JSON");
        let server = format!("http://127.0.0.1:{}", driver.port);
        let web = WebDriver::new(server, capabilities).await;
        let web = web.map_err(|error| vec![error.to_string()])?;
        Ok(Self {
            web,
            screen,
            _driver: driver,
            _profile: profile,
        })
    }

    /// Looks at a page: it must fit the screen. Saves a picture of it where `SCREENSHOTS` names a folder.
    ///
    /// # Panics
    ///
    /// If it can only be read by scrolling sideways.
    pub async fn look(&self, name: &str) {
        let root = self.web.find(By::Css("html")).await.expect("a page");
        let (scroll, client) = (
            number(&root, "scrollWidth").await,
            number(&root, "clientWidth").await,
        );
        assert!(
            scroll <= client,
            "{name} is {scroll} pixels wide on a screen of {client}"
        );
        if let Some(folder) = env::var_os("SCREENSHOTS") {
            let screen = format!("{:?}", self.screen).to_lowercase();
            let path = Path::new(&folder).join(format!("{name}-{screen}.png"));
            let height = number(&root, "scrollHeight").await + 150;
            self.resize(height).await;
            let saved = self.web.screenshot(&path).await;
            saved.expect("the picture can be saved");
            self.resize(HEIGHT).await;
        }
    }

    /// The window's height. A phone's is what it is.
    async fn resize(&self, height: u32) {
        let resized = self.web.set_window_rect(0, 0, 1280, height).await;
        resized.expect("a window has a size");
    }

    /// The text of an element; `None` if the page has none.
    pub async fn text(&self, css: &str) -> Option<String> {
        self.web.find(By::Css(css)).await.ok()?.text().await.ok()
    }

    /// Returns what is in a field; `None` if the page has no such field.
    pub async fn value(&self, css: &str) -> Option<String> {
        let field = self.web.find(By::Css(css)).await.ok()?;
        field.prop("value").await.ok()?
    }

    /// Clicks on an element that leads nowhere, such as one that folds.
    ///
    /// # Panics
    ///
    /// If there is no such element.
    pub async fn press(&self, css: &str) {
        let element = self.web.find(By::Css(css)).await;
        let element = element.unwrap_or_else(|_| panic!("no `{css}`"));
        let pressed = element.click().await;
        pressed.unwrap_or_else(|error| panic!("`{css}`: {error}"));
    }

    /// Clicks on an element, and waits for the page that this leads to.
    ///
    /// # Panics
    ///
    /// If there is no such element, or it leads nowhere.
    pub async fn click(&self, css: &str) {
        let element = self.web.find(By::Css(css)).await;
        let element = element.unwrap_or_else(|_| panic!("no `{css}`"));
        let before = self.web.find(By::Css("html")).await.expect("a page");
        element
            .click()
            .await
            .unwrap_or_else(|error| panic!("`{css}`: {error}"));
        // The click returns when the form is sent, which may be before its answer is there.
        wait_for(&format!("`{css}` leads somewhere"), async || {
            self.has_left(&before).await
        })
        .await;
    }

    /// Returns `true` if another page is there, and all of it.
    async fn has_left(&self, before: &WebElement) -> bool {
        let Ok(html) = self.web.find(By::Css("html")).await else {
            return false;
        };
        let ready = self.web.execute("return document.readyState", []).await;
        let ready = ready.and_then(|state| state.convert::<String>());
        html.element_id() != before.element_id() && ready.is_ok_and(|state| state == "complete")
    }

    /// Writes into a field, over what is in it.
    ///
    /// # Panics
    ///
    /// If there is no such field.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.web.find(By::Css(css)).await;
        let field = field.unwrap_or_else(|_| panic!("no `{css}`"));
        if field.tag_name().await.is_ok_and(|tag| tag == "input") {
            field.clear().await.expect("a field can be emptied");
        }
        field.send_keys(text).await.expect("a field can be filled");
    }

    /// Ends the browser in good order. One that does not answer is killed.
    pub async fn quit(self) {
        drop(self.web.clone().quit().await);
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        // A test has failed. The browser is killed with its driver, so neither need be asked to end: that can take
        // two minutes here.
        drop(self.web.clone().leak());
    }
}

async fn number(element: &WebElement, property: &str) -> u32 {
    let value = element.prop(property).await.expect("a page");
    value
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

fn capabilities(
    chromium: &Path,
    profile: &Path,
    screen: Screen,
) -> WebDriverResult<ChromeCapabilities> {
    let mut capabilities = DesiredCapabilities::chrome();
    capabilities.set_binary(&chromium.to_string_lossy())?;
    for flag in [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        // Clicks would miss what is still scrolling.
        "--force-prefers-reduced-motion",
        "--window-size=1280,1000",
    ] {
        capabilities.add_arg(flag)?;
    }
    capabilities.add_arg(&format!("--user-data-dir={}", profile.display()))?;
    match screen {
        Screen::Desktop => {
            let no_scripts = json!({ "profile.managed_default_content_settings.javascript": 2 });
            capabilities.add_experimental_option("prefs", no_scripts)?;
        }
        // Not without scripts: chromedriver's taps hang then.
        Screen::Phone => {
            let seen_whole = env::var_os("SCREENSHOTS").is_some();
            let height = if seen_whole { 2400 } else { 844 };
            let size = json!({ "width": 390, "height": height, "pixelRatio": 1.0 });
            let phone = json!({ "deviceMetrics": size });
            capabilities.add_experimental_option("mobileEmulation", phone)?;
        }
    }
    Ok(capabilities)
}

/// The window's, in pixels.
const HEIGHT: u32 = 1000;

/// How often a browser is started until it stays.
const STARTS: usize = 5;

/// A running chromedriver.
#[derive(Debug)]
struct Driver {
    process: Child,
    port: u16,
}

impl Driver {
    /// Starts one, or returns what it has said until it ended: it takes a port that is free for one version of IP, and ends where that is taken for
    /// the other.
    fn start(chromedriver: &Path) -> Result<Self, Vec<String>> {
        let mut process = Command::new(chromedriver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // The browser's too, which would outlive it.
            .process_group(0)
            .spawn()
            .expect("chromedriver starts");
        let stdout = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let port = line.split_once("started successfully on port ");
            if let Some(port) = port.and_then(|(_, port)| port.trim_end_matches('.').parse().ok()) {
                thread::spawn(move || lines.for_each(drop));
                return Ok(Self { process, port });
            }
            said.push(line);
        }
        drop(process.wait());
        Err(said)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let group = format!("kill -KILL -{}", self.process.id());
        drop(Command::new("sh").args(["-c", &group]).status());
        drop(self.process.wait());
    }
}
