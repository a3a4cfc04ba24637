//! Histories of two instances in processes of their own: their connections to the store are cut and slowed down, and the processes
//! and the store's server are killed and started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use session_runtime::store::{MysqlStore, PostgresStore};
use session_tests::{
    Cut, Instance, MysqlServer, PATIENCE, PostgresServer, Proxy, RedisServer, Wire,
};
use tokio::time::sleep;

use super::run::{Addresses, Dice, Round};
use super::{check, seeds};

/// How long an instance waits for its store.
const DEADLINE: Duration = Duration::from_secs(5);

/// Kills the server, and starts it again.
type Restart = Box<dyn Fn()>;

fn start(url: &str, name: &str) -> Instance {
    Instance::start(env!("CARGO_BIN_EXE_instance"), url, name, DEADLINE)
}

/// The instances, and what lies between them and their store.
struct Site {
    /// How an instance is started that goes by the proxy, if there is one.
    url: String,
    name: String,
    /// The proxy before a server, and how that is restarted. A file has neither.
    proxy: Option<(Proxy, Restart)>,
    instances: Vec<Instance>,
    addresses: Addresses,
}

impl Site {
    fn open(url: String, name: &str, proxy: Option<(Proxy, Restart)>) -> Self {
        let instances: Vec<_> = (0..2).map(|_| start(&url, name)).collect();
        let addresses = instances
            .iter()
            .map(|instance| instance.address().to_owned())
            .collect();
        Self {
            url,
            name: name.to_owned(),
            proxy,
            instances,
            addresses: Arc::new(Mutex::new(addresses)),
        }
    }

    /// Kills an instance amid whatever it does, and starts another in its place.
    fn kill(&mut self, which: usize) {
        self.heal(); // an instance that starts wants to find its server
        drop(self.instances.remove(which));
        self.instances.insert(which, start(&self.url, &self.name));
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.instances[which]
            .address()
            .clone_into(&mut addresses[which]);
    }

    fn heal(&self) {
        if let Some((proxy, _)) = &self.proxy {
            proxy.set(Wire::Open);
        }
    }

    /// Does something to the site every few milliseconds; kills the server once.
    async fn disturb(&mut self, mut dice: Dice) {
        let each_way = Duration::from_millis(2);
        let mut kill_in = Some(dice.below(20));
        loop {
            sleep(Duration::from_millis(5 + dice.below(40) as u64)).await;
            if kill_in == Some(0)
                && let Some((_, restart)) = &self.proxy
            {
                restart();
            }
            kill_in = kill_in.and_then(|left| left.checked_sub(1));
            match (self.proxy.as_ref().map(|(proxy, _)| proxy), dice.below(24)) {
                (_, 0) => self.kill(dice.below(2)),
                (Some(proxy), 1) => proxy.set(Wire::Delayed {
                    up: each_way,
                    down: each_way,
                }),
                (Some(proxy), 2) => proxy.set(Wire::Reset),
                (Some(proxy), 3..=8) => proxy.cut(Cut::FromServer(dice.below(600)), Wire::Open),
                (Some(proxy), 9..=14) => proxy.cut(Cut::FromClient(dice.below(600)), Wire::Open),
                (Some(proxy), _) if proxy.wire() != Wire::Open => proxy.set(Wire::Open),
                _ => {}
            }
        }
    }

    async fn explore(mut self, store: &str) {
        let client = Client::new();
        let (mut rounds, mut requests, mut answered) = (0, 0, 0);
        for seed in seeds() {
            let round = Round::new(&self.addresses, &client, seed);
            tokio::select! {
                () = round.run() => {}
                () = self.disturb(Dice::new(seed)) => {}
            }
            self.heal();
            let (events, deleted) = (round.end().await, round.delete().await);
            check::fits(store, seed, &events, &deleted);
            (rounds, requests) = (rounds + 1, requests + events.len());
            answered += events.iter().filter(|event| event.told.is_some()).count();
        }
        eprintln!("{store}: {rounds} rounds, {requests} requests, {answered} answered");
    }
}

fn proxy(port: u16) -> Proxy {
    Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_over_a_file_of_two_processes_fits_together() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let url = format!("sqlite:{}", folder.path().join("db").display());
    Site::open(url, "", None).explore("in a file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_over_redis_of_two_processes_fits_together() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(server) = RedisServer::start(&options) else {
        return;
    };
    let proxy = proxy(server.port());
    let url = format!("redis://127.0.0.1:{}", proxy.address().port());
    let restart: Restart = Box::new(move || {
        server.kill();
        server.restart();
    });
    let site = Site::open(url, "histories:", Some((proxy, restart)));
    site.explore("on Redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_over_postgres_of_two_processes_fits_together() {
    let Some(server) = PostgresServer::start_with("") else {
        return;
    };
    let options = PostgresStore::options().schema("histories").wait(PATIENCE);
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let proxy = proxy(server.port());
    let url = server.url_at(proxy.address().port());
    let restart: Restart = Box::new(move || {
        server.kill();
        server.restart();
    });
    let site = Site::open(url, "histories", Some((proxy, restart)));
    site.explore("on PostgreSQL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_over_mysql_of_two_processes_fits_together() {
    let Some(server) = MysqlServer::start_with(&[]) else {
        return;
    };
    let options = MysqlStore::options().database("histories").wait(PATIENCE);
    let store = options.connect(&server.url()).expect("the URL is fine");
    store.migrate().await.expect("the tables can be made");
    let proxy = proxy(server.port());
    let url = server.url_at(proxy.address().port());
    let restart: Restart = Box::new(move || {
        server.kill();
        server.restart();
    });
    let site = Site::open(url, "histories", Some((proxy, restart)));
    site.explore("on MySQL").await;
}
