//! Who has to be logged in.

use std::fmt;
use std::ops::{Deref, DerefMut};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::config::StructName;
use crate::error::Error;
use crate::key::UserId;
use crate::layers::Layers;
use crate::schema::Schema;
use crate::session::Session;

/// The session of somebody who is logged in. Whoever is not is answered as
/// [`SessionLayer::when_logged_out`](crate::SessionLayer::when_logged_out) says, by default with a 401, and the handler does not run.
///
/// It derefs to the [`Session`].
///
/// ```
/// use axum::response::Redirect;
/// use axum::{Router, middleware::from_extractor, routing::get};
/// use session_runtime::{LoggedIn, Session, SessionLayer, store::MemoryStore};
///
/// #[derive(Session)]
/// struct Shop {
///     orders: Vec<String>,
/// }
///
/// async fn account(session: LoggedIn<Shop>) -> String {
///     format!("{} has {} orders", session.user(), session.orders.get().len())
/// }
///
/// async fn invoices() -> &'static str {
///     "…"
/// }
///
/// let sessions = SessionLayer::new(MemoryStore::new()).when_logged_out(|_| Redirect::to("/login"));
/// let app: Router = Router::new()
///     .route("/account", get(account))
///     // Or for a route whose handler does not ask who it is:
///     .route("/invoices", get(invoices).layer(from_extractor::<LoggedIn<Shop>>()))
///     .layer(sessions);
/// # let _ = app;
/// ```
#[must_use = "what is changed through a session is written when it drops"]
pub struct LoggedIn<S: Schema> {
    session: Session<S>,
    user: UserId,
}

impl<S: Schema> LoggedIn<S> {
    /// Returns who was logged in when the handler began. Who is after a login or a logout in it is told by the session's own:
    /// `(*session).user()`.
    pub fn user(&self) -> &UserId {
        &self.user
    }
}

impl<S: Schema> Deref for LoggedIn<S> {
    type Target = Session<S>;

    fn deref(&self) -> &Session<S> {
        &self.session
    }
}

impl<S: Schema> DerefMut for LoggedIn<S> {
    fn deref_mut(&mut self) -> &mut Session<S> {
        &mut self.session
    }
}

impl<S: Schema> fmt::Debug for LoggedIn<S> {
    /// As [`Session`]'s.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}

/// Says why there is no [`LoggedIn`]: nobody is, or the session could not be loaded.
#[derive(Debug)]
pub struct NotLoggedIn(Why);

#[derive(Debug)]
enum Why {
    Nobody(Box<Response>),
    Error(Error),
}

impl NotLoggedIn {
    /// Returns the error, if the session could not be loaded.
    pub fn error(&self) -> Option<&Error> {
        match &self.0 {
            Why::Nobody(_) => None,
            Why::Error(error) => Some(error),
        }
    }
}

impl From<Error> for NotLoggedIn {
    fn from(error: Error) -> Self {
        Self(Why::Error(error))
    }
}

impl IntoResponse for NotLoggedIn {
    fn into_response(self) -> Response {
        match self.0 {
            Why::Nobody(answer) => *answer,
            Why::Error(error) => error.into_response(),
        }
    }
}

impl<S: Schema, A: Sync> FromRequestParts<A> for LoggedIn<S> {
    type Rejection = NotLoggedIn;

    async fn from_request_parts(parts: &mut Parts, app: &A) -> Result<Self, NotLoggedIn> {
        let logged_in =
            <Self as OptionalFromRequestParts<A>>::from_request_parts(parts, app).await?;
        logged_in.ok_or_else(|| NotLoggedIn(Why::Nobody(Box::new(answer::<S>(parts)))))
    }
}

impl<S: Schema, A: Sync> OptionalFromRequestParts<A> for LoggedIn<S> {
    type Rejection = Error;

    /// Returns `None` only where nobody is logged in. A store that fails still rejects.
    async fn from_request_parts(parts: &mut Parts, app: &A) -> Result<Option<Self>, Error> {
        let session = Session::<S>::from_request_parts(parts, app).await?;
        Ok(session.user().map(|user| Self { session, user }))
    }
}

/// Returns what somebody is answered who is not logged in.
fn answer<S: Schema>(parts: &Parts) -> Response {
    let request = Layers::of(&parts.extensions, StructName::of::<S>()).ok();
    let app = request.and_then(|request| request.config.when_logged_out.clone());
    match app {
        Some(app) => app(parts),
        None => (StatusCode::UNAUTHORIZED, "Please log in.").into_response(),
    }
}
