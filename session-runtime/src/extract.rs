//! Extractors: from a request to a typed handle.

use std::any::{TypeId, type_name};
use std::sync::Arc;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;

use crate::config::StructName;
use crate::error::Error;
use crate::layers::Layers;
use crate::observe;
use crate::schema::Schema;
use crate::session::{PassiveSession, Session};
use crate::sessions::Sessions;
use crate::task::boxed_if_it_waits;

/// Loads the session, once per request, and opens it as `S`.
async fn extract<S: Schema>(parts: &Parts, touch: bool) -> Result<Session<S>, Error> {
    let request = Layers::of(&parts.extensions, StructName::of::<S>())?;
    let (config, deadline) = (&request.config, request.deadline());
    let at_once = request.is_loaded() || config.store.at_once().is_some();
    let loaded = boxed_if_it_waits(at_once, || request.load(parts, deadline)).await?;
    request.uses(S::LIFETIME, touch)?;
    config.know(TypeId::of::<S>(), type_name::<S>(), S::ROWS)?;
    if request.has_open_changes() {
        observe::unseen(type_name::<S>());
    }
    let opened = Session::open(Arc::clone(request), touch, loaded, deadline).await;
    if opened.is_err() {
        request.spare_the_store();
    }
    opened
}

/// Does the same where the client presented a live session. A store that fails still rejects.
async fn extract_live<S: Schema>(parts: &Parts, touch: bool) -> Result<Option<Session<S>>, Error> {
    let session = extract::<S>(parts, touch).await?;
    Ok((!session.is_new()).then_some(session))
}

impl<S: Schema> Session<S> {
    /// Extracts the session where there are no arguments to have it in: in a middleware that has the request. The traits of
    /// extractors need not be imported for it, and where both are, it is still this one.
    ///
    /// ```
    /// # use axum::extract::Request;
    /// # use axum::middleware::Next;
    /// # use axum::response::Response;
    /// # use session_runtime::{Error, Session};
    /// # #[derive(Session)]
    /// # struct Visits { count: u32 }
    /// async fn count(request: Request, next: Next) -> Result<Response, Error> {
    ///     let (mut parts, body) = request.into_parts();
    ///     let mut session = Session::<Visits>::from_request_parts(&mut parts, &()).await?;
    ///     *session.count.get_mut() += 1;
    ///     drop(session); // the handler sees it
    ///     Ok(next.run(Request::from_parts(parts, body)).await)
    /// }
    /// # let _ = count;
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no session layer around this, or the store does not answer before the deadline.
    pub async fn from_request_parts<A: Sync>(parts: &mut Parts, _: &A) -> Result<Self, Error> {
        extract(parts, true).await
    }
}

impl<S: Schema, A: Sync> FromRequestParts<A> for Session<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &A) -> Result<Self, Error> {
        Self::from_request_parts(parts, app).await
    }
}

impl<S: Schema, A: Sync> OptionalFromRequestParts<A> for Session<S> {
    type Rejection = Error;

    /// Returns `None` only where the client presented no live session. A store that fails still rejects.
    async fn from_request_parts(parts: &mut Parts, _: &A) -> Result<Option<Self>, Error> {
        extract_live(parts, true).await
    }
}

impl<A: Sync> FromRequestParts<A> for Sessions {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &A) -> Result<Self, Error> {
        let request = Layers::general(&parts.extensions)?;
        Ok(Self::new(Arc::clone(&request.config)))
    }
}

impl<S: Schema, A: Sync> FromRequestParts<A> for PassiveSession<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &A) -> Result<Self, Error> {
        extract(parts, false).await.map(Self)
    }
}

impl<S: Schema, A: Sync> OptionalFromRequestParts<A> for PassiveSession<S> {
    type Rejection = Error;

    /// Returns `None` only where the client presented no live session. A store that fails still rejects.
    async fn from_request_parts(parts: &mut Parts, _: &A) -> Result<Option<Self>, Error> {
        Ok(extract_live(parts, false).await?.map(Self))
    }
}
