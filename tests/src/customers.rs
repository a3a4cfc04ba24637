//! What the tests of users share: a small shop, a club in the same session, and those who come.

#![expect(clippy::unused_async, reason = "handlers are")]

use std::pin::Pin;

use axum::handler::Handler;
use http::StatusCode;
use session_runtime::{Error, Session, UserId};

use crate::{Reply, Site, Visitor};

/// What a session is about.
#[derive(Debug, Session)]
pub struct Shop {
    /// Stays with the browser.
    #[session(default = "plain".to_owned())]
    pub theme: String,
    /// Is shown once.
    #[flash]
    pub notice: Option<String>,
    /// Follows the user.
    #[merge(append)]
    pub seen: Vec<u32>,
    /// Follows the user.
    #[merge(sum)]
    pub points: u32,
    /// Follows the user, and is not changed by two.
    #[merge(reject)]
    pub order: u32,
}

/// Another crate's struct, in the same session.
#[derive(Debug, Session)]
#[session(prefix = "club")]
pub struct Club {
    /// Stays with the browser.
    pub badge: String,
    /// Follows the user.
    #[merge(sum)]
    pub stamps: u32,
}

/// What `shown` says to whom nothing is shown.
pub const NOTHING: &str = "guest [] 0 plain";

/// Says who is logged in, and what there is.
pub async fn shown(session: Session<Shop>) -> String {
    let user = session.user();
    assert_eq!(user.is_some(), session.authenticated_at().is_some());
    let user = user.as_ref().map_or("guest", UserId::as_str);
    let (seen, points) = (session.seen.get(), session.points.get());
    format!("{user} {seen:?} {points} {}", session.theme.get())
}

/// Says what there is of the club.
pub async fn club(session: Session<Club>) -> String {
    format!("{} {}", session.stamps.get(), session.badge.get())
}

/// Says why there is no session.
pub async fn why(session: Session<Shop>) -> String {
    format!("{:?}", session.ended())
}

/// Logs out.
///
/// # Errors
///
/// If the store does not answer.
pub async fn logout(mut session: Session<Shop>) -> Result<(), Error> {
    session.logout().await
}

/// Takes a new id.
///
/// # Errors
///
/// If the store does not answer.
pub async fn rotate(mut session: Session<Shop>) -> Result<(), Error> {
    session.rotate().await
}

/// Puts a number into what follows the user.
pub fn add(session: &mut Session<Shop>, number: u32) {
    session.seen.get_mut().push(number);
    *session.points.get_mut() += number;
}

/// Puts a number into what follows the user.
pub async fn gather(visitor: &mut Visitor, number: u32) -> Reply {
    let handler = async move |mut session: Session<Shop>| add(&mut session, number);
    visitor.visit(handler).await
}

/// Sets what stays with the browser.
pub async fn paint(visitor: &mut Visitor, theme: &'static str) {
    let handler = async move |mut session: Session<Shop>| session.theme.set(theme.to_owned());
    assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
}

/// Puts something into the club.
pub async fn join_club(visitor: &mut Visitor, stamps: u32, badge: &'static str) {
    let handler = async move |mut session: Session<Club>| {
        *session.stamps.get_mut() += stamps;
        session.badge.set(badge.to_owned());
    };
    assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
}

/// A handler's answer.
pub type Entered = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A handler that logs in.
pub fn entering(
    user: impl Into<UserId>,
) -> impl FnOnce(Session<Shop>) -> Entered + Clone + Send + Sync + 'static {
    let user = user.into();
    move |mut session| Box::pin(async move { session.login(user).await })
}

/// Logs in, if that is possible.
pub async fn try_login(visitor: &mut Visitor, user: impl Into<UserId>) -> Reply {
    visitor.visit(entering(user)).await
}

/// Logs in, which gives a new id and sets one cookie.
pub async fn login(visitor: &mut Visitor, user: impl Into<UserId>) {
    let old = visitor.id();
    let reply = try_login(visitor, user).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(reply.set_cookies().len(), 1);
    assert_ne!(visitor.id(), old);
}

/// A browser in which a user is logged in who has gathered these numbers.
pub async fn user(site: &Site, user: impl Into<UserId>, numbers: &[u32]) -> Visitor {
    let mut visitor = site.visitor();
    login(&mut visitor, user).await;
    for number in numbers {
        gather(&mut visitor, *number).await;
    }
    visitor
}

/// A browser of a guest who has gathered these numbers.
pub async fn guest(site: &Site, numbers: &[u32]) -> Visitor {
    let mut visitor = site.visitor();
    paint(&mut visitor, "dark").await;
    for number in numbers {
        gather(&mut visitor, *number).await;
    }
    visitor
}

/// Sends a request that succeeds, and says what came back.
pub async fn ask<T: 'static>(visitor: &mut Visitor, handler: impl Handler<T, ()>) -> String {
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    reply.body
}

/// The same with one that sets no cookie.
pub async fn quietly<T: 'static>(visitor: &mut Visitor, handler: impl Handler<T, ()>) -> String {
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert!(reply.set_cookies().is_empty(), "{:?}", reply.set_cookies());
    reply.body
}
