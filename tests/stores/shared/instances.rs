//! Instances of one app, in processes of their own, over one store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use reqwest::{Client, Response};
use session_tests::{PATIENCE, Wire, times};
use tokio::task::JoinSet;

use super::on_each_server;
use super::stand::{Server, Stand};

/// Tasks, on both instances together.
const TASKS: usize = 64;

/// How often each adds one, or [`times`] as often.
const EACH: usize = 20;

/// Longer than any test, where what is asked is that nothing is lost.
const FOREVER: Duration = Duration::from_secs(60 * 60);

/// A running instance, and who asks it.
struct Instance {
    running: session_tests::Instance,
    client: Client,
}

impl Instance {
    /// Starts one that finds its server at `port`, and waits for it for so long.
    fn start<S: Server>(stand: &Stand<S>, port: u16, deadline: Duration) -> Self {
        let (program, url) = (env!("CARGO_BIN_EXE_instance"), stand.server.url(port));
        Self {
            running: session_tests::Instance::start(program, &url, &stand.name, deadline),
            client: Client::new(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address())
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Response {
        let response = request.timeout(5 * PATIENCE).send().await;
        let response = response.expect("an answer");
        assert!(response.status().is_success(), "{}", response.status());
        response
    }

    async fn get(&self, path: &str, cookie: &str) -> String {
        let request = self.client.get(self.url(path));
        let response = self.ask(request.header(COOKIE, cookie)).await;
        response.text().await.expect("text")
    }

    /// The cookie that the client has then.
    async fn post(&self, path: &str, cookie: &str) -> String {
        let request = self.client.post(self.url(path));
        let response = self.ask(request.header(COOKIE, cookie)).await;
        let set = response.headers().get(SET_COOKIE);
        let set = set.and_then(|set| set.to_str().ok()?.split(';').next());
        set.unwrap_or(cookie).to_owned()
    }

    async fn number(&self, path: &str) -> usize {
        self.get(path, "").await.parse().expect("a number")
    }
}

/// Two instances, and a session that both know.
async fn two<S: Server>(stand: &Stand<S>) -> ([Arc<Instance>; 2], String) {
    let port = stand.server.port();
    let instances = [(), ()].map(|()| Arc::new(Instance::start(stand, port, FOREVER)));
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

/// How long the instance that is farther away waits for the store. By default it is two seconds; but here it shares the
/// machine with whatever else is tested, and at a load of forty ten were not enough.
const DEADLINE: Duration = PATIENCE;

/// How many swaps it is to come to in a round, and how many rounds there are at least.
const FAR: usize = 25;
const ROUNDS: usize = 4;

/// The most swaps of the two others for one of its own: they are near, and two, and have two tasks each.
const UNFAIR: usize = 100;

async fn an_instance_that_is_farther_away_gets_its_turn<S: Server>(stand: Stand<S>) {
    let (near, cookie) = two(&stand).await;
    let each_way = Duration::from_millis(3);
    stand.proxy.set(Wire::Delayed {
        up: each_way,
        down: each_way,
    });
    let far = Instance::start(&stand, stand.proxy.address().port(), DEADLINE);
    let (over, swaps) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let mut tasks = JoinSet::new();
    // Each has a swap waiting at any moment.
    for instance in near.iter().flat_map(|instance| [instance, instance]) {
        let (instance, cookie) = (Arc::clone(instance), cookie.clone());
        let (over, swaps) = (Arc::clone(&over), Arc::<AtomicUsize>::clone(&swaps));
        tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                instance.post("/add", &cookie).await;
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (mut rounds, mut fewest) = (0, usize::MAX);
    // A machine that is busy may starve one of the processes for a while.
    while rounds < ROUNDS || fewest >= UNFAIR * FAR {
        let before = swaps.load(Ordering::Relaxed);
        for _ in 0..FAR {
            // Whoever is answered 503 fails here.
            far.post("/add", &cookie).await;
        }
        fewest = fewest.min(swaps.load(Ordering::Relaxed) - before);
        rounds += 1;
        assert!(rounds < 5 * ROUNDS, "{fewest} of theirs to {FAR}");
    }
    over.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    let sum = 1 + FAR * rounds + swaps.load(Ordering::Relaxed);
    assert_eq!(far.get("/", &cookie).await, format!("{sum} 0"));
}

async fn fields_that_two_processes_set_at_once_are_all_kept_and_no_rule_is_asked<S: Server>(
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
    // A rule that is asked refuses.
    tasks.join_all().await;
    for instance in &instances {
        assert_eq!(instance.get("/", &cookie).await, format!("1 {TASKS}"));
    }
}

on_each_server! {
    no_increment_of_two_processes_is_lost,
    an_instance_that_is_farther_away_gets_its_turn,
    fields_that_two_processes_set_at_once_are_all_kept_and_no_rule_is_asked,
}
