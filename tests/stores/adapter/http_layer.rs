//! Our layer over a store of theirs, and beside a layer of theirs.

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use session_runtime::store::MemoryStore;
use session_runtime::{Error, ForTowerSessions, Session, SessionId, SessionLayer};
use tokio::task::JoinSet;

use super::Browser;
use super::theirs::{HOUR, Troubled};

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
    theme: String,
}

fn shop(theirs: &Troubled) -> Router {
    let add = async |mut session: Session<Shop>| {
        *session.points.get_mut() += 1;
        session.theme.set("dark".to_owned());
    };
    let login = async |mut session: Session<Shop>| session.login("ada").await;
    let rotate = async |mut session: Session<Shop>| session.rotate().await;
    let logout = async |mut session: Session<Shop>| session.logout().await;
    let show = async |session: Session<Shop>| {
        Ok::<_, Error>(format!("{} {}", session.points.get(), session.theme.get()))
    };
    Router::new()
        .route("/", get(show))
        .route("/add", get(add))
        .route("/login", get(login))
        .route("/rotate", get(rotate))
        .route("/logout", get(logout))
        .layer(SessionLayer::new(theirs.store()).deadline(HOUR))
}

async fn visit(browser: &mut Browser, page: &str) -> String {
    let (status, body) = browser.get(page).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_serves_guests_and_users_from_a_store_of_theirs() {
    let theirs = Troubled::default();
    let mut browser = Browser::new(shop(&theirs));
    visit(&mut browser, "/add").await;
    let mut tabs = vec![browser.clone()];
    let mut requests = JoinSet::new();
    for _ in 0..64 {
        let mut tab = browser.clone();
        requests.spawn(async move { visit(&mut tab, "/add").await });
    }
    requests.join_all().await;
    for page in ["/rotate", "/login", "/add"] {
        visit(&mut browser, page).await;
        tabs.push(browser.clone());
    }
    // Another process, and another device of the same user.
    let other = shop(&theirs);
    browser.app = other.clone();
    assert_eq!(visit(&mut browser, "/").await, "66 dark");
    let mut phone = Browser::new(other);
    visit(&mut phone, "/login").await;
    assert_eq!(visit(&mut phone, "/").await, "66 ");
    visit(&mut browser, "/logout").await;
    assert_eq!(visit(&mut tabs[3], "/").await, "0 ");

    let stored = format!("{:?}", theirs.records());
    for id in tabs.iter().flat_map(|tab| tab.cookies.values()) {
        assert!(SessionId::parse(id.as_bytes()).is_some());
        assert!(!stored.contains(id), "a stolen database holds no id");
    }
}

#[derive(Session)]
struct Counter {
    count: u32,
}

#[tokio::test]
async fn neither_layer_on_one_store_opens_the_other_s_sessions() {
    use tower_sessions::SessionManagerLayer;

    let store = MemoryStore::new();
    let ours = async |mut session: Session<Counter>| {
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
        format!("{:048x}", id.0),
        format!("{:032x}{:016x}", id.0, 0),
        browser.cookies["id"].clone(),
    ] {
        let mut forger = browser.clone();
        forger.cookies.insert("__Host-id".to_owned(), presented);
        assert_eq!(forger.get("/ours").await.1, "0");
    }
}
