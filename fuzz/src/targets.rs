//! What needs nothing but the public API. The tests replay the corpora through this very file.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::handler::Handler;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use session_runtime::store::{MemoryStore, Record};
use session_runtime::{Key, Session, SessionId, SessionLayer};
use tower::ServiceExt;

/// Any bytes are a record, which is written as it was read, or are refused.
pub fn frame(bytes: &[u8]) {
    if let Ok(record) = Record::from_bytes(&Bytes::copy_from_slice(bytes)) {
        let again = Record::from_bytes(&Bytes::from(record.to_bytes()));
        assert_eq!(again.ok().as_ref(), Some(&record));
    }
}

/// Any bytes are an id, or a key, which is written as it was read; or are refused.
pub fn id(bytes: &[u8]) {
    if let Some(id) = SessionId::parse(bytes) {
        assert_eq!(id.expose().as_bytes(), bytes);
    }
    let text = std::str::from_utf8(bytes).ok();
    if let Some((text, key)) = text.and_then(|text| Some((text, Key::parse(text)?))) {
        assert_eq!(key.to_string(), text);
    }
}

#[derive(Session)]
struct Shelf {
    value: Value,
    typed: Typed,
    #[merge(deep)]
    deep: Value,
    #[merge(sum)]
    sum: BTreeMap<String, i8>,
    #[merge(union)]
    union: Vec<u8>,
}

/// One of each kind of value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Typed {
    float: Option<f64>,
    text: Option<String>,
    numbers: BTreeMap<i64, Vec<Option<u128>>>,
    kind: Kind,
    pair: (char, bool),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Kind {
    #[default]
    Unit,
    New(Box<Typed>),
    Tuple(u8, i8),
    Struct {
        unit: (),
    },
}

/// An app in memory, and a client of it.
#[derive(Clone)]
struct Client {
    layer: SessionLayer,
    cookie: String,
}

impl Client {
    fn new() -> Self {
        Self {
            layer: SessionLayer::new(MemoryStore::new()),
            cookie: String::new(),
        }
    }

    /// Sends a request. What it is answered, and the cookie that is set.
    async fn send<T: 'static>(
        &self,
        cookie: HeaderValue,
        handler: impl Handler<T, ()>,
    ) -> (StatusCode, String, Option<String>) {
        let app = Router::new().fallback(handler).layer(self.layer.clone());
        let request = Request::get("/").header(COOKIE, cookie).body(Body::empty());
        let answer = app.oneshot(request.expect("a request")).await;
        let answer = answer.expect("it does not fail");
        let set = answer.headers().get(SET_COOKIE).cloned();
        let set = set.and_then(|set| Some(set.to_str().ok()?.split(';').next()?.to_owned()));
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body");
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        (status, body, set)
    }

    /// Sends a request that succeeds, and keeps the cookie.
    async fn ask<T: 'static>(&mut self, handler: impl Handler<T, ()>) -> String {
        let cookie = HeaderValue::from_str(&self.cookie).expect("a cookie is text");
        let (status, body, set) = self.send(cookie, handler).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        self.cookie = set.unwrap_or_else(|| self.cookie.clone());
        body
    }
}

pub(crate) fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work);
}

/// Whatever stands in the header, the request is answered, no cookie is set, and nothing is opened; but what opens a session does
/// beside anything that is not of its name.
pub fn cookie(bytes: &[u8]) {
    const NAME: &[u8] = b"__Host-id";
    let Ok(header) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    run(async {
        let mut client = Client::new();
        client
            .ask(async |mut session: Session<Shelf>| session.value.set(Value::Bool(true)))
            .await;
        let looks = async |session: Session<Shelf>| session.is_new().to_string();
        let (status, is_new, set) = client.send(header, looks).await;
        assert_eq!((status, &*is_new, set), (StatusCode::OK, "true", None));
        if bytes.windows(NAME.len()).any(|name| name == NAME) {
            return;
        }
        let beside = [bytes, b"; ", client.cookie.as_bytes()].concat();
        let beside = HeaderValue::from_bytes(&beside).expect("as good as before");
        let (status, is_new, set) = client.send(beside, looks).await;
        assert_eq!((status, &*is_new, set), (StatusCode::OK, "false", None));
    });
}

/// Whatever is put into a session is what is read.
pub fn json(bytes: &[u8]) {
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    let typed: Option<Typed> = serde_json::from_slice(bytes).ok();
    if value.is_none() && typed.is_none() {
        return;
    }
    run(async {
        let mut client = Client::new();
        let (value, typed) = (value.unwrap_or_default(), typed.unwrap_or_default());
        let expected = (value.clone(), typed.clone());
        let sets = async move |mut session: Session<Shelf>| {
            session.value.set(value.clone());
            session.typed.set(typed.clone());
            // What is nested too deep to be read back is refused.
            session.save().await.is_ok().to_string()
        };
        if client.ask(sets).await == "true" {
            let reads = async move |session: Session<Shelf>| {
                assert_eq!(*session.value.get(), expected.0);
                assert_eq!(*session.typed.get(), expected.1);
            };
            client.ask(reads).await;
        }
    });
}

/// What a request makes of the fields.
type Sides<T> = [T; 3];

/// Of two requests at once, one that leaves a field as it was changes nothing of it; and those rules that promise one result in any order
/// have one.
pub fn merge(bytes: &[u8]) {
    #[derive(Clone, Deserialize)]
    struct Case {
        #[serde(default)]
        deep: Sides<Value>,
        #[serde(default)]
        sum: Sides<BTreeMap<String, i8>>,
        #[serde(default)]
        union: Sides<Vec<u8>>,
    }
    let Ok(case) = serde_json::from_slice::<Case>(bytes) else {
        return;
    };
    // Two requests at once, each of which makes one of the sides of what is there. What is there then, as JSON.
    let at_once = async |sides: [usize; 2]| {
        let mut client = Client::new();
        let set = |case: &Case, side: usize, session: &mut Session<Shelf>| {
            session.deep.set(case.deep[side].clone());
            session.sum.set(case.sum[side].clone());
            session.union.set(case.union[side].clone());
        };
        let first = case.clone();
        let begins = async move |mut session: Session<Shelf>| {
            session.value.set(Value::Bool(true));
            set(&first, 0, &mut session);
        };
        client.ask(begins).await;
        let (case, other) = (case.clone(), client.clone());
        let outer = async move |mut session: Session<Shelf>| {
            let theirs = case.clone();
            let inner =
                async move |mut session: Session<Shelf>| set(&theirs, sides[1], &mut session);
            other.clone().ask(inner).await;
            set(&case, sides[0], &mut session);
        };
        client.ask(outer).await;
        let reads = async |session: Session<Shelf>| {
            let mut union = session.union.get().clone();
            union.sort_unstable();
            union.dedup();
            let all = (session.deep.get(), session.sum.get(), union);
            serde_json::to_string(&all).expect("it was JSON before")
        };
        client.ask(reads).await
    };
    run(async {
        let alone = [at_once([1, 0]).await, at_once([0, 1]).await];
        assert_eq!(
            alone[0], alone[1],
            "who changes nothing comes first or last"
        );
        let both = [at_once([1, 2]).await, at_once([2, 1]).await];
        let rest = both.map(|both| {
            let all: Value = serde_json::from_str(&both).expect("JSON");
            (all[1].clone(), all[2].clone())
        });
        // Short of clamping.
        let fits = case
            .sum
            .iter()
            .flat_map(BTreeMap::values)
            .all(|number| number.unsigned_abs() < 30);
        assert!(!fits || rest[0].0 == rest[1].0, "{rest:?}");
        assert_eq!(rest[0].1, rest[1].1);
    });
}
