//! The routes over the peers, whose sessions are maps of names to values. The crate in `apart` has them from here, too.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::{FromRequestParts, RawQuery};
use axum::routing::get;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Reads and writes a session of any peer's.
pub(crate) trait Handle: FromRequestParts<()> + Send + Sync + 'static {
    fn get<T: DeserializeOwned + Send>(&self, name: &str)
    -> impl Future<Output = Option<T>> + Send;
    fn set(
        &self,
        name: &str,
        value: impl Serialize + Send + Sync,
    ) -> impl Future<Output = ()> + Send;
    fn take<T: DeserializeOwned + Send>(
        &self,
        name: &str,
    ) -> impl Future<Output = Option<T>> + Send;
    /// Gives the session another id.
    fn renew(&self) -> impl Future<Output = ()> + Send;
}

/// Has a version of tower-sessions serve them.
macro_rules! tower_sessions {
    ($family:ident) => {
        impl Handle for $family::Session {
            async fn get<T: DeserializeOwned + Send>(&self, name: &str) -> Option<T> {
                Self::get(self, name).await.expect("the store answers")
            }

            async fn set(&self, name: &str, value: impl Serialize + Send + Sync) {
                let set = self.insert(name, value).await;
                set.expect("the store answers");
            }

            async fn take<T: DeserializeOwned + Send>(&self, name: &str) -> Option<T> {
                self.remove(name).await.expect("the store answers")
            }

            async fn renew(&self) {
                self.cycle_id().await.expect("the store answers");
            }
        }
    };
}

pub(crate) use tower_sessions;

pub(crate) fn routes<H: Handle>() -> Router<()> {
    let app = Router::new()
        .route("/untouched", get(async || "ok"))
        .route("/read", get(read::<H>))
        .route("/change", get(change::<H>))
        .route("/create", get(change::<H>))
        .route("/fill", get(fill::<H>))
        .route("/large", get(large::<H>))
        .route("/notify", get(notify::<H>))
        .route("/notice", get(notice::<H>))
        .route("/add", get(add::<H>))
        .route("/cart", get(cart::<H>))
        .route("/login", get(login::<H>));
    ["/wide1", "/wide10", "/wide50", "/wide100", "/wide200"]
        .into_iter()
        .fold(app, |app, path| app.route(path, get(wide::<H>)))
}

async fn read<H: Handle>(session: H) -> String {
    let count: Option<u32> = session.get("count").await;
    count.unwrap_or_default().to_string()
}

async fn increment<H: Handle>(session: &H, name: &str) -> u32 {
    let count = session.get::<u32>(name).await.unwrap_or_default() + 1;
    session.set(name, count).await;
    count
}

async fn change<H: Handle>(session: H) -> String {
    increment(&session, "count").await.to_string()
}

/// Returns what the shop's session has in it.
pub(crate) fn values() -> [(&'static str, Value); 18] {
    let some = "some text";
    [
        ("a", json!(1)),
        ("b", json!(2)),
        ("c", json!(3)),
        ("d", json!(4)),
        ("e", json!(some)),
        ("f", json!(some)),
        ("g", json!(some)),
        ("h", json!(some)),
        ("i", json!([1, 2, 3])),
        ("j", json!([4, 5, 6])),
        ("k", json!(1)),
        ("m", json!(some)),
        ("o", json!(5)),
        ("p", json!(6)),
        ("q", json!(true)),
        ("r", json!(false)),
        ("cart", json!({"apple": 1})),
        ("count", json!(7)),
    ]
}

async fn fill<H: Handle>(RawQuery(query): RawQuery, session: H) -> &'static str {
    for (name, value) in values() {
        session.set(name, value).await;
    }
    session.set("large", text(number(query))).await;
    "ok"
}

async fn large<H: Handle>(RawQuery(query): RawQuery, session: H) -> &'static str {
    session.set("large", text(number(query))).await;
    "ok"
}

async fn notify<H: Handle>(session: H) -> &'static str {
    session.set("notice", "Saved.").await;
    "ok"
}

async fn notice<H: Handle>(session: H) -> String {
    session.take("notice").await.unwrap_or_default()
}

async fn add<H: Handle>(session: H) -> &'static str {
    let cart = session.get::<BTreeMap<String, u32>>("cart").await;
    let mut cart = cart.unwrap_or_default();
    *cart.entry("pear".to_owned()).or_default() += 1;
    session.set("cart", cart).await;
    "ok"
}

async fn cart<H: Handle>(session: H) -> String {
    let cart = session.get::<BTreeMap<String, u32>>("cart").await;
    let pears = cart.unwrap_or_default().get("pear").copied();
    pears.unwrap_or_default().to_string()
}

async fn login<H: Handle>(RawQuery(query): RawQuery, session: H) -> &'static str {
    session.renew().await;
    session.set("user", number(query)).await;
    "ok"
}

async fn wide<H: Handle>(RawQuery(query): RawQuery, session: H) -> String {
    static NAMES: LazyLock<Vec<String>> =
        LazyLock::new(|| (0..200).map(|field| format!("f{field}")).collect());
    let mut last = 0;
    for name in &NAMES[..number(query)] {
        last = increment(&session, name).await;
    }
    last.to_string()
}

/// A value of so many bytes, another one each time.
pub(crate) fn text(size: usize) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static TIMES: AtomicU32 = AtomicU32::new(0);
    let mut text = format!("{:08x}", TIMES.fetch_add(1, Ordering::Relaxed));
    text.extend(std::iter::repeat_n('x', size.saturating_sub(text.len())));
    text
}

/// The number that is a request's query.
pub(crate) fn number(query: Option<String>) -> usize {
    query.and_then(|query| query.parse().ok()).unwrap_or(0)
}
