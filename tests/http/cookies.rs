//! What clients present, and what they are sent: forged, tossed, planted, and far too much of it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use session_runtime::store::{MemoryStore, Record, Slot, Store, StoreError, Swapped, Swept};
use session_runtime::transport::{CookieTransport, SameSite};
use session_runtime::{Key, Session, SessionId, SessionLayer};
use session_tests::{Browser, Site, Visitor, on_each_store};

#[derive(Session)]
struct Shop {
    visits: u32,
}

async fn visits(session: Session<Shop>) -> String {
    session.visits.get().to_string()
}

async fn visit(mut session: Session<Shop>) {
    *session.visits.get_mut() += 1;
}

async fn delete(mut session: Session<Shop>) -> Result<(), session_runtime::Error> {
    session.delete("done").await
}

/// Somebody who has been here once.
async fn customer(site: &Site<impl Store>) -> Visitor {
    let mut visitor = site.visitor();
    visitor.visit(visit).await;
    site.store.round_trips();
    visitor
}

/// A request with these `Cookie` headers.
fn presenting<T: AsRef<[u8]>>(headers: &[T]) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    for header in headers {
        let value = HeaderValue::from_bytes(header.as_ref()).expect("it can be sent");
        request.headers_mut().append(COOKIE, value);
    }
    request
}

// ---- what is sent

/// `Set-Cookie` of responses that begin, rotate and end a session, with the id as `…`.
async fn sent(layer: impl FnOnce(SessionLayer) -> SessionLayer) -> [String; 3] {
    let site = Site::in_memory().with(layer);
    let mut visitor = site.visitor();
    let rotate = async |mut session: Session<Shop>| session.rotate().await;
    let replies = [
        visitor.visit(visit).await,
        visitor.visit(rotate).await,
        visitor.visit(delete).await,
    ];
    replies.map(|reply| {
        let cookies = reply.set_cookies();
        assert_eq!(cookies.len(), 1);
        let (name, rest) = cookies[0].split_once('=').expect("a cookie has a value");
        let (id, attributes) = rest.split_once(';').expect("a cookie has attributes");
        format!(
            "{name}={};{attributes}",
            if id.is_empty() { "" } else { "…" }
        )
    })
}

#[tokio::test]
async fn a_cookie_that_is_set_replaced_or_removed_has_the_same_attributes() {
    let removed = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    let safest = "HttpOnly; SameSite=Lax; Secure; Path=/";
    let set = format!("__Host-id=…; {safest}; Max-Age=2592000");
    let expected = [set.clone(), set, format!("__Host-id=; {safest}; {removed}")];
    assert_eq!(sent(|layer| layer).await, expected);

    let open = "HttpOnly; SameSite=Lax; Path=/";
    let set = format!("id=…; {open}; Max-Age=2592000");
    let expected = [set.clone(), set, format!("id=; {open}; {removed}")];
    assert_eq!(sent(SessionLayer::insecure).await, expected);

    let shared = CookieTransport::new()
        .name("__Secure-shop")
        .domain("example.org")
        .path("/shop")
        .same_site(SameSite::None)
        .ends_with_browser();
    let shared_out = "HttpOnly; SameSite=None; Secure; Path=/shop; Domain=example.org";
    let set = format!("__Secure-shop=…; {shared_out}");
    let expected = [
        set.clone(),
        set,
        format!("__Secure-shop=; {shared_out}; {removed}"),
    ];
    assert_eq!(sent(|layer| layer.transport(shared)).await, expected);
}

async fn cookies_of_the_app_are_left_alone(site: Site<impl Store>) {
    let handler = async |mut session: Session<Shop>| {
        session.visits.set(1);
        let mut response = Response::new(Body::empty());
        for cookie in ["theme=dark", "__Host-other=1"] {
            response
                .headers_mut()
                .append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        response
    };
    let reply = site.visitor().visit(handler).await;
    let cookies = reply.set_cookies();
    assert_eq!(cookies[..2], ["theme=dark", "__Host-other=1"]);
    assert!(cookies[2].starts_with("__Host-id="));
    assert_eq!(cookies.len(), 3);
}

#[test]
fn what_browsers_would_refuse_panics_when_the_layer_is_applied_and_says_what_to_write() {
    let new = CookieTransport::new;
    let cases = [
        (new().secure(false), "call `SessionLayer::insecure()`"),
        (
            new().path("/shop"),
            "name the cookie without `__Host-`, or leave the path",
        ),
        (
            new().domain("example.org"),
            "name the cookie without `__Host-`, or leave the domain",
        ),
        (
            new().name("__Secure-id").secure(false),
            "call `SessionLayer::insecure()`",
        ),
        (
            new().name("id").secure(false).same_site(SameSite::None),
            "`SameSite=None` without `Secure`",
        ),
        (new().name("my id"), "use letters, digits, `-` and `_`"),
        (new().name("id").path("shop"), "must begin with `/`"),
        (
            new().name("id").domain("a; Path=/"),
            "must be a host's name",
        ),
    ];
    for (cookie, hint) in cases {
        let layer = SessionLayer::new(MemoryStore::new()).transport(cookie);
        let applied = AssertUnwindSafe(|| Router::<()>::new().route("/", get(visits)).layer(layer));
        let panic = catch_unwind(applied).expect_err(hint);
        let message = panic.downcast_ref::<String>().expect("it is formatted");
        assert!(message.contains(hint), "{message}");
    }
}

// ---- what is presented

/// What a browser presents that has the cookie of a customer, and another planted by somebody who has been
/// here twice: whose session is served.
async fn planting_a_cookie_never_serves_the_attackers_session(site: Site<impl Store>) {
    let (customer, mut attacker) = (customer(&site).await, customer(&site).await);
    attacker.visit(visit).await;
    let (a, b) = (customer.id(), attacker.id());
    let own = format!("__Host-id={a}");
    let nobodys = [
        vec![format!("{own}; __Host-id={b}")],
        vec![format!("__Host-id={b}; {own}")],
        vec![own.clone(), format!("__Host-id={b}")],
        vec![format!("__Host-id={b}"), own.clone()],
        vec![format!("{own}; {own}")],
        vec![format!("{own}; __Host-id=")],
        vec![format!("{own},__Host-id={b}")],
        vec![format!("__Host-id=\"{a}\"")],
        vec![format!("$Version=\"1\"; __Host-id=\"{a}\"; $Path=\"/\"")],
        vec![format!("__Host-id={}", a.to_uppercase())],
        vec![format!("__Host-id={a}{b}")],
        vec![format!("__Host-id=%{:x}{}", a.as_bytes()[0], &a[1..])],
        vec![format!("__Host-id={a}.{b}")],
    ];
    for headers in &nobodys {
        site.store.round_trips();
        let reply = site.visitor().send(presenting(headers), visits).await;
        assert_eq!(
            (reply.body.as_str(), reply.set_cookies().len()),
            ("0", 0),
            "{headers:?}"
        );
        assert_eq!(site.store.round_trips(), (0, 0));
    }
    let planted = [
        format!("__%48ost-id={b}"),
        format!("__host-id={b}"),
        format!("__HOST-ID={b}"),
        format!("\"__Host-id\"={b}"),
        format!("__Host-id%3D{b}"),
        format!("=__Host-id={b}"),
        format!("x=__Host-id={b}"),
        format!("x__Host-id={b}"),
        format!("__Host-id[]={b}"),
        format!("__Host-id.={b}"),
        format!("$__Host-id={b}"),
        "__Host-id".to_owned(),
        "x=\"".to_owned(), // a parser that minds quotes would take what follows for its value
        "$Version=1".to_owned(),
    ];
    for planted in &planted {
        for headers in [
            vec![format!("{planted}; {own}")],
            vec![format!("{own}; {planted}")],
            vec![format!("{planted}; {own}; {planted}")],
            vec![planted.clone(), own.clone()],
            vec![own.clone(), planted.clone()],
        ] {
            let reply = site.visitor().send(presenting(&headers), visits).await;
            assert_eq!(reply.body, "1", "{headers:?}");
        }
        let alone = site.visitor().send(presenting(&[planted]), visits).await;
        assert_eq!(alone.body, "0", "{planted}");
    }
}

#[tokio::test]
async fn a_flood_of_requests_leaves_nothing_in_the_store_and_costs_a_load_each_at_most() {
    const EACH: usize = 10_000;
    let site = Site::in_memory();
    let borrow = async |mut session: Session<Shop>| session.visits.get_mut().to_string();
    let mut flood = Browser::new(Router::new().fallback(borrow).layer(site.layer.clone()));
    for _ in 0..EACH {
        flood.send(presenting::<&str>(&[])).await;
    }
    assert_eq!(site.store.round_trips(), (0, 0));
    for n in 0..EACH {
        let malformed = format!("__Host-id={n:047x}"); // a digit short
        assert!(
            flood
                .send(presenting(&[malformed]))
                .await
                .set_cookies()
                .is_empty()
        );
    }
    assert_eq!(site.store.round_trips(), (0, 0));
    for _ in 0..EACH {
        let unknown = SessionId::generate().expect("there is randomness");
        let unknown = format!("__Host-id={}", unknown.expose());
        assert!(
            flood
                .send(presenting(&[unknown]))
                .await
                .set_cookies()
                .is_empty()
        );
    }
    assert_eq!(site.store.round_trips(), (EACH, 0));
}

#[tokio::test]
async fn far_too_many_cookies_are_read_right_and_fast() {
    let site = Site::in_memory();
    let customer = customer(&site).await;
    let own = format!("; __Host-id={}", customer.id());
    let bombs = [
        format!("x={}", "y".repeat(64 << 10)),
        "a=b; ".repeat(1_000),
        ";".repeat(64 << 10),
        "=".repeat(64 << 10),
        " ".repeat(64 << 10),
        "__Host-i=d; ".repeat(5_000),
    ];
    let mut app = Browser::new(Router::new().fallback(visits).layer(site.layer.clone()));
    for bomb in &bombs {
        let mut fastest = Duration::MAX;
        // However busy this machine is, it is left alone for so long once in a while.
        for _ in 0..200 {
            let request = presenting(&[format!("{bomb}{own}")]);
            let begun = Instant::now();
            assert_eq!(app.send(request).await.body, "1");
            fastest = fastest.min(begun.elapsed());
            if fastest < Duration::from_millis(5) {
                break;
            }
        }
        assert!(
            fastest < Duration::from_millis(5),
            "{fastest:?}: {} …",
            &bomb[..12]
        );
    }
    let twice = format!("{}{own}", "__Host-id=x; ".repeat(5_000));
    assert_eq!(app.send(presenting(&[twice])).await.body, "0");
    let headers: Vec<String> = (0..1_000).map(|n| format!("c{n}=x")).chain([own]).collect();
    assert_eq!(app.send(presenting(&headers)).await.body, "1");
}

#[test]
fn ids_are_192_random_bits_and_never_repeat() {
    const IDS: usize = 200_000;
    let mut seen = HashSet::with_capacity(IDS);
    let mut ones = [0_usize; 192];
    for _ in 0..IDS {
        let id = SessionId::generate().expect("there is randomness");
        let bits = id.expose().bytes().flat_map(|digit| {
            let value = char::from(digit).to_digit(16).expect("it is hexadecimal");
            (0..4).map(move |bit| value >> bit & 1 == 1)
        });
        ones.iter_mut()
            .zip(bits)
            .for_each(|(ones, bit)| *ones += usize::from(bit));
        assert_eq!(id.expose().len(), 48);
        assert!(seen.insert(id));
    }
    // Half of them, give or take ten standard deviations.
    for count in ones {
        assert!(count.abs_diff(IDS / 2) < 2_300, "{count} of {IDS}");
    }
}

/// A store in which somebody has just put a session under the key that the first creation wants.
struct Taken<S> {
    inner: S,
    left: AtomicUsize,
}

impl<S: Store> Store for Taken<S> {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.inner.load(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        if before.is_none()
            && matches!(key, Key::Session(_))
            && self.left.swap(0, Ordering::SeqCst) > 0
        {
            let others = Record::new(after.updated(), after.expires());
            let others = others.with_slots([Arc::new(Slot::new("visits", "41", None))]);
            self.inner.swap(key, None, &Arc::new(others)).await?;
        }
        self.inner.swap(key, before, after).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.inner.sweep(limit).await
    }
}

#[tokio::test]
async fn a_selector_that_is_taken_makes_another_id_and_opens_nobody_elses_session() {
    let login = async |mut session: Session<Shop>| session.login("ada").await;
    for logs_in in [false, true] {
        let site = Site::new(|clock| Taken {
            inner: MemoryStore::new().with_clock(clock),
            left: AtomicUsize::new(1),
        });
        let mut visitor = site.visitor();
        let reply = if logs_in {
            visitor.visit(login).await
        } else {
            visitor.visit(visit).await
        };
        assert!(reply.status.is_success());
        assert_eq!(reply.set_cookies().len(), 1);
        let shown = if logs_in { "0" } else { "1" };
        assert_eq!(visitor.visit(visits).await.body, shown);
        let own = site.record(&visitor).await.expect("it is stored");
        assert_ne!(
            own.slot("visits").map(|slot| slot.payload().as_ref()),
            Some(&b"41"[..])
        );
    }
}

on_each_store! {
    cookies_of_the_app_are_left_alone,
    planting_a_cookie_never_serves_the_attackers_session,
}
