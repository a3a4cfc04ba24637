//! `axum-login` over our stores.

use std::convert::Infallible;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use axum_login::tower_sessions::SessionManagerLayer;
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend};
use http::StatusCode;
use session_runtime::ForTowerSessions;
use session_runtime::store::{MemoryStore, Store};
use session_tests::PATIENCE;

use super::Browser;

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

pub(super) fn club(store: impl Store) -> Router {
    let layer = SessionManagerLayer::new(ForTowerSessions::new(store).deadline(PATIENCE));
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

pub(super) async fn axum_login_logs_in_and_out(store: impl Store) {
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
    let stolen = thief.get("/").await.1;
    assert_eq!(stolen, "guest", "what was logged out opens nothing");
    assert_eq!(thief.get("/members").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn axum_login_runs_over_the_memory_store() {
    axum_login_logs_in_and_out(MemoryStore::new()).await;
}
