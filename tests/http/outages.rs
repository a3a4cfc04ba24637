//! An outage of the store, as whoever operates the app sees it: one line at its start, one at its end, and metrics that move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use http::{Request, StatusCode};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use session_runtime::store::{
    AtOnce, MemoryStore, Record, Scanned, Store, StoreError, Swapped, Swept,
};
use session_runtime::{Error, Key, Session, SessionLayer, UserId};
use session_tests::{Browser, Fault, Logs, Site, Visitor, on_each_store};

/// For so long nothing fails before an outage is over.
const STEADY: Duration = Duration::from_secs(5);

#[derive(Session)]
struct Shop {
    visits: u32,
}

async fn visit(mut session: Session<Shop>) {
    *session.visits.get_mut() += 1;
}

/// Takes what was counted since the last look: its name, its labels, and how much or how often.
fn taken(counters: &Snapshotter) -> Vec<(String, u64)> {
    let all = counters.snapshot().into_vec().into_iter();
    let all = all.map(|(key, _, _, value)| {
        let labels: Vec<_> = key
            .key()
            .labels()
            .map(|label| label.value().to_owned())
            .collect();
        let count = match value {
            DebugValue::Counter(count) => count,
            DebugValue::Histogram(times) => times.len() as u64,
            DebugValue::Gauge(_) => 0,
        };
        (format!("{} {}", key.key().name(), labels.join(" ")), count)
    });
    all.filter(|(_, count)| *count > 0).collect()
}

fn count(taken: &[(String, u64)], name: &str) -> u64 {
    taken
        .iter()
        .find(|(found, _)| found == name)
        .map_or(0, |(_, count)| *count)
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_one_line_at_its_start_and_one_at_its_end_and_moves_metrics_at_once() {
    let recorder = DebuggingRecorder::new();
    let counters = recorder.snapshotter();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let logs = Logs::capture();
    let site = Site::in_memory().with(|layer| layer.deadline(Duration::from_secs(2)));
    let mut visitor = site.visitor();
    visitor.visit(visit).await;
    visitor.visit(visit).await;
    let well = taken(&counters);
    assert_eq!(
        count(&well, "session_store_seconds MemoryStore load"),
        1,
        "{well:?}"
    );
    assert_eq!(
        count(&well, "session_store_seconds MemoryStore swap"),
        2,
        "{well:?}"
    );
    assert!(
        well.iter()
            .all(|(name, _)| !name.contains("error") && !name.contains("unavailable"))
    );

    site.store.always(Some(Fault::Before));
    let before = tokio::time::Instant::now();
    assert_eq!(
        visitor.visit(visit).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(before.elapsed() < Duration::from_secs(1));
    let down = taken(&counters);
    let errors = "session_store_errors_total MemoryStore load unavailable";
    assert_eq!(count(&down, errors), 1, "{down:?}");
    assert_eq!(
        count(&down, "session_unavailable_total unavailable"),
        1,
        "{down:?}"
    );
    site.store
        .always(Some(Fault::Slow(Duration::from_secs(60))));
    for _ in 0..4 {
        visitor.visit(visit).await;
    }
    let slow = taken(&counters);
    assert_eq!(
        count(&slow, "session_store_errors_total MemoryStore load timeout"),
        4
    );
    assert_eq!(count(&slow, "session_unavailable_total timeout"), 4);
    let start = "store=\"MemoryStore\" error=the store cannot be reached: planned: before";
    assert_eq!(logs.lines("ERROR", "session"), 1, "{}", logs.text());
    assert_eq!(logs.lines("ERROR", start), 1, "{}", logs.text());

    tokio::time::sleep(Duration::from_secs(4)).await;
    site.store.heal();
    for _ in 0..3 {
        visitor.visit(visit).await;
    }
    assert_eq!(logs.lines("WARN", "reachable again"), 0, "for now");
    tokio::time::sleep(STEADY).await;
    for _ in 0..3 {
        visitor.visit(visit).await;
    }
    let end = "is reachable again after 12s store=\"MemoryStore\" failed=5";
    assert_eq!(logs.lines("WARN", "reachable again"), 1, "{}", logs.text());
    assert_eq!(logs.lines("WARN", end), 1, "{}", logs.text());
    // The next one is told of, too.
    site.store.plan([Fault::Before]);
    visitor.visit(visit).await;
    assert_eq!(logs.lines("ERROR", "session"), 2);
}

/// Answers at once, or not at all.
struct Moody {
    inner: MemoryStore,
    is_away: AtomicBool,
}

impl Moody {
    fn is_there(&self) -> Result<(), StoreError> {
        let is_away = self.is_away.load(Ordering::SeqCst);
        (!is_away)
            .then_some(())
            .ok_or_else(|| StoreError::unavailable("planned"))
    }
}

impl AtOnce for Moody {
    fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.is_there()?;
        Store::at_once(&self.inner).expect("it does").load(key)
    }

    fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        self.is_there()?;
        let inner = Store::at_once(&self.inner).expect("it does");
        inner.swap(key, before, after)
    }
}

impl Store for Moody {
    fn name(&self) -> String {
        "Moody".to_owned()
    }

    fn at_once(&self) -> Option<&dyn AtOnce> {
        Some(self)
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        AtOnce::load(self, key)
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        AtOnce::swap(self, key, before, after)
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<Scanned, StoreError> {
        self.is_there()?;
        self.inner.scan(after, limit).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.inner.sweep(limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_a_store_that_answers_at_once_is_told_of_in_the_same_way() {
    let recorder = DebuggingRecorder::new();
    let counters = recorder.snapshotter();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let logs = Logs::capture();
    let store = Arc::new(Moody {
        inner: MemoryStore::new(),
        is_away: AtomicBool::new(false),
    });
    let layer = SessionLayer::new(Arc::clone(&store)).sweep_every(None);
    let sessions = layer.sessions();
    let mut visitor = Visitor::of(layer);
    visitor.visit(visit).await;
    visitor.visit(visit).await;
    assert_eq!(
        taken(&counters),
        [],
        "nothing is measured while all is well"
    );

    store.is_away.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let reply = visitor.visit(visit).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    let mut newcomer = Visitor::of(SessionLayer::new(Arc::clone(&store)).sweep_every(None));
    newcomer.visit(visit).await;
    assert!(sessions.count().await.is_err());
    let down = taken(&counters);
    for (name, expected) in [
        ("session_store_errors_total Moody load unavailable", 3),
        ("session_store_errors_total Moody swap unavailable", 1),
        ("session_store_errors_total Moody scan unavailable", 1),
        ("session_unavailable_total unavailable", 4),
    ] {
        assert_eq!(count(&down, name), expected, "{down:?}");
    }
    // One for each layer that sees it.
    assert_eq!(logs.lines("ERROR", "not reachable"), 2, "{}", logs.text());

    tokio::time::sleep(Duration::from_secs(12)).await;
    store.is_away.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(visitor.visit(visit).await.status, StatusCode::OK);
        tokio::time::sleep(STEADY).await;
    }
    let end = "is reachable again after 12s store=\"Moody\" failed=4";
    assert_eq!(logs.lines("WARN", "reachable again"), 1, "{}", logs.text());
    assert_eq!(logs.lines("WARN", end), 1, "{}", logs.text());
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_come_back_later_counts_once() {
    let recorder = DebuggingRecorder::new();
    let counters = recorder.snapshotter();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor.visit(visit).await;
    site.store.at_swaps(Some(Fault::Before));
    // The handler has told so, and then what it has changed cannot be written either.
    let saves = async |mut session: Session<Shop>| {
        *session.visits.get_mut() += 1;
        session.save().await.map(drop)
    };
    let told = "session_unavailable_total unavailable";
    for (handler, expected) in [(get(visit), 1), (get(saves), 1)] {
        let reply = visitor.visit(handler).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        let counted = taken(&counters);
        assert_eq!(count(&counted, told), expected, "{counted:?}");
    }
    // An answer of the app's own is none.
    let hides = async |mut session: Session<Shop>| {
        *session.visits.get_mut() += 1;
        (StatusCode::SERVICE_UNAVAILABLE, "closed")
    };
    visitor.visit(hides).await;
    assert_eq!(count(&taken(&counters), told), 1);
}

/// Of three nodes of a Cluster one is away, say: every third call fails, and all others are answered.
#[tokio::test(start_paused = true)]
async fn a_store_that_answers_now_and_then_is_one_outage() {
    let logs = Logs::capture();
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor.visit(visit).await;
    for _ in 0..100 {
        site.store.plan([Fault::Before]);
        for _ in 0..3 {
            visitor.visit(visit).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(logs.lines("ERROR", "session"), 1, "{}", logs.text());
    assert_eq!(logs.lines("WARN", "reachable again"), 0, "{}", logs.text());
    tokio::time::sleep(STEADY).await;
    visitor.visit(visit).await;
    let end = "is reachable again after 29.8s store=\"MemoryStore\" failed=100";
    assert_eq!(logs.lines("WARN", end), 1, "{}", logs.text());
}

/// Its engine deletes what has expired by itself, so that sweeping it asks nobody.
#[tokio::test(start_paused = true)]
async fn sweeping_that_asks_nobody_does_not_end_an_outage() {
    let logs = Logs::capture();
    let store = Arc::new(Moody {
        inner: MemoryStore::new(),
        is_away: AtomicBool::new(true),
    });
    let mut visitor = Visitor::of(SessionLayer::new(Arc::clone(&store)));
    visitor.visit(visit).await;
    tokio::time::sleep(Duration::from_secs(10 * 60)).await;
    assert_eq!(logs.lines("WARN", "reachable again"), 0, "{}", logs.text());
    visitor.visit(visit).await;
    assert_eq!(logs.lines("ERROR", "not reachable"), 1, "{}", logs.text());
    store.is_away.store(false, Ordering::SeqCst);
    visitor.visit(visit).await;
    tokio::time::sleep(STEADY).await;
    visitor.visit(visit).await;
    assert_eq!(logs.lines("WARN", "reachable again"), 1, "{}", logs.text());
}

#[tokio::test]
async fn what_is_no_outage_is_told_each_time() {
    let logs = Logs::capture();
    let site = Site::in_memory();
    site.store.at_swaps(Some(Fault::Full));
    for _ in 0..3 {
        assert_eq!(
            site.visitor().visit(visit).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    assert_eq!(logs.lines("ERROR", "the session store is full"), 3);
    assert_eq!(logs.lines("ERROR", "not reachable"), 0);
}

/// A name that one store could keep and another could not would be found out by a move.
async fn a_users_name_that_is_too_long_is_a_clear_error(site: Site) {
    let name = |size: usize| "ä".repeat(size / 2);
    let mut visitor = site.visitor();
    let longest = name(1024);
    let user = longest.clone();
    let login = async move |mut session: Session<Shop>| session.login(user).await;
    assert_eq!(visitor.visit(login).await.status, StatusCode::OK);
    let sessions = site.layer.sessions();
    let listed = sessions.list(longest).await;
    assert_eq!(listed.expect("an answer").len(), 1);

    let login = async |mut session: Session<Shop>| session.login("x".repeat(1025)).await;
    let reply = visitor.visit(login).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    let told = reply.error.expect("the response carries it");
    assert!(told.is_too_large() && !told.is_unavailable());
    let sentence = "the user's name takes 1025 bytes, and 1024 is the limit";
    assert!(told.to_string().starts_with(sentence), "{told}");
    let user = UserId::new("x".repeat(1025));
    let refused = sessions
        .revoke_all(&user)
        .await
        .expect_err("it is too long");
    assert!(refused.is_too_large());
    let refused = sessions.list(&user).await.expect_err("it is too long");
    assert!(refused.is_too_large());
}

#[tokio::test]
async fn middleware_outside_of_the_layer_is_told_so() {
    let looks = async |request: Request<Body>, next: Next| {
        let (mut parts, body) = request.into_parts();
        let session = Session::<Shop>::from_request_parts(&mut parts, &()).await?;
        drop(session);
        Ok::<_, Error>(next.run(Request::from_parts(parts, body)).await)
    };
    let layer = Site::in_memory().layer;
    let routes = || Router::new().route("/", get(visit));
    let outside = routes().layer(layer.clone()).layer(from_fn(looks));
    let reply = Browser::new(outside).get("/").await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    let error = reply.error.expect("the response carries it");
    assert!(error.is_missing_layer());
    let told = error.to_string();
    assert!(
        told.contains("after the middleware that use sessions"),
        "{told}"
    );
    assert!(told.contains("what is added last runs first"), "{told}");
    let inside = routes().layer(from_fn(looks)).layer(layer);
    assert_eq!(Browser::new(inside).get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_store_is_called_by_where_it_is() {
    let name = Site::in_a_file().store.name();
    assert!(name.starts_with("SQLite in /"), "{name}");
    if let Some(site) = Site::on_redis().await {
        let name = site.store.name();
        assert!(name.starts_with("Redis at 127.0.0.1:"), "{name}");
    }
    if let Some(site) = Site::on_postgres().await {
        let name = site.store.name();
        assert!(
            name.starts_with("PostgreSQL at ") && !name.contains("postgres@"),
            "{name}"
        );
        assert!(!name.contains(session_tests::POSTGRES_PASSWORD), "{name}");
    }
}

on_each_store! {
    a_users_name_that_is_too_long_is_a_clear_error,
}
