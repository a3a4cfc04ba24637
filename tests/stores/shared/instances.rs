//! Two instances of one app, in processes of their own, over one store.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use http::header::{COOKIE, SET_COOKIE};
use reqwest::{Client, Response};
use session_tests::{PATIENCE, times};
use tokio::task::JoinSet;

use crate::on_each_server;
use crate::stand::{Server, Stand};

/// Tasks, on both instances together.
const TASKS: usize = 64;

/// How often each adds one, or [`times`] as often.
const EACH: usize = 20;

/// A running instance. It ends when this drops, and when the test does, however that ends.
struct Instance {
    process: Child,
    address: String,
    client: Client,
}

impl Instance {
    fn start<S: Server>(stand: &Stand<S>) -> Self {
        let url = stand.server.url(stand.server.port());
        let mut process = Command::new(env!("CARGO_BIN_EXE_instance"))
            .args([&url, &stand.name])
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
            client: Client::new(),
        }
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Response {
        let response = request.timeout(5 * PATIENCE).send().await;
        let response = response.expect("an answer");
        assert!(response.status().is_success(), "{}", response.status());
        response
    }

    async fn get(&self, path: &str, cookie: &str) -> String {
        let request = self.client.get(format!("http://{}{path}", self.address));
        let response = self.ask(request.header(COOKIE, cookie)).await;
        response.text().await.expect("text")
    }

    /// The cookie that the client has then.
    async fn post(&self, path: &str, cookie: &str) -> String {
        let request = self.client.post(format!("http://{}{path}", self.address));
        let response = self.ask(request.header(COOKIE, cookie)).await;
        let set = response.headers().get(SET_COOKIE);
        let set = set.and_then(|set| set.to_str().ok()?.split(';').next());
        set.unwrap_or(cookie).to_owned()
    }

    async fn number(&self, path: &str) -> usize {
        self.get(path, "").await.parse().expect("a number")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        drop(self.process.wait());
    }
}

/// Two instances, and a session that both know.
async fn two<S: Server>(stand: &Stand<S>) -> ([Arc<Instance>; 2], String) {
    let instances = [(), ()].map(|()| Arc::new(Instance::start(stand)));
    let cookie = instances[0].post("/add", "").await;
    assert_eq!(instances[1].get("/", &cookie).await, "1 0");
    (instances, cookie)
}

/// The conflicts there have been, in both.
async fn conflicts(instances: &[Arc<Instance>; 2]) -> usize {
    instances[0].number("/conflicts").await + instances[1].number("/conflicts").await
}

async fn no_increment_of_two_processes_is_lost<S: Server>(stand: Stand<S>) {
    let (instances, cookie) = two(&stand).await;
    let each = EACH * times();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (instance, cookie) = (Arc::clone(&instances[task % 2]), cookie.clone());
        tasks.spawn(async move {
            for _ in 0..each {
                assert_eq!(instance.post("/add", &cookie).await, cookie);
            }
        });
    }
    tasks.join_all().await;
    let sum = format!("{} 0", 1 + TASKS * each);
    for instance in &instances {
        assert_eq!(instance.get("/", &cookie).await, sum);
    }
    assert!(
        conflicts(&instances).await > 0,
        "they were in each other's way"
    );
}

async fn fields_that_two_processes_set_at_once_are_all_kept_without_a_conflict<S: Server>(
    stand: Stand<S>,
) {
    let (instances, cookie) = two(&stand).await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (instance, cookie) = (Arc::clone(&instances[task % 2]), cookie.clone());
        tasks.spawn(async move { instance.post(&format!("/set/{task}"), &cookie).await });
    }
    // All have loaded before the first writes.
    for instance in &instances {
        while instance.number("/waiting").await < TASKS / 2 {}
    }
    for instance in &instances {
        instance.post("/go", "").await;
    }
    tasks.join_all().await;
    for instance in &instances {
        assert_eq!(instance.get("/", &cookie).await, format!("1 {TASKS}"));
    }
    assert_eq!(conflicts(&instances).await, 0);
}

on_each_server! {
    no_increment_of_two_processes_is_lost,
    fields_that_two_processes_set_at_once_are_all_kept_without_a_conflict,
}
