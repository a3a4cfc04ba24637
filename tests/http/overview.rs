//! A session as a whole: what there is of its fields, what was changed, and whether somebody is logged in.

use std::time::Duration;

use axum::Router;
use axum::middleware::from_extractor;
use axum::response::Redirect;
use axum::routing::get;
use http::StatusCode;
use session_runtime::{LoggedIn, Session, SessionLayer};
use session_tests::{Browser, Fault, Handles, Site, on_each_store};

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
    theme: String,
    #[expire("15m")]
    checkout: Option<String>,
    #[session(guest)]
    token: Option<String>,
    #[flash]
    notice: Option<String>,
    #[flash]
    warning: Option<String>,
}

/// The names of what is there.
fn present(session: &Session<Shop>) -> String {
    let facts = session.field_facts();
    let names: Vec<_> = facts.iter().map(|field| field.name).collect();
    assert_eq!(
        names,
        ["checkout", "notice", "points", "theme", "token", "warning"]
    );
    let present = facts.iter().filter(|field| field.is_present);
    present
        .map(|field| field.name)
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn the_fields_of_a_session_are_told_without_being_read() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let begin = async |mut session: Session<Shop>| {
        assert_eq!(present(&session), "");
        session.points.set(3);
        session.token.set(Some("t".to_owned()));
        session.checkout.set(Some("1".to_owned()));
        session.notice.set("Hello.".to_owned());
        present(&session)
    };
    let set = "checkout notice points token";
    assert_eq!(visitor.visit(begin).await.body, set);
    let look = async |session: Session<Shop>| {
        let facts = session.field_facts();
        assert_eq!(facts[0].expires_at, session.checkout.expires_at());
        assert!(facts[0].expires_at.is_some() && facts[2].expires_at.is_none());
        present(&session)
    };
    for _ in 0..2 {
        assert_eq!(visitor.visit(look).await.body, set); // no flash is used up
    }
    site.clock.advance(Duration::from_secs(15 * 60));
    let later = async |session: Session<Shop>| present(&session);
    assert_eq!(visitor.visit(later).await.body, "notice points token");
}

#[tokio::test]
async fn all_flashes_can_be_kept_at_once() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let begin = async |mut session: Session<Shop>| {
        session.notice.set("a".to_owned());
        session.warning.set("b".to_owned());
    };
    visitor.visit(begin).await;
    let read = |keeps: bool| {
        async move |mut session: Session<Shop>| {
            if keeps {
                session.keep_flashes();
            }
            format!("{:?} {:?}", session.notice.get(), session.warning.get())
        }
    };
    let both = r#"Some("a") Some("b")"#;
    for keeps in [true, true, false] {
        assert_eq!(visitor.visit(read(keeps)).await.body, both);
    }
    assert_eq!(visitor.visit(read(false)).await.body, "None None");
}

/// By a middleware, say, and read by the handler; values are checked in debug builds, and not in release builds.
#[tokio::test]
async fn flashes_that_one_handle_keeps_another_may_read() {
    for checks in [true, false] {
        let site = Site::in_memory().with(|layer| layer.check_values(checks));
        let mut visitor = site.visitor();
        visitor
            .visit(async |mut session: Session<Shop>| session.notice.set("a"))
            .await;
        let reads = async |mut handles: Handles| {
            let mut session = handles.open::<Shop>().await;
            session.keep_flashes();
            drop(session);
            handles.open::<Shop>().await.notice.get().clone()
        };
        for _ in 0..2 {
            let read = async move |handles: Handles| format!("{:?}", reads(handles).await);
            assert_eq!(visitor.visit(read).await.body, "Some(\"a\")", "{checks}");
        }
        let saves = async |mut session: Session<Shop>| {
            session.keep_flashes();
            session.save().await.expect("an answer");
            format!("{:?}", session.notice.get())
        };
        for _ in 0..2 {
            assert_eq!(visitor.visit(saves).await.body, "Some(\"a\")", "{checks}");
        }
    }
}

async fn what_a_request_has_changed_is_told_and_can_be_forgotten(site: Site) {
    let mut visitor = site.visitor();
    let begin = async |mut session: Session<Shop>| {
        session.points.set(1);
        session.notice.set("Hello.".to_owned());
        assert!(session.is_changed());
        session.save().await.expect("it is saved");
        assert!(!session.is_changed());
        session.login("ada").await.expect("she is logged in");
        assert!(!session.is_changed());
    };
    assert_eq!(visitor.visit(begin).await.status, StatusCode::OK);
    let before = site.record(&visitor).await;

    let wavers = async |mut handles: Handles| {
        let mut session = handles.open::<Shop>().await;
        assert!(!session.is_changed());
        session.points.set(1);
        session.theme.get_mut().clear();
        assert!(!session.is_changed(), "it is as it was");
        session.theme.set("dark".to_owned());
        *session.points.get_mut() += 5;
        assert!(session.is_changed());
        drop(session);
        let mut session = handles.open::<Shop>().await;
        assert!(session.is_changed(), "what another handle has done counts");
        session.set_ttl(Duration::from_secs(60));
        session.token.set(Some("t".to_owned()));
        session.forget_changes();
        assert!(!session.is_changed());
        assert!(session.notice.get().is_some());
        drop(session);
        let mut session = handles.open::<Shop>().await;
        assert!(!session.is_changed(), "what was read is no change");
        session.set_ttl(Duration::from_secs(60));
        assert!(session.is_changed(), "a lifetime is one");
        session.forget_changes();
        assert!(!session.is_changed());
        format!("{} {:?}", session.points.get(), session.theme.get())
    };
    assert_eq!(visitor.visit(wavers).await.body, r#"1 """#);
    let after = site.record(&visitor).await;
    let slots = |record: &Option<std::sync::Arc<session_runtime::store::Record>>| {
        record.as_ref().map(|record| record.slots().to_vec())
    };
    assert_eq!(slots(&after), slots(&before));
    let again = async |mut session: Session<Shop>| {
        session.forget_changes();
        session.points.set(7);
        session.save().await.expect("it is saved");
        session.points.set(8);
        session.forget_changes();
        session.points.get().to_string()
    };
    assert_eq!(visitor.visit(again).await.body, "7");
    let read = async |session: Session<Shop>| session.points.get().to_string();
    assert_eq!(visitor.visit(read).await.body, "7");
}

/// An app with an account's page, and another that does not ask whose it is.
fn app(layer: SessionLayer) -> Router {
    let account =
        async |session: LoggedIn<Shop>| format!("{} {}", session.user(), session.points.get());
    let greeting = async |session: Option<LoggedIn<Shop>>| {
        session.map_or("guest".to_owned(), |session| session.user().to_string())
    };
    let login = async |mut session: Session<Shop>| session.login("ada").await;
    let logout = async |mut session: Session<Shop>| session.logout().await;
    let guarded = get(async || "invoices").layer(from_extractor::<LoggedIn<Shop>>());
    Router::new()
        .route("/account", get(account))
        .route("/invoices", guarded)
        .route("/greeting", get(greeting))
        .route("/login", get(login))
        .route("/logout", get(logout))
        .layer(layer)
}

async fn who_is_not_logged_in_is_answered_as_the_app_says(site: Site) {
    let mut browser = Browser::new(app(site.layer.clone()));
    for path in ["/account", "/invoices"] {
        let reply = browser.get(path).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert!(reply.set_cookies().is_empty());
    }
    assert_eq!(browser.get("/greeting").await.body, "guest");
    browser.get("/login").await;
    assert_eq!(browser.get("/account").await.body, "ada 0");
    assert_eq!(browser.get("/invoices").await.body, "invoices");
    assert_eq!(browser.get("/greeting").await.body, "ada");
    browser.get("/logout").await;
    assert_eq!(
        browser.get("/account").await.status,
        StatusCode::UNAUTHORIZED
    );

    let layer = site.layer.clone();
    let redirects = layer
        .when_logged_out(|request| Redirect::to(&format!("/login?next={}", request.uri.path())));
    let mut browser = Browser::new(app(redirects));
    let reply = browser.get("/account").await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert_eq!(reply.location(), Some("/login?next=/account"));
    browser.get("/login").await;
    assert_eq!(browser.get("/account").await.body, "ada 0");
    // A store that is away is no reason to log in once more.
    site.store.always(Some(Fault::Before));
    for path in ["/account", "/greeting"] {
        let reply = browser.get(path).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    site.store.heal();
    assert_eq!(browser.get("/account").await.body, "ada 0");
}

on_each_store! {
    what_a_request_has_changed_is_told_and_can_be_forgotten,
    who_is_not_logged_in_is_answered_as_the_app_says,
}
