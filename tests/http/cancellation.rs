//! Clients that go away, and servers that shut down, over real connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request};
use axum::middleware::{self, Next};
use axum::routing::get;
use session_runtime::Session;
#[cfg(unix)]
use session_tests::Instance;
use session_tests::{Fault, PATIENCE, Site, TempDir, Tries, Visitor, on_each_store, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

#[derive(Session)]
struct Shop {
    orders: u32,
}

/// A server on the loopback, until it is told to shut down.
struct Server {
    address: SocketAddr,
    shut_down: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(app: Router) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (shut_down, told) = oneshot::channel::<()>();
        let told = async {
            let _ = told.await;
        };
        let serving = tokio::spawn(async {
            let served = axum::serve(listener, app)
                .with_graceful_shutdown(told)
                .await;
            served.expect("it serves");
        });
        Self {
            address,
            shut_down,
            serving,
        }
    }

    /// Shuts it down and waits until it has answered what it had begun.
    async fn shut_down(self) {
        let _ = self.shut_down.send(());
        let stopped = timeout(PATIENCE, self.serving).await;
        stopped.expect("it stops").expect("it ends well");
    }
}

/// A client whose request is on its way.
struct Client(TcpStream);

impl Client {
    async fn send(address: SocketAddr, path: &str, visitor: &Visitor) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: shop\r\nCookie: __Host-id={}\r\nConnection: close\r\n\r\n",
            visitor.id()
        );
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        Self(stream)
    }

    /// The status line, if there is an answer.
    async fn status(mut self) -> Option<String> {
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut answer)).await;
        read.expect("it is answered or closed").ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.lines().next().map(str::to_owned)
    }

    /// Goes away, with a reset.
    fn reset(self) {
        self.0.set_zero_linger().expect("it is a socket");
    }

    /// Goes away, with a goodbye.
    fn close(self) {
        drop(self);
    }
}

const OK: &str = "HTTP/1.1 200 OK";

/// Customers with no orders yet.
async fn customers(site: &Site, count: usize) -> Vec<Visitor> {
    let mut customers = Vec::new();
    for _ in 0..count {
        let mut visitor = site.visitor();
        visitor
            .visit(async |mut session: Session<Shop>| session.orders.set(0))
            .await;
        customers.push(visitor);
    }
    site.store.round_trips();
    customers
}

async fn orders(site: &Site, visitor: &Visitor) -> Option<String> {
    site.payload(visitor, "orders").await
}

/// Signals when it is dropped.
struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn a_client_that_leaves_while_the_handler_runs_has_written_nothing(site: Site) {
    let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&begun), Arc::clone(&ended));
    let handler = async move |mut session: Session<Shop>| {
        session.orders.set(1);
        let _ended = OnDrop(signals.1);
        signals.0.notify_one();
        std::future::pending::<()>().await;
    };
    let server = Server::start(
        Router::new()
            .route("/", get(handler))
            .layer(site.layer.clone()),
    )
    .await;
    let customer = customers(&site, 1).await.remove(0);
    for leave in [Client::reset, Client::close] {
        let client = Client::send(server.address, "/", &customer).await;
        begun.notified().await;
        leave(client);
        timeout(PATIENCE, ended.notified())
            .await
            .expect("the handler is dropped");
    }
    server.shut_down().await;
    assert_eq!(site.store.round_trips(), (2, 0));
    assert_eq!(orders(&site, &customer).await.as_deref(), Some("0"));
}

async fn a_client_that_leaves_amid_the_commit_does_not_stop_it(site: Site) {
    let (committing, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signal = Arc::clone(&committing);
    let handler = async move |mut session: Session<Shop>| {
        session.orders.set(1);
        signal.notify_one();
    };
    let notice = Arc::clone(&left);
    let noticing = middleware::from_fn(move |request: Request, next: Next| {
        let left = OnDrop(Arc::clone(&notice));
        async move {
            let response = next.run(request).await;
            drop(left);
            response
        }
    });
    let server = Server::start(
        Router::new()
            .route("/", get(handler))
            .layer(site.layer.clone())
            .layer(noticing),
    )
    .await;
    for leave in [Client::reset, Client::close] {
        let customer = customers(&site, 1).await.remove(0);
        site.store.at_swaps(Some(Fault::Held));
        let client = Client::send(server.address, "/", &customer).await;
        committing.notified().await;
        leave(client);
        let noticed = timeout(PATIENCE, left.notified()).await;
        noticed.expect("the server takes note of it");
        assert_eq!(orders(&site, &customer).await.as_deref(), Some("0"));
        site.store.release();
        wait_for("the commit ends", async || {
            orders(&site, &customer).await.as_deref() == Some("1")
        })
        .await;
        site.store.at_swaps(None);
    }
    server.shut_down().await;
}

/// Random waits, up to this long.
fn moment(longest: u64) -> Duration {
    Duration::from_micros(rand::random_range(0..longest * 1_000))
}

async fn whenever_a_client_leaves_what_finished_is_written_and_nothing_else(site: Site) {
    /// So many at least are to finish, and so many not.
    const ENOUGH: usize = 60;
    let finished = Arc::new(Mutex::new(BTreeSet::new()));
    let note = Arc::clone(&finished);
    let handler = async move |Path(number): Path<usize>, mut session: Session<Shop>| {
        session.orders.set(1);
        sleep(moment(40)).await;
        note.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number);
    };
    let app = Router::new()
        .route("/{number}", get(handler))
        .layer(site.layer.clone());
    let server = Server::start(app).await;
    let address = server.address;
    let (mut customers, mut done, mut longest) = (Vec::new(), 0, 50);
    while done < ENOUGH || customers.len() - done < ENOUGH {
        let before = customers.len();
        let newcomers = self::customers(&site, 10 * ENOUGH).await;
        site.store
            .at_swaps(Some(Fault::Slow(Duration::from_millis(5))));
        let at_once = Arc::new(Semaphore::new(32));
        let mut leaving = JoinSet::new();
        for (number, customer) in newcomers.iter().cloned().enumerate() {
            let at_once = Arc::clone(&at_once);
            leaving.spawn(async move {
                let _permit = at_once.acquire().await;
                let path = format!("/{}", before + number);
                let client = Client::send(address, &path, &customer).await;
                sleep(moment(longest)).await;
                client.reset();
            });
        }
        leaving.join_all().await;
        site.store.at_swaps(None);
        customers.extend(newcomers);
        let now = finished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        // However slow this machine is, some stay long enough, and some do not.
        if now - done < ENOUGH {
            longest *= 2;
        } else {
            longest = 1 + longest / 2;
        }
        done = now;
    }
    server.shut_down().await;
    let finished = finished
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    for number in &finished {
        wait_for("what finished is written", async || {
            orders(&site, &customers[*number]).await.as_deref() == Some("1")
        })
        .await;
    }
    for (number, customer) in customers.iter().enumerate() {
        let expected = if finished.contains(&number) { "1" } else { "0" };
        assert_eq!(
            orders(&site, customer).await.as_deref(),
            Some(expected),
            "{number}"
        );
    }
}

/// An app whose orders take a while, and what counts those that have begun.
fn ordering(site: &Site) -> (Router, Arc<Semaphore>) {
    let begun = Arc::new(Semaphore::new(0));
    let count = Arc::clone(&begun);
    let handler = async move |mut session: Session<Shop>| {
        count.add_permits(1);
        sleep(moment(100)).await;
        session.orders.set(1);
    };
    (
        Router::new()
            .route("/", get(handler))
            .layer(site.layer.clone()),
        begun,
    )
}

/// All customers order at once. Resolves when all their requests are being handled.
async fn order(
    address: SocketAddr,
    customers: &[Visitor],
    begun: &Semaphore,
) -> JoinSet<(usize, Option<String>)> {
    let mut clients = JoinSet::new();
    for (number, customer) in customers.iter().cloned().enumerate() {
        clients.spawn(async move {
            (
                number,
                Client::send(address, "/", &customer).await.status().await,
            )
        });
    }
    let all = u32::try_from(customers.len()).expect("few");
    let begun = timeout(PATIENCE, begun.acquire_many(all)).await;
    drop(begun.expect("all begin"));
    clients
}

async fn a_graceful_shutdown_loses_nothing_that_had_begun(site: Site) {
    let (app, begun) = ordering(&site);
    let server = Server::start(app).await;
    let customers = customers(&site, 200).await;
    site.store
        .at_swaps(Some(Fault::Slow(Duration::from_millis(20))));
    let clients = order(server.address, &customers, &begun).await;
    server.shut_down().await;
    for (number, status) in clients.join_all().await {
        assert_eq!(status.as_deref(), Some(OK), "{number}");
        assert_eq!(
            orders(&site, &customers[number]).await.as_deref(),
            Some("1"),
            "{number}"
        );
    }
}

/// Five hundred clients order and go away while their orders are being written; the server stops with its runtime.
#[test]
fn a_server_that_stops_when_it_is_idle_has_written_what_was_under_way() {
    const ORDERS: usize = 500;
    let (ours, theirs) = [Runtime::new(), Runtime::new()]
        .map(|runtime| runtime.expect("threads"))
        .into();
    let site = Site::in_memory();
    let app = Router::new()
        .route(
            "/",
            get(async |mut session: Session<Shop>| session.orders.set(1)),
        )
        .layer(site.layer.clone());
    ours.block_on(async {
        let customers = customers(&site, ORDERS).await;
        let idle = timeout(PATIENCE, site.layer.idle()).await;
        idle.expect("nothing is under way yet");
        site.store.at_swaps(Some(Fault::Held));
        let server = theirs.spawn(Server::start(app)).await.expect("it starts");
        let mut clients = Vec::new();
        for customer in &customers {
            clients.push(Client::send(server.address, "/", customer).await);
        }
        site.store.until_held(ORDERS).await;
        clients.into_iter().for_each(Client::reset);
        let stopped = theirs.spawn(server.shut_down());
        let mut idle = Box::pin(site.layer.idle());
        let early = timeout(Duration::from_millis(50), &mut idle).await;
        assert!(early.is_err(), "all of it is under way");
        for _ in 1..ORDERS {
            site.store.arrival().await;
        }
        let early = timeout(Duration::from_millis(50), &mut idle).await;
        assert!(early.is_err(), "one of it is under way");
        site.store.release();
        timeout(PATIENCE, idle).await.expect("it becomes idle");
        stopped.await.expect("it stops");
        theirs.shutdown_background();
        for customer in &customers {
            assert_eq!(orders(&site, customer).await.as_deref(), Some("1"));
        }
    });
}

/// Five hundred clients add one and go away while that is being written; the process is told to stop.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_told_to_stop_writes_what_was_under_way() {
    const CLIENTS: usize = 500;
    let folder = TempDir::new().expect("a scratch folder");
    let file = folder.path().join("db");
    let mut process = Process::start(&file);
    let mut cookies = Vec::new();
    for _ in 0..CLIENTS {
        let answer = process.ask("POST", "/add", "").await;
        let (_, cookie) = answer.split_once("set-cookie: ").expect("a session");
        cookies.push(cookie.split(';').next().expect("a cookie").to_owned());
    }
    let other = rusqlite::Connection::open(&file).expect("a file");
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    let mut clients = Vec::new();
    for cookie in &cookies {
        clients.push(process.send("POST", "/add", cookie).await);
    }
    // What a handler has changed is being written once it has returned, by the same poll.
    let all = (2 * CLIENTS).to_string();
    wait_for("all are being written", async || {
        process.ask("GET", "/added", "").await.ends_with(&all)
    })
    .await;
    clients.into_iter().for_each(Client::reset);
    process.0.tell_to_stop();
    wait_for("it takes no more clients", async || {
        TcpStream::connect(process.0.address()).await.is_err()
    })
    .await;
    assert!(process.0.is_running(), "five hundred are under way");
    other.execute_batch("ROLLBACK").expect("no lock");
    wait_for("it stops", async || !process.0.is_running()).await;
    assert!(process.0.has_succeeded());

    let process = Process::start(&file);
    for cookie in &cookies {
        let answer = process.ask("GET", "/", cookie).await;
        assert!(answer.ends_with("\r\n\r\n2 0"), "{answer}");
    }
}

/// An instance in a process of its own, over a file.
#[cfg(unix)]
struct Process(Instance);

#[cfg(unix)]
impl Process {
    fn start(file: &std::path::Path) -> Self {
        let url = format!("sqlite:{}", file.display());
        Self(Instance::start(
            env!("CARGO_BIN_EXE_instance"),
            &url,
            "",
            PATIENCE,
        ))
    }

    async fn send(&self, method: &str, path: &str, cookie: &str) -> Client {
        let mut stream = TcpStream::connect(self.0.address())
            .await
            .expect("it listens");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: shop\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        );
        let written = stream.write_all(request.as_bytes()).await;
        written.expect("it reads");
        Client(stream)
    }

    /// Sends a request, and returns all of the answer.
    async fn ask(&self, method: &str, path: &str, cookie: &str) -> String {
        let Client(mut stream) = self.send(method, path, cookie).await;
        let mut answer = String::new();
        let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        read.expect("an answer").expect("text");
        assert!(answer.starts_with(OK), "{answer}");
        answer
    }
}

/// Counts how many of 200 orders are acknowledged by a server that is torn down when the first is.
fn acknowledged_by_a_server_that_is_torn_down() -> usize {
    let (ours, theirs) = [Runtime::new(), Runtime::new()]
        .map(|runtime| runtime.expect("threads"))
        .into();
    let site = Site::in_memory();
    let (app, begun) = ordering(&site);
    ours.block_on(async {
        let customers = customers(&site, 200).await;
        site.store
            .at_swaps(Some(Fault::Slow(Duration::from_millis(20))));
        let server = theirs.spawn(Server::start(app)).await.expect("it starts");
        let mut clients = order(server.address, &customers, &begun).await;
        let mut ended: Vec<_> = clients.join_next().await.into_iter().collect();
        theirs.shutdown_background();
        while let Some(client) = clients.join_next().await {
            ended.push(client);
        }
        let mut acknowledged = 0;
        for client in ended {
            let (number, status) = client.expect("it is answered, or not");
            if status.as_deref() == Some(OK) {
                acknowledged += 1;
                assert_eq!(
                    orders(&site, &customers[number]).await.as_deref(),
                    Some("1"),
                    "{number}"
                );
            }
        }
        acknowledged
    })
}

#[test]
fn a_server_that_is_torn_down_loses_nothing_it_has_acknowledged() {
    let (tries, mut acknowledged) = (Tries::begin(), Vec::new());
    // On a machine that stands still meanwhile, all may have been answered by then; but not each time.
    while !acknowledged.iter().any(|count| (1..200).contains(count)) {
        tries.go_on(&acknowledged);
        acknowledged.push(acknowledged_by_a_server_that_is_torn_down());
    }
}

on_each_store! {
    a_client_that_leaves_while_the_handler_runs_has_written_nothing,
    a_client_that_leaves_amid_the_commit_does_not_stop_it,
    whenever_a_client_leaves_what_finished_is_written_and_nothing_else,
    a_graceful_shutdown_loses_nothing_that_had_begun,
}
