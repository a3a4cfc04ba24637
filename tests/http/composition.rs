//! Sessions among other layers, above and below, whatever body each answers with.

use std::convert::Infallible;
use std::io;

use axum::Router;
use axum::body::Body;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use session_runtime::transport::CookieTransport;
use session_runtime::{Error, LoggedIn, Session, SessionLayer, Sessions};
use session_tests::{Browser, Fault, Logs, Reply, Site};
use tower::{Layer, Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::map_response_body::MapResponseBodyLayer;
use tower_http::trace::TraceLayer;

#[derive(Session)]
struct Visits {
    count: u32,
}

/// Long enough to be worth compressing.
async fn count(mut session: Session<Visits>) -> String {
    *session.count.get_mut() += 1;
    format!("{:>64}", session.count.get())
}

/// A body that is neither axum's nor fails as axum's does.
fn foreign(body: Body) -> UnsyncBoxBody<axum::body::Bytes, io::Error> {
    body.map_err(io::Error::other).boxed_unsync()
}

/// Two requests under `layers` count to two. Returns the answer to a third, whose changes cannot be written.
async fn assert_counted<L>(layers: impl FnOnce(SessionLayer) -> L) -> [Reply; 3]
where
    L: Layer<Router>,
    L::Service: Service<Request<Body>, Response: IntoResponse, Error = Infallible, Future: Send>,
    L::Service: Clone + Send + Sync + 'static,
{
    let site = Site::in_memory();
    let app = layers(site.layer.clone()).layer(Router::new().fallback(count));
    let mut visitor = site.visitor();
    visitor.browser = Browser::new(Router::new().fallback_service(app));
    let mut visit = async || {
        let request = Request::get("/").header(ACCEPT_ENCODING, "gzip");
        let request = request.body(Body::empty()).expect("it is one");
        visitor.browser.send(request).await
    };
    let replies = [visit().await, visit().await];
    site.store.at_swaps(Some(Fault::Full));
    let [first, second] = replies;
    let refused = visit().await;
    assert_eq!(
        [first.status, second.status, refused.status],
        [
            StatusCode::OK,
            StatusCode::OK,
            StatusCode::SERVICE_UNAVAILABLE
        ]
    );
    assert_eq!(first.set_cookies().len(), 1);
    let count = site.payload(&visitor, "count").await;
    assert_eq!(count.as_deref(), Some("2"));
    [first, second, refused]
}

/// Checks the bodies where nothing encodes them.
fn assert_plain([_, second, refused]: &[Reply; 3]) {
    assert_eq!(second.body.trim(), "2");
    assert!(refused.body.starts_with("The session is not available"));
}

#[tokio::test]
async fn sessions_above_or_below_a_trace_are_written() {
    assert_plain(&assert_counted(|sessions| (sessions, TraceLayer::new_for_http())).await);
    assert_plain(&assert_counted(|sessions| (TraceLayer::new_for_http(), sessions)).await);
}

#[tokio::test]
async fn sessions_above_or_below_a_compression_are_written_and_the_body_is_compressed() {
    let above = assert_counted(|sessions| (sessions, CompressionLayer::new())).await;
    let below = assert_counted(|sessions| (CompressionLayer::new(), sessions)).await;
    for [first, second, _] in [above, below] {
        assert_eq!(first.headers[CONTENT_ENCODING], "gzip");
        assert_eq!(second.headers[CONTENT_ENCODING], "gzip");
    }
}

#[tokio::test]
async fn sessions_above_or_below_what_catches_panics_are_written() {
    assert_plain(&assert_counted(|sessions| (sessions, CatchPanicLayer::new())).await);
    assert_plain(&assert_counted(|sessions| (CatchPanicLayer::new(), sessions)).await);
}

#[tokio::test]
async fn sessions_above_or_below_a_limit_of_the_request_are_written() {
    assert_plain(&assert_counted(|sessions| (sessions, RequestBodyLimitLayer::new(1))).await);
    assert_plain(&assert_counted(|sessions| (RequestBodyLimitLayer::new(1), sessions)).await);
}

#[tokio::test]
async fn sessions_above_or_below_what_answers_with_a_body_of_its_own_are_written() {
    assert_plain(&assert_counted(|sessions| (sessions, MapResponseBodyLayer::new(foreign))).await);
    assert_plain(&assert_counted(|sessions| (MapResponseBodyLayer::new(foreign), sessions)).await);
}

#[tokio::test]
async fn sessions_at_the_top_or_the_bottom_of_one_service_builder_are_written() {
    let top = assert_counted(|sessions| {
        ServiceBuilder::new()
            .layer(sessions)
            .layer(TraceLayer::new_for_http())
            .layer(CompressionLayer::new())
            .layer(CatchPanicLayer::new())
            .layer(RequestBodyLimitLayer::new(1))
            .layer(MapResponseBodyLayer::new(foreign))
    });
    let bottom = assert_counted(|sessions| {
        ServiceBuilder::new()
            .layer(TraceLayer::new_for_http())
            .layer(CompressionLayer::new())
            .layer(CatchPanicLayer::new())
            .layer(RequestBodyLimitLayer::new(1))
            .layer(MapResponseBodyLayer::new(foreign))
            .layer(sessions)
    });
    for [_, second, _] in [top.await, bottom.await] {
        assert_eq!(second.headers[CONTENT_ENCODING], "gzip");
    }
}

/// Both traits that have such a function are in scope, as by `use axum::extract::*`.
#[tokio::test]
async fn a_middleware_extracts_the_session_whatever_traits_it_has_imported() {
    #[allow(unused_imports)] // they are not needed
    use axum::extract::{FromRequestParts, OptionalFromRequestParts};

    let add_ten = async |request: Request<Body>, next: Next| {
        let (mut parts, body) = request.into_parts();
        let mut session = Session::<Visits>::from_request_parts(&mut parts, &()).await?;
        *session.count.get_mut() += 10;
        drop(session);
        Ok::<_, Error>(next.run(Request::from_parts(parts, body)).await)
    };
    let app = Router::new().route("/", get(count)).layer(from_fn(add_ten));
    let mut browser = Browser::new(app.layer(Site::in_memory().layer));
    assert_eq!(browser.get("/").await.body.trim(), "11");
}

/// A nested router that brings the layer along, and a middleware that has the session, too.
#[tokio::test]
async fn a_layer_within_another_of_the_same_cookie_leaves_the_session_to_it() {
    let site = Site::in_memory();
    let add_ten = async |mut session: Session<Visits>, request: Request<Body>, next: Next| {
        *session.count.get_mut() += 10;
        drop(session);
        next.run(request).await
    };
    let enter = async |mut session: Session<Visits>| session.login("ada").await;
    let nested = Router::new()
        .route("/count", get(count))
        .route("/login", get(enter))
        .layer(site.layer.clone());
    let app = Router::new()
        .nest("/app", nested)
        .route(
            "/user",
            get(async |session: Session<Visits>| session.user().is_some().to_string()),
        )
        .layer(from_fn(add_ten))
        .layer(site.layer.clone());
    let mut visitor = site.visitor();
    visitor.browser = Browser::new(app);
    let first = visitor.browser.get("/app/count").await;
    assert_eq!((first.body.trim(), first.set_cookies().len()), ("11", 1));
    let second = visitor.browser.get("/app/count").await;
    assert_eq!((second.body.trim(), second.set_cookies().len()), ("22", 0));
    let login = visitor.browser.get("/app/login").await;
    assert_eq!(
        (login.status, login.set_cookies().len()),
        (StatusCode::OK, 1)
    );
    assert_eq!(visitor.browser.get("/user").await.body, "true");
    assert_eq!(site.payload(&visitor, "count").await.as_deref(), Some("42"));
}

#[tokio::test]
async fn a_layer_within_another_of_a_different_cookie_has_a_session_of_its_own() {
    let (outer, inner) = (Site::in_memory(), Site::in_memory());
    let own = CookieTransport::new().name("__Host-own");
    let nested = Router::new()
        .route("/count", get(count))
        .layer(inner.layer.clone().transport(own));
    let app = nested
        .route("/plain", get(count))
        .layer(outer.layer.clone());
    let mut visitor = outer.visitor();
    visitor.browser = Browser::new(app);
    for number in ["1", "2"] {
        assert_eq!(visitor.browser.get("/count").await.body.trim(), number);
    }
    assert_eq!(visitor.browser.get("/plain").await.body.trim(), "1");
}

#[derive(Session)]
struct Admin {
    clicks: u32,
}

#[derive(Session)]
struct AdminNotice {
    text: Option<String>,
}

/// Counts in both sessions, and shows who is logged in where.
async fn count_both(mut shop: Session<Visits>, mut admin: Session<Admin>) -> String {
    *shop.count.get_mut() += 1;
    *admin.clicks.get_mut() += 10;
    let user = |user: Option<session_runtime::UserId>| user.map(|user| user.to_string());
    let (shop_user, admin_user) = (user(shop.user()), user(admin.user()));
    format!(
        "{} {} {shop_user:?} {admin_user:?}",
        shop.count.get(),
        admin.clicks.get()
    )
}

#[tokio::test]
async fn a_handler_has_the_sessions_of_two_layers_with_different_cookies_each_by_its_struct() {
    let (shops, admins) = (Site::in_memory(), Site::in_memory());
    let cookie = CookieTransport::new().name("__Host-admin");
    let shop = shops.layer.clone();
    let admin = admins.layer.clone().transport(cookie);
    let admin = admin.only_for::<Admin>().only_for::<AdminNotice>();
    let admin = admin.when_logged_out(|_| "administrators only");
    let routes = || {
        Router::new()
            .route("/", get(count_both))
            .route(
                "/in",
                get(async |mut admin: Session<Admin>| admin.login("root").await),
            )
            .route(
                "/out",
                get(async |mut admin: Session<Admin>| admin.logout().await),
            )
            .route(
                "/shop-in",
                get(async |mut shop: Session<Visits>| shop.login("ada").await),
            )
            .route("/office", get(async |_: LoggedIn<Admin>| "welcome"))
            .route(
                "/notice",
                get(
                    async |mut notice: Session<AdminNotice>, admin: Session<Admin>| {
                        notice.text.set(Some("hello".to_owned()));
                        format!("{} {:?}", admin.clicks.get(), notice.text.get())
                    },
                ),
            )
    };
    for app in [
        routes().layer(shop.clone()).layer(admin.clone()),
        routes().layer(admin.clone()).layer(shop.clone()),
        // Once more within: each finds the one of its cookie, however far out.
        routes()
            .layer(shop.clone())
            .layer(admin.clone())
            .layer(shop.clone()),
        routes().layer(admin.clone()).layer(shop).layer(admin),
    ] {
        let mut browser = Browser::new(app);
        let first = browser.get("/").await;
        assert_eq!(first.body, "1 10 None None");
        let names = |reply: &Reply| {
            let cookies = reply.set_cookies();
            let names = cookies.iter().filter_map(|set| set.split('=').next());
            let mut names: Vec<_> = names.map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(names(&first), ["__Host-admin", "__Host-id"]);
        assert_eq!(browser.get("/office").await.body, "administrators only");
        assert_eq!(names(&browser.get("/in").await), ["__Host-admin"]);
        assert_eq!(browser.get("/office").await.body, "welcome");
        assert_eq!(browser.get("/").await.body, "2 20 None Some(\"root\")");
        // The layer answers for this one, too: it is the same session.
        assert_eq!(browser.get("/notice").await.body, "20 Some(\"hello\")");
        assert_eq!(names(&browser.get("/shop-in").await), ["__Host-id"]);
        assert_eq!(
            browser.get("/").await.body,
            "3 30 Some(\"ada\") Some(\"root\")"
        );
        assert_eq!(names(&browser.get("/out").await), ["__Host-admin"]);
        assert_eq!(browser.get("/").await.body, "4 10 Some(\"ada\") None");
    }
}

#[tokio::test]
async fn what_no_layer_answers_for_is_a_500_that_names_it_and_those_that_are_answered_for() {
    let site = Site::in_memory();
    let sessions = async |_: Sessions| "sessions";
    let app = Router::new()
        .route("/visits", get(count))
        .route("/sessions", get(sessions))
        .route("/admin", get(async |_: Session<Admin>| "admin"))
        .layer(
            site.layer
                .clone()
                .only_for::<Admin>()
                .only_for::<AdminNotice>(),
        );
    let mut browser = Browser::new(app.clone());
    assert_eq!(browser.get("/admin").await.body, "admin");
    for (path, hint) in [
        (
            "/visits",
            "call `.only_for::<Visits>()` of the layer that has its session",
        ),
        (
            "/sessions",
            "hand what `SessionLayer::sessions` returns to the handler",
        ),
    ] {
        let logs = Logs::capture();
        let reply = browser.get(path).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(reply.error.as_ref().is_some_and(Error::is_missing_layer));
        let named = "composition::Admin`, `";
        assert_eq!(logs.lines("ERROR", named), 1, "{}", logs.text());
        assert_eq!(logs.lines("ERROR", hint), 1, "{}", logs.text());
    }
    // With a general one around, that answers.
    let mut browser = Browser::new(
        app.layer(
            site.layer
                .clone()
                .transport(CookieTransport::new().name("__Host-shop")),
        ),
    );
    assert_eq!(browser.get("/visits").await.body.trim(), "1");
    assert_eq!(browser.get("/sessions").await.body, "sessions");
}

/// The layer that stands further out, and cannot write, answers in place of the other, whose login is done.
#[tokio::test]
async fn an_id_that_one_layer_has_issued_is_sent_though_another_layer_cannot_write() {
    async fn enter(mut shop: Session<Visits>, mut admin: Session<Admin>) -> Result<(), Error> {
        *admin.clicks.get_mut() += 1;
        shop.login("ada").await
    }

    let (shops, admins) = (Site::in_memory(), Site::in_memory());
    let shop = shops.layer.clone();
    let cookie = CookieTransport::new().name("__Host-admin");
    let admin = admins.layer.clone().transport(cookie).only_for::<Admin>();
    let routes = || Router::new().route("/", get(enter));
    for app in [
        routes().layer(shop.clone()).layer(admin.clone()),
        routes().layer(admin.clone()).layer(shop.clone()),
    ] {
        admins.store.at_swaps(Some(Fault::Full));
        let refused = Browser::new(app).get("/").await;
        admins.store.at_swaps(None);
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        let set = refused.set_cookies();
        assert_eq!(set.len(), 1);
        assert!(set[0].starts_with("__Host-id="), "{}", set[0]);
        assert_eq!(refused.headers["cache-control"], "no-store");
    }
}
