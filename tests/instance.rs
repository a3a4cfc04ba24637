//! One of several instances of an app over one store, for tests: `instance URL NAME SECONDS` (`sqlite:FILE` is a URL) serves until its input ends
//! or it is told to stop (`SIGTERM`), and waits for the store for so long.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, process, thread};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use session_runtime::store::{MysqlStore, PostgresStore, RedisStore, SqliteStore};
use session_runtime::{Session, SessionLayer};
use session_tests::{PATIENCE, connect_to_redis, histories};
use tokio::net::TcpListener;
use tokio::sync::watch;

macro_rules! tally {
    ($($field:ident)*) => {
        #[derive(Session)]
        struct Tally {
            #[merge(sum)]
            sum: u64,
            // Whoever asks this rule is answered 409.
            $(#[merge(reject)] $field: u32,)*
        }

        /// Sets one of the fields each.
        const SETTERS: &[fn(&mut TallySession)] = &[$(|session| session.$field.set(1)),*];

        /// Counts the fields that are set.
        fn set(session: &TallySession) -> u32 {
            [$(*session.$field.get()),*].iter().sum()
        }
    };
}

tally! {
    f00 f01 f02 f03 f04 f05 f06 f07 f08 f09 f10 f11 f12 f13 f14 f15
    f16 f17 f18 f19 f20 f21 f22 f23 f24 f25 f26 f27 f28 f29 f30 f31
    f32 f33 f34 f35 f36 f37 f38 f39 f40 f41 f42 f43 f44 f45 f46 f47
    f48 f49 f50 f51 f52 f53 f54 f55 f56 f57 f58 f59 f60 f61 f62 f63
}

#[derive(Clone)]
struct App {
    /// How many requests wait with what they have loaded.
    waiting: Arc<AtomicUsize>,
    /// How many have added, and are to be written or have been.
    added: Arc<AtomicUsize>,
    go: watch::Sender<bool>,
    metrics: Snapshotter,
}

async fn add(mut session: Session<Tally>, State(app): State<App>) {
    *session.sum.get_mut() += 1;
    app.added.fetch_add(1, Ordering::SeqCst);
}

async fn added(State(app): State<App>) -> String {
    app.added.load(Ordering::SeqCst).to_string()
}

/// Sets a field once all may.
async fn set_field(mut session: Session<Tally>, Path(n): Path<usize>, State(app): State<App>) {
    session.expires_at();
    app.waiting.fetch_add(1, Ordering::SeqCst);
    let mut go = app.go.subscribe();
    go.wait_for(|go| *go).await.expect("the sender is there");
    SETTERS[n](&mut session);
}

async fn read(session: Session<Tally>) -> String {
    format!("{} {}", session.sum.get(), set(&session))
}

async fn waiting(State(app): State<App>) -> String {
    app.waiting.load(Ordering::SeqCst).to_string()
}

async fn go(State(app): State<App>) {
    app.go.send_replace(true);
}

/// Says how many conflicts there have been since the last time.
async fn conflicts(State(app): State<App>) -> String {
    let counted = app.metrics.snapshot().into_vec();
    let conflicts = counted.iter().find_map(|(key, _, _, value)| match value {
        DebugValue::Counter(count) if key.key().name() == "session_conflict_total" => Some(*count),
        _ => None,
    });
    conflicts.unwrap_or(0).to_string()
}

async fn layer(url: &str, name: &str, deadline: Duration) -> SessionLayer {
    let layer = if url.starts_with("redis:") {
        let options = RedisStore::options().prefix(name).timeout(PATIENCE);
        SessionLayer::new(connect_to_redis(&options, url).await)
    } else if url.starts_with("mysql:") {
        let options = MysqlStore::options().database(name).wait(PATIENCE);
        let store = options.connect(url);
        SessionLayer::new(store.expect("the URL is fine"))
    } else if let Some(file) = url.strip_prefix("sqlite:") {
        let store = SqliteStore::open(file);
        SessionLayer::new(store.expect("it can be opened"))
    } else {
        let options = PostgresStore::options().schema(name).wait(PATIENCE);
        let store = options.connect(url);
        SessionLayer::new(store.expect("the URL is fine"))
    };
    layer.deadline(deadline)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it says where it is")]
async fn main() {
    let argument = |n| env::args().nth(n).expect("instance URL NAME SECONDS");
    let [url, name, seconds] = [1, 2, 3].map(argument);
    let deadline = Duration::from_secs(seconds.parse().expect("a number"));
    thread::spawn(|| {
        // It ends with whoever started this.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    let recorder = DebuggingRecorder::new();
    let app = App {
        waiting: Arc::default(),
        added: Arc::default(),
        go: watch::Sender::new(false),
        metrics: recorder.snapshotter(),
    };
    recorder.install().expect("it is the only one");
    let layer = layer(&url, &name, deadline).await;
    let routes = Router::new()
        .route("/", get(read))
        .route("/add", post(add))
        .route("/set/{n}", post(set_field))
        .layer(layer.clone())
        .route("/waiting", get(waiting))
        .route("/added", get(added))
        .route("/go", post(go))
        .route("/conflicts", get(conflicts))
        .with_state(app)
        .merge(histories::routes(layer.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    println!("{}", listener.local_addr().expect("its address"));
    let served = axum::serve(listener, routes).with_graceful_shutdown(told_to_stop());
    served.await.expect("it serves");
    layer.idle().await;
}

async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut told = signal(SignalKind::terminate()).expect("a handler");
        told.recv().await;
    }
    #[cfg(not(unix))]
    std::future::pending::<()>().await;
}
