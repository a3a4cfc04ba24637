//! What clients present, and what they are sent: forged, tossed, planted, and far too much of it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{COOKIE, HOST, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use session_runtime::store::{MemoryStore, Record, Slot, Store, StoreError, Swapped, Swept};
use session_runtime::transport::{CookieTransport, HeaderTransport, SameSite};
use session_runtime::{Key, Session, SessionId, SessionLayer};
use session_tests::{Browser, Logs, Reply, Site, Tries, Visitor, on_each_store};

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
async fn customer(site: &Site) -> Visitor {
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

#[tokio::test]
async fn insecure_holds_whatever_the_order_of_the_settings() {
    let shop = || CookieTransport::new().name("__Host-shop").partitioned(true);
    let open = "HttpOnly; SameSite=Lax; Path=/";
    let set = format!("shop=…; {open}; Max-Age=2592000");
    let [before, ..] = sent(|layer| layer.insecure().transport(shop())).await;
    let [after, ..] = sent(|layer| layer.transport(shop()).insecure()).await;
    assert_eq!((&before, &after), (&set, &set));
    let [secure, ..] = sent(|layer| layer.transport(shop())).await;
    assert!(
        secure.starts_with("__Host-shop=…;") && secure.contains("; Partitioned"),
        "{secure}"
    );
}

#[tokio::test]
async fn a_lifetime_below_a_second_is_not_taken_for_a_removal() {
    let [set, ..] = sent(|layer| layer.absolute(Duration::from_millis(1_500))).await;
    assert!(set.ends_with("Max-Age=2"), "{set}");
    let [set, ..] = sent(|layer| layer.absolute(Duration::from_millis(1))).await;
    assert!(set.ends_with("Max-Age=1"), "{set}");
}

#[tokio::test]
async fn two_apps_on_one_host_over_plain_http_have_a_cookie_each() {
    let site = Site::in_memory().with(SessionLayer::insecure);
    let mut browser = Browser::new(Router::new().fallback(visit).layer(site.layer.clone()));
    let at = |host: &str| {
        let mut request = presenting::<&str>(&[]);
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_str(host).expect("a host"));
        request
    };
    for host in [
        "localhost:3000",
        "localhost:8080",
        "[::1]:3001",
        "localhost",
    ] {
        browser.send(at(host)).await;
    }
    let names: Vec<_> = browser
        .cookies
        .iter()
        .filter_map(|pair| pair.split('=').next())
        .collect();
    assert_eq!(names, ["id-3000", "id-8080", "id-3001", "id"]);
    let app = Router::new().fallback(visits).layer(site.layer.clone());
    let mut browser = browser.moved_to(app);
    assert_eq!(browser.send(at("localhost:8080")).await.body, "1");
    assert_eq!(browser.send(at("localhost:9090")).await.body, "0");
}

/// "Remember me": whether the browser keeps the cookie when it is closed.
async fn a_session_says_itself_whether_its_cookie_ends_with_the_browser(site: Site) {
    let kept = |reply: &Reply| {
        let cookies = reply.set_cookies();
        assert_eq!(cookies.len(), 1);
        cookies[0].contains("Max-Age=2592000")
    };
    let rotate = async |mut session: Session<Shop>| session.rotate().await;
    let login = |remember: Option<bool>| {
        async move |mut session: Session<Shop>| {
            if let Some(remember) = remember {
                session.remember(remember);
            }
            session.login("ada").await
        }
    };
    for (ends_with_browser, remember, expected) in [
        (false, None, true),
        (false, Some(false), false),
        (true, None, false),
        (true, Some(true), true),
    ] {
        let cookie = CookieTransport::new();
        let cookie = if ends_with_browser {
            cookie.ends_with_browser()
        } else {
            cookie
        };
        let layer = site.layer.clone().transport(cookie);
        let mut visitor = Visitor::of(layer);
        let reply = visitor.visit(login(remember)).await;
        assert_eq!(kept(&reply), expected);
        // It is kept across requests, and across logins that say nothing of it.
        assert_eq!(kept(&visitor.visit(rotate).await), expected);
        assert_eq!(kept(&visitor.visit(login(None)).await), expected);
        let after = async |mut session: Session<Shop>| {
            session.login("ada").await?;
            session.remember(false);
            Ok::<_, session_runtime::Error>(())
        };
        assert!(!kept(&visitor.visit(after).await));
        assert!(!kept(&visitor.visit(rotate).await));
    }
}

/// A shop that serves two tenants over https, each under a domain of its own, and an office over plain http.
fn by_host(site: &Site) -> SessionLayer {
    let layer = site.layer.clone();
    layer.cookie_by(
        |request, cookie| match request.headers[HOST].to_str().expect("a host") {
            "shop.example.org" => cookie.name("shop").domain("example.org"),
            "shop.example.com" => cookie
                .name("__Secure-shop")
                .domain("example.com")
                .same_site(SameSite::None),
            "office:8080" => cookie.insecure(),
            "misled.test" => cookie.name("shop").domain("localhost"),
            "kept" => cookie.name("shop").secure(false).partitioned(true),
            _ => cookie,
        },
    )
}

fn at(host: &'static str) -> Request<Body> {
    let request = Request::get("/").header(HOST, host);
    request.body(Body::empty()).expect("it is one")
}

async fn each_request_has_the_cookie_that_it_is_given_until_that_is_removed(site: Site) {
    let out = async |mut session: Session<Shop>| {
        session.login("ada").await?;
        session.logout().await
    };
    let rotate = async |mut session: Session<Shop>| session.rotate().await;
    for (host, name, attributes) in [
        (
            "shop.example.org",
            "shop",
            "HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.org",
        ),
        (
            "shop.example.com",
            "__Secure-shop",
            "HttpOnly; SameSite=None; Secure; Path=/; Domain=example.com",
        ),
        ("office:8080", "id-8080", "HttpOnly; SameSite=Lax; Path=/"),
        (
            "elsewhere.test",
            "__Host-id",
            "HttpOnly; SameSite=Lax; Secure; Path=/",
        ),
    ] {
        let mut visitor = Visitor::of(by_host(&site));
        let set = async |reply: Reply, rest: &str| {
            let cookies = reply.set_cookies();
            assert_eq!(cookies.len(), 1, "{host}");
            assert!(cookies[0].starts_with(&format!("{name}=")), "{cookies:?}");
            assert!(
                cookies[0].ends_with(&format!("; {attributes}; {rest}")),
                "{cookies:?}"
            );
        };
        set(visitor.send(at(host), visit).await, "Max-Age=2592000").await;
        assert_eq!(visitor.send(at(host), visits).await.body, "1", "{host}");
        set(visitor.send(at(host), rotate).await, "Max-Age=2592000").await;
        assert_eq!(visitor.send(at(host), visits).await.body, "1", "{host}");
        let removed = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        set(visitor.send(at(host), out).await, removed).await;
        assert!(visitor.browser.cookies.is_empty(), "{host}");
        // What another host's visitors have is no cookie of this one's.
        let other = if host == "office:8080" {
            "elsewhere.test"
        } else {
            "office:8080"
        };
        visitor.send(at(host), visit).await;
        assert_eq!(visitor.send(at(other), visits).await.body, "0", "{host}");
    }
}

#[tokio::test]
async fn a_request_whose_cookie_browsers_would_refuse_is_a_500_and_the_log_says_what_to_write() {
    let site = Site::in_memory();
    let mut visitor = Visitor::of(by_host(&site));
    for (host, hint) in [
        (
            "misled.test",
            "all hosts below \"localhost\": leave the domain",
        ),
        ("kept", "refuse `Partitioned` without `Secure`"),
    ] {
        let logs = Logs::capture();
        let reply = visitor.send(at(host), visit).await;
        assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (500, 0));
        assert_eq!(
            logs.lines("ERROR", "`SessionLayer::cookie_by` has returned"),
            1
        );
        assert_eq!(logs.lines("ERROR", hint), 1, "{}", logs.text());
    }
    assert_eq!(visitor.send(at("elsewhere.test"), visit).await.status, 200);
    // Lifetimes, too: a cookie that lasts is kept for 400 days at most.
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let layer = site.layer.clone();
    let lasting = layer
        .transport(CookieTransport::new().ends_with_browser())
        .absolute(2 * year)
        .cookie_by(|_, _| CookieTransport::new());
    let logs = Logs::capture();
    let reply = Visitor::of(lasting).visit(visit).await;
    assert_eq!(reply.status, 500);
    assert_eq!(logs.lines("ERROR", "more than 400 days"), 1);
}

#[tokio::test]
async fn insecure_holds_for_what_a_request_is_given_and_a_clone_has_the_same_cookie() {
    let site = Site::in_memory();
    let layer = site.layer.clone().insecure();
    let layer = layer.cookie_by(|_, _| CookieTransport::new().name("__Host-shop"));
    let nested = Router::new().route("/", get(visit)).layer(layer.clone());
    let mut browser = Browser::new(nested.layer(layer));
    let reply = browser.send(at("localhost:3000")).await;
    let cookies = reply.set_cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert!(cookies[0].starts_with("shop-3000=") && !cookies[0].contains("Secure"));
}

async fn cookies_of_the_app_are_left_alone(site: Site) {
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
        (
            new().name("id").domain("localhost:3000"),
            "without scheme, port or path",
        ),
        (new().name("id").domain("localhost"), "leave the domain"),
    ];
    let layer = || SessionLayer::new(MemoryStore::new());
    let day = Duration::from_secs(24 * 60 * 60);
    let year = 365 * day;
    let cookies = cases.map(|(cookie, hint)| (layer().transport(cookie), hint));
    let lifetimes = [
        (layer().ttl(Duration::ZERO), "with `ttl` below"),
        (layer().ttl(Duration::from_micros(999)), "with `ttl` below"),
        (layer().absolute(Duration::ZERO), "with `absolute` below"),
        (layer().deadline(Duration::ZERO), "with `deadline` below"),
        (
            layer().sweep_every(Some(Duration::ZERO)),
            "with `sweep_every` below",
        ),
        (
            layer().absolute(400 * day + Duration::from_millis(1)),
            "more than 400 days",
        ),
        (layer().absolute(Duration::MAX), "more than 400 days"),
    ];
    let fine = [
        layer().absolute(400 * day),
        layer()
            .absolute(2 * year)
            .transport(new().ends_with_browser()),
        layer()
            .absolute(Duration::MAX)
            .transport(HeaderTransport::bearer()),
    ];
    for layer in fine {
        drop(Router::<()>::new().route("/", get(visits)).layer(layer));
    }
    let by_request = layer()
        .transport(HeaderTransport::bearer())
        .cookie_by(|_, cookie| cookie);
    let settings = [(by_request, "`cookie_by` is of cookies")];
    for (layer, hint) in cookies.into_iter().chain(lifetimes).chain(settings) {
        let applied = AssertUnwindSafe(|| Router::<()>::new().route("/", get(visits)).layer(layer));
        let panic = catch_unwind(applied).expect_err(hint);
        let message = panic.downcast_ref::<String>().expect("it is formatted");
        assert!(message.contains(hint), "{message}");
    }
}

// ---- what is presented

/// Presents what a browser does that has the cookie of a customer, and another planted by somebody who has been
/// here twice: whose session is served.
async fn planting_a_cookie_never_serves_the_attackers_session(site: Site) {
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

/// A browser holds a cookie for each domain and path that the settings have ever had.
async fn of_several_cookies_the_one_that_is_live_counts_if_exactly_one_is(site: Site) {
    let site = site.with(|layer| layer.transport(CookieTransport::new().name("sid")));
    let come = async || {
        let mut browser = Browser::new(Router::new().fallback(visit).layer(site.layer.clone()));
        browser.send(presenting::<&str>(&[])).await;
        browser.cookies[0].clone()
    };
    let (own, other, over) = (come().await, come().await, come().await);
    let delete = Router::new().fallback(delete).layer(site.layer.clone());
    Browser::presenting(delete, &over)
        .send(presenting::<&str>(&[]))
        .await;
    let unknown = format!("sid={}", "0".repeat(48));
    let seen = async |cookies: &str| {
        let app = Router::new().fallback(visits).layer(site.layer.clone());
        let reply = Browser::new(app).send(presenting(&[cookies])).await;
        assert!(reply.set_cookies().is_empty());
        reply.body
    };
    for dead in [&over, &unknown, "sid=", "sid=x", &own] {
        assert_eq!(seen(&format!("{own}; {dead}")).await, "1", "{dead}");
        assert_eq!(seen(&format!("{dead}; {own}")).await, "1", "{dead}");
    }
    assert_eq!(seen(&format!("{unknown}; {over}; {own}; sid=x")).await, "1");
    let four = format!("{unknown}; {over}; sid={}; {own}", "1".repeat(48));
    assert_eq!(seen(&four).await, "1");
    for none in [
        format!("{own}; {other}"),
        format!("{other}; {over}; {own}"),
        format!("{over}; {unknown}"),
        "sid=x; sid=y".to_owned(),
    ] {
        assert_eq!(seen(&none).await, "0", "{none}");
    }
    site.store.round_trips();
    let many: Vec<_> = (0..5).map(|n| format!("sid={n:048x}")).collect();
    assert_eq!(seen(&format!("{}; {own}", many.join("; "))).await, "0");
    assert_eq!(site.store.round_trips(), (0, 0));
}

async fn of_two_ids_of_one_session_the_newer_counts(site: Site) {
    let site = site.with(|layer| layer.transport(CookieTransport::new().name("sid")));
    let app = |handler| Router::new().fallback(handler).layer(site.layer.clone());
    let mut browser = Browser::new(app(get(visit)));
    browser.send(presenting::<&str>(&[])).await;
    let older = browser.cookies[0].clone();
    let rotate = async |mut session: Session<Shop>| session.rotate().await;
    let mut browser = browser.moved_to(app(get(rotate)));
    browser.send(presenting::<&str>(&[])).await;
    let newer = browser.cookies[0].clone();
    assert_ne!(older, newer);
    let both = presenting(&[format!("{older}; {newer}")]);
    assert_eq!(Browser::new(app(get(visits))).send(both).await.body, "1");
    site.clock.advance(Duration::from_secs(61));
    // The newer has been presented: the older is no more.
    let later = presenting(&[&older]);
    assert_eq!(Browser::new(app(get(visits))).send(later).await.body, "0");
}

#[tokio::test]
async fn a_cookie_of_earlier_settings_opens_the_session_until_a_login_removes_it() {
    let site = Site::in_memory();
    let before = || {
        CookieTransport::new()
            .name("sid")
            .domain("example.org")
            .path("/shop")
    };
    let layer = |cookie| site.layer.clone().transport(cookie);
    let app = |handler, layer: &SessionLayer| Router::new().fallback(handler).layer(layer.clone());
    let mut browser = Browser::new(app(get(visit), &layer(before())));
    browser.send(presenting::<&str>(&[])).await;
    let older = browser.cookies[0].clone();

    let now = layer(CookieTransport::new().replaces(before()));
    let mut browser = browser.moved_to(app(get(visits), &now));
    let reply = browser.send(presenting::<&str>(&[])).await;
    assert_eq!((reply.body.as_str(), reply.set_cookies().len()), ("1", 0));

    let login = async |mut session: Session<Shop>| session.login("ada").await;
    let mut browser = browser.moved_to(app(get(login), &now));
    let reply = browser.send(presenting::<&str>(&[])).await;
    let set = reply.set_cookies();
    assert_eq!(set.len(), 2);
    let removal = "sid=; HttpOnly; SameSite=Lax; Secure; Path=/shop; Domain=example.org; Max-Age=0";
    assert!(set[0].starts_with(removal), "{}", set[0]);
    assert!(set[1].starts_with("__Host-id=") && !set[1].contains("Max-Age=0"));
    assert_eq!(browser.cookies.len(), 1);

    // Where the present one comes too, it counts.
    let both = presenting(&[format!("{older}; {}", browser.cookies[0])]);
    assert_eq!(
        Browser::new(app(get(visits), &now)).send(both).await.body,
        "1"
    );
    let mut browser = browser.moved_to(app(get(delete), &now));
    assert_eq!(
        browser
            .send(presenting::<&str>(&[]))
            .await
            .set_cookies()
            .len(),
        2
    );
}

// ---- what browsers do not bring

/// A form that another site's page has posted: the browser brings no cookie, whether it has one or not.
fn from_another_site() -> Request<Body> {
    let request = Request::post("/").header("sec-fetch-site", "cross-site");
    request.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn a_form_of_another_site_begins_no_session_in_place_of_the_one_that_it_came_without() {
    let logs = Logs::capture();
    let site = Site::in_memory();
    let mut customer = customer(&site).await;
    let kept = customer.id();
    let paid = async |mut session: Session<Shop>| {
        session.visits.set(41);
        format!("{:?} {:?}", session.save().await, session.id())
    };
    for _ in 0..2 {
        let reply = site.visitor().send(from_another_site(), paid).await;
        assert_eq!(reply.body, "Ok(Ended) None");
        assert!(reply.set_cookies().is_empty());
    }
    assert_eq!(site.store.round_trips(), (0, 0));
    assert_eq!(
        logs.lines("WARN", "redirect to a page of your own (303)"),
        1
    );
    assert_eq!(customer.visit(visits).await.body, "1");
    assert_eq!(customer.id(), kept);

    // Who reads leaves it at that, and a login is what the handler says it is.
    let reply = site.visitor().send(from_another_site(), visits).await;
    assert_eq!(reply.body, "0");
    let login = async |mut session: Session<Shop>| {
        session.visits.set(7);
        session.login("ada").await
    };
    let mut logged_in = site.visitor();
    let reply = logged_in.send(from_another_site(), login).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(logged_in.visit(visits).await.body, "7");
}

#[tokio::test]
async fn whatever_else_comes_without_a_cookie_begins_a_session() {
    let site = Site::in_memory();
    let at_home = |request: Request<Body>, name, value| {
        let (mut parts, body) = request.into_parts();
        parts.headers.insert(name, HeaderValue::from_static(value));
        Request::from_parts(parts, body)
    };
    let link = Request::get("/").header("sec-fetch-site", "cross-site");
    for request in [
        link.body(Body::empty()).expect("a request"),
        at_home(from_another_site(), "sec-fetch-site", "same-origin"),
        at_home(from_another_site(), "sec-fetch-site", "same-site"),
        at_home(from_another_site(), "sec-fetch-site", "none"),
    ] {
        let reply = site.visitor().send(request, visit).await;
        assert_eq!(reply.set_cookies().len(), 1);
    }
    // Such a cookie would have come along; a header comes if the client wants it to.
    let everywhere = CookieTransport::new().same_site(SameSite::None);
    for site in [
        site.layer.clone().transport(everywhere),
        site.layer.clone().transport(HeaderTransport::bearer()),
    ] {
        let reply = Visitor::of(site).send(from_another_site(), visit).await;
        let told =
            reply.set_cookies().len() + usize::from(reply.headers.contains_key("session-id"));
        assert_eq!(told, 1);
    }
}

/// Browsers keep a strict cookie back from these, too.
#[tokio::test]
async fn a_link_of_another_site_begins_no_session_where_the_cookie_is_strict() {
    let logs = Logs::capture();
    let strict = CookieTransport::new().same_site(SameSite::Strict);
    let site = Site::in_memory().with(|layer| layer.transport(strict));
    let link = |from: &'static str| {
        let request = Request::get("/").header("sec-fetch-site", from);
        request.body(Body::empty()).expect("a request")
    };
    let reply = site.visitor().send(link("cross-site"), visit).await;
    assert!(reply.status.is_success() && reply.set_cookies().is_empty());
    assert_eq!(site.store.round_trips(), (0, 0));
    assert_eq!(logs.lines("WARN", "`SameSite=Strict`"), 1);
    for from in ["same-origin", "same-site", "none"] {
        let reply = site.visitor().send(link(from), visit).await;
        assert_eq!(reply.set_cookies().len(), 1);
    }
}

#[tokio::test]
async fn a_secure_cookie_over_plain_http_is_noticed_at_the_second_visit_and_said_once() {
    let logs = Logs::capture();
    let cure = "call `SessionLayer::insecure()`";
    let from = |name: &str, page: &str| {
        let request = Request::post("/")
            .header(HOST, "shop.test:3000")
            .header(name, page);
        request.body(Body::empty()).expect("a request")
    };
    let plain = || from("referer", "http://shop.test:3000/cart");
    let site = Site::in_memory();
    for fine in [
        Request::default(),
        from("referer", "https://shop.test:3000/cart"),
        from("origin", "https://shop.test:3000"),
        from("referer", "http://elsewhere.test/"),
        plain(),
    ] {
        site.visitor().send(fine, visit).await;
        assert_eq!(logs.lines("WARN", cure), 0);
    }
    // Typed in: what Chromium sends to such a host, and what of it is otherwise over https, on `localhost`, and of a robot.
    let typed = |host: &str, site: Option<&str>| {
        let request = Request::get("/").header(HOST, host);
        let mut request = request.header("upgrade-insecure-requests", "1");
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        request.body(Body::empty()).expect("a request")
    };
    for fine in [
        typed("shop.test:3000", Some("none")),
        typed("shop.test", None),
    ] {
        site.visitor().send(fine, visit).await;
        assert_eq!(logs.lines("WARN", cure), 0);
    }
    for again in [
        typed("192.0.2.7:3000", None),
        from("origin", "http://shop.test:3000"),
        plain(),
    ] {
        site.visitor().send(again, visit).await;
        assert_eq!(logs.lines("WARN", cure), 1);
    }
    let logs = Logs::capture();
    let site = Site::in_memory();
    for lines in [0, 1, 1] {
        site.visitor()
            .send(typed("192.0.2.7:3000", None), visit)
            .await;
        assert_eq!(logs.lines("WARN", cure), lines);
    }
    // Whoever has been told does not hear of it any more, nor who brings the cookie.
    let logs = Logs::capture();
    let insecure = Site::in_memory().with(SessionLayer::insecure);
    let site = Site::in_memory();
    let mut customer = customer(&site).await;
    for _ in 0..3 {
        insecure.visitor().send(plain(), visit).await;
        customer.send(plain(), visit).await;
    }
    assert_eq!(logs.lines("WARN", cure), 0);
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
        let (tries, mut fastest) = (Tries::begin(), Duration::MAX);
        // However busy this machine is, it is left alone for so long once in a while.
        while fastest >= Duration::from_millis(5) {
            tries.go_on((&bomb[..12], fastest));
            let request = presenting(&[format!("{bomb}{own}")]);
            let begun = Instant::now();
            assert_eq!(app.send(request).await.body, "1");
            fastest = fastest.min(begun.elapsed());
        }
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
            own.slot("visits").map(|slot| slot.payload()),
            Some(&b"41"[..])
        );
    }
}

on_each_store! {
    each_request_has_the_cookie_that_it_is_given_until_that_is_removed,
    a_session_says_itself_whether_its_cookie_ends_with_the_browser,
    cookies_of_the_app_are_left_alone,
    of_several_cookies_the_one_that_is_live_counts_if_exactly_one_is,
    of_two_ids_of_one_session_the_newer_counts,
    planting_a_cookie_never_serves_the_attackers_session,
}
