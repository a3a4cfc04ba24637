//! Our stores for code of the tower-sessions family: its trait, its layer, and `axum-login`.

#![cfg(all(
    feature = "tower-sessions",
    feature = "testing",
    feature = "memory",
    feature = "sqlite"
))]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::IntoResponse;
use axum::routing::get;
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend};
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, StatusCode};
use session_runtime::store::{
    ForTowerSessions, MemoryStore, SqliteStore, Store, StoreError, Swept,
};
use session_runtime::testing::TestClock;
use session_runtime::{Change, Clock, Committed, Key, Record, Session, SessionLayer, UserId};
use tokio::time::Instant;
use tower::ServiceExt;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A store in memory whose commits go wrong as told, and which says how many slots were written.
#[derive(Debug)]
struct Troubled {
    inner: MemoryStore,
    /// So many answers are lost.
    lost: AtomicUsize,
    written: AtomicUsize,
    hangs: bool,
}

impl Troubled {
    fn new() -> Self {
        Self {
            inner: MemoryStore::new(),
            lost: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            hangs: false,
        }
    }
}

impl Store for Troubled {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.inner.load(key).await
    }

    async fn commit(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        let committed = self.inner.commit(key, change).await?;
        self.written.fetch_add(change.slots.len(), Ordering::SeqCst);
        let less = |lost: usize| lost.checked_sub(1);
        match self
            .lost
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        {
            Ok(_) => Err(StoreError::unavailable("the answer is lost")),
            Err(_) => Ok(committed),
        }
    }

    async fn owned_by(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        self.inner.owned_by(owner).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.inner.sweep(limit).await
    }
}

/// What their trait promises, in either version.
macro_rules! version {
    ($version:ident, $theirs:ident) => {
        mod $version {
            use super::*;
            use $theirs::cookie::time::OffsetDateTime;
            use $theirs::session::{Id, Record};
            use $theirs::session_store::{Error, ExpiredDeletion, SessionStore};
            use serde_json::{Value, json};

            fn record<const N: usize>(data: [(&str, Value); N]) -> Record {
                Record {
                    id: Id::default(),
                    data: data.map(|(name, value)| (name.to_owned(), value)).into(),
                    // To the millisecond, as it comes back.
                    expiry_date: OffsetDateTime::from_unix_timestamp(4_000_000_000).expect("a date"),
                }
            }

            #[tokio::test]
            async fn what_is_created_loads_as_it_was() {
                let store = ForTowerSessions::new(MemoryStore::new());
                let odd = "@created \u{0} {} ünusual";
                let value = json!({"b": [1, 2.5, null], "a": "ü\u{0}"});
                let mut record = record([("n", json!(1)), (odd, value), ("", json!(""))]);
                store.create(&mut record).await.expect("an answer");
                assert_eq!(store.load(&record.id).await.expect("an answer"), Some(record));
                assert_eq!(store.load(&Id::default()).await.expect("an answer"), None);
            }

            #[tokio::test]
            async fn a_create_whose_id_is_taken_is_given_another() {
                let store = ForTowerSessions::new(MemoryStore::new());
                let mut first = record([("n", json!(1))]);
                store.create(&mut first).await.expect("an answer");
                let mut second = Record { id: first.id, ..record([("n", json!(2))]) };
                store.create(&mut second).await.expect("an answer");
                assert_ne!(second.id, first.id);
                assert_eq!(store.load(&first.id).await.expect("an answer"), Some(first));
                assert_eq!(store.load(&second.id).await.expect("an answer"), Some(second));
            }

            #[tokio::test]
            async fn a_save_replaces_all_data_and_sends_what_differs() {
                let inner = Arc::new(Troubled::new());
                let store = ForTowerSessions::new(Arc::clone(&inner));
                let mut saved = record([("a", json!(1)), ("b", json!(1)), ("c", json!(1))]);
                store.create(&mut saved).await.expect("an answer");
                inner.written.store(0, Ordering::SeqCst);
                saved.data.remove("a");
                saved.data.insert("b".to_owned(), json!(2));
                saved.data.insert("d".to_owned(), json!(1));
                store.save(&saved).await.expect("an answer");
                assert_eq!(store.load(&saved.id).await.expect("an answer"), Some(saved));
                assert_eq!(inner.written.load(Ordering::SeqCst), 3);
            }

            #[tokio::test]
            async fn a_save_of_what_never_was_makes_it() {
                let store = ForTowerSessions::new(MemoryStore::new());
                let record = record([("n", json!(1))]);
                store.save(&record).await.expect("an answer");
                assert_eq!(store.load(&record.id).await.expect("an answer"), Some(record));
            }

            #[tokio::test]
            async fn a_late_save_never_revives_a_deleted_session() {
                let store = ForTowerSessions::new(MemoryStore::new());
                let mut record = record([("user", json!("ada"))]);
                store.create(&mut record).await.expect("an answer");
                for _ in 0..2 {
                    store.delete(&record.id).await.expect("an answer");
                    assert_eq!(store.load(&record.id).await.expect("an answer"), None);
                    store.save(&record).await.expect("an answer");
                    assert_eq!(store.load(&record.id).await.expect("an answer"), None);
                }
            }

            #[tokio::test]
            async fn a_session_is_gone_at_its_expiry_and_then_deleted() {
                let clock = TestClock::new();
                let inner = MemoryStore::new().with_clock(clock.clone());
                let store = ForTowerSessions::new(inner.clone()).clock(clock.clone());
                let seconds = clock.now().as_millis() / 1_000 + 3_600;
                let expiry_date = OffsetDateTime::from_unix_timestamp(seconds).expect("a date");
                let mut record = Record { expiry_date, ..record([("n", json!(1))]) };
                store.create(&mut record).await.expect("an answer");
                clock.advance(HOUR - Duration::from_millis(1));
                store.delete_expired().await.expect("an answer");
                assert!(store.load(&record.id).await.expect("an answer").is_some());
                clock.advance(Duration::from_millis(1));
                assert_eq!(store.load(&record.id).await.expect("an answer"), None);
                store.delete_expired().await.expect("an answer");
                assert_eq!(inner.sweep(1).await.expect("an answer").deleted, 0);
            }

            #[tokio::test]
            async fn a_call_whose_answer_was_lost_has_its_effect_once() {
                let inner = Arc::new(Troubled::new());
                let store = ForTowerSessions::new(Arc::clone(&inner));
                let mut record = record([("n", json!(1))]);
                let id = record.id;
                let lose = || inner.lost.store(3, Ordering::SeqCst);
                lose();
                store.create(&mut record).await.expect("an answer");
                assert_eq!(record.id, id, "it did not find its own create in the way");
                lose();
                record.data.insert("n".to_owned(), json!(2));
                store.save(&record).await.expect("an answer");
                assert_eq!(store.load(&id).await.expect("an answer"), Some(record));
                lose();
                store.delete(&id).await.expect("an answer");
                assert_eq!(store.load(&id).await.expect("an answer"), None);
            }

            #[tokio::test(start_paused = true)]
            async fn a_store_that_does_not_answer_is_an_error_at_the_deadline() {
                let hanging = Troubled { hangs: true, ..Troubled::new() };
                let store = ForTowerSessions::new(hanging).deadline(HOUR);
                let begun = Instant::now();
                let error = store.load(&Id::default()).await.expect_err("no answer");
                assert!(matches!(error, Error::Backend(_)), "{error}");
                assert_eq!(begun.elapsed(), HOUR);
            }

            #[tokio::test]
            async fn a_stolen_file_holds_no_id() {
                let folder = tempfile::tempdir().expect("a scratch folder");
                let file = SqliteStore::open(folder.path().join("db")).expect("a file");
                let mut record = record([("canary", json!("seen"))]);
                let store = ForTowerSessions::new(file); // else it tidies up while it is read
                store.create(&mut record).await.expect("an answer");
                let id = record.id;
                let files = fs::read_dir(folder.path()).expect("a folder");
                let bytes: Vec<u8> = files
                    .flat_map(|file| fs::read(file.expect("a file").path()).expect("bytes"))
                    .collect();
                let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
                assert!(holds(b"canary") && holds(b"seen"), "it is looked for in the right place");
                assert!(!holds(id.to_string().as_bytes()));
                assert!(!holds(&id.0.to_le_bytes()) && !holds(&id.0.to_be_bytes()));
                assert!(!holds(format!("{:032x}", id.0).as_bytes()));
                drop(store);
            }

            /// A counter behind their layer.
            #[tokio::test]
            async fn their_layer_serves_sessions_from_our_stores() {
                use $theirs::{Session, SessionManagerLayer};

                async fn count(session: Session) -> String {
                    let count: u32 = session.get("count").await.expect("an answer").unwrap_or(0);
                    session.insert("count", count + 1).await.expect("an answer");
                    count.to_string()
                }
                async fn rotate(session: Session) {
                    session.cycle_id().await.expect("an answer");
                }
                async fn flush(session: Session) {
                    session.flush().await.expect("an answer");
                }

                async fn serve(store: impl Store) {
                    let app = Router::new()
                        .route("/", get(count))
                        .route("/rotate", get(rotate))
                        .route("/flush", get(flush))
                        .layer(SessionManagerLayer::new(ForTowerSessions::new(store)));
                    let mut browser = Browser::new(app);
                    for expected in ["0", "1", "2"] {
                        assert_eq!(browser.get("/").await.1, expected);
                    }
                    let mut before = browser.clone();
                    browser.get("/rotate").await;
                    assert_ne!(browser.cookies, before.cookies);
                    assert_eq!(browser.get("/").await.1, "3");
                    assert_eq!(before.get("/").await.1, "0", "the old id opens nothing");
                    let mut before = browser.clone();
                    browser.get("/flush").await;
                    assert_eq!(before.get("/").await.1, "0");
                    assert_eq!(browser.get("/").await.1, "0");
                }

                serve(MemoryStore::new()).await;
                let folder = tempfile::tempdir().expect("a scratch folder");
                serve(SqliteStore::open(folder.path().join("db")).expect("a file")).await;
            }
        }
    };
}

version!(v0_14, tower_sessions_0_14);
version!(v0_15, tower_sessions);

/// An app, and the cookies it has set.
#[derive(Clone)]
struct Browser {
    app: Router,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new(app: Router) -> Self {
        Self {
            app,
            cookies: BTreeMap::new(),
        }
    }

    async fn get(&mut self, page: &str) -> (StatusCode, String) {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = Request::get(page).header(COOKIE, cookies.join("; "));
        let request = request.body(Body::empty()).expect("a request");
        let response = self.app.clone().oneshot(request).await.expect("an answer");
        for set in response.headers().get_all(SET_COOKIE) {
            let set = set
                .to_str()
                .expect("text")
                .split(';')
                .next()
                .unwrap_or_default();
            let (name, value) = set.split_once('=').expect("a cookie");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let status = response.status();
        let body = to_bytes(response.into_body(), 10_000)
            .await
            .expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }
}

// ---- axum-login

#[derive(Clone, Debug)]
struct User(String);

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.0.clone()
    }

    fn session_auth_hash(&self) -> &[u8] {
        b"hash of a password"
    }
}

/// Knows Ada.
#[derive(Clone, Debug)]
struct Users;

impl AuthnBackend for Users {
    type User = User;
    type Credentials = String;
    type Error = Infallible;

    async fn authenticate(&self, password: String) -> Result<Option<User>, Infallible> {
        Ok((password == "lovelace").then(|| User("ada".to_owned())))
    }

    async fn get_user(&self, id: &String) -> Result<Option<User>, Infallible> {
        Ok(Some(User(id.clone())))
    }
}

async fn sign_in(mut auth: AuthSession<Users>, password: String) -> StatusCode {
    match auth.authenticate(password).await.expect("an answer") {
        Some(user) => {
            auth.login(&user).await.expect("an answer");
            StatusCode::OK
        }
        None => StatusCode::UNAUTHORIZED,
    }
}

fn club(store: impl Store) -> Router {
    let layer = tower_sessions_0_14::SessionManagerLayer::new(ForTowerSessions::new(store));
    let home = async |auth: AuthSession<Users>| auth.user.map_or("guest".to_owned(), |user| user.0);
    let right = async |auth| sign_in(auth, "lovelace".to_owned()).await;
    let wrong = async |auth| sign_in(auth, "byron".to_owned()).await;
    let logout = async |mut auth: AuthSession<Users>| {
        auth.logout().await.expect("an answer");
        StatusCode::OK.into_response()
    };
    Router::new()
        .route("/members", get(async || "members only"))
        .route_layer(axum_login::login_required!(Users))
        .route("/", get(home))
        .route("/wrong", get(wrong))
        .route("/login", get(right))
        .route("/logout", get(logout))
        .layer(AuthManagerLayerBuilder::new(Users, layer).build())
}

async fn axum_login_logs_in_and_out(store: impl Store) {
    let mut browser = Browser::new(club(store));
    assert_eq!(browser.get("/").await.1, "guest");
    assert_eq!(browser.get("/wrong").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(browser.get("/members").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(browser.get("/login").await.0, StatusCode::OK);
    assert_eq!(browser.get("/").await.1, "ada");
    assert_eq!(browser.get("/members").await.1, "members only");
    let mut thief = browser.clone();
    assert_eq!(browser.get("/logout").await.0, StatusCode::OK);
    assert_eq!(browser.get("/").await.1, "guest");
    assert_eq!(
        thief.get("/").await.1,
        "guest",
        "what was logged out opens nothing"
    );
    assert_eq!(thief.get("/members").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn axum_login_runs_over_the_memory_store() {
    axum_login_logs_in_and_out(MemoryStore::new()).await;
}

#[tokio::test]
async fn axum_login_runs_over_the_sqlite_store() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    axum_login_logs_in_and_out(SqliteStore::open(folder.path().join("db")).expect("a file")).await;
}

#[tokio::test]
async fn a_login_outlives_a_restart() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let open = || SqliteStore::open(folder.path().join("db")).expect("a file");
    let mut browser = Browser::new(club(open()));
    browser.get("/login").await;
    browser.app = club(open());
    assert_eq!(browser.get("/").await.1, "ada");
}

// ---- beside our layer

#[derive(Session)]
struct Shop {
    count: u32,
}

#[tokio::test]
async fn neither_layer_on_one_store_opens_the_other_s_sessions() {
    use tower_sessions::SessionManagerLayer;

    let store = MemoryStore::new();
    let ours = async |mut session: Session<Shop>| {
        *session.count.get_mut() += 1;
        (session.count.get() - 1).to_string()
    };
    let theirs = async |session: tower_sessions::Session| {
        let count: u32 = session.get("count").await.expect("an answer").unwrap_or(0);
        session.insert("count", count + 1).await.expect("an answer");
        count.to_string()
    };
    let layer = SessionManagerLayer::new(ForTowerSessions::new(store.clone()));
    let app = Router::new()
        .route("/theirs", get(theirs))
        .layer(layer)
        .route("/ours", get(ours))
        .layer(SessionLayer::new(store));
    let mut browser = Browser::new(app);
    for expected in ["0", "1"] {
        assert_eq!(browser.get("/theirs").await.1, expected);
        assert_eq!(browser.get("/ours").await.1, expected);
    }
    assert_eq!(browser.cookies.len(), 2);
    let id: tower_sessions::session::Id = browser.cookies["id"].parse().expect("an id");
    for presented in [
        format!("{:040x}", id.0),
        format!("{:032x}00000000", id.0),
        browser.cookies["id"].clone(),
    ] {
        let mut forger = browser.clone();
        forger.cookies.insert("__Host-id".to_owned(), presented);
        assert_eq!(forger.get("/ours").await.1, "0");
    }
}
