//! Refusals and failures, in the shop's look.

use askama::Template;
use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use session_runtime::Error;

use crate::accounts::Fault;

/// What a handler cannot do anything about: the session store's, or the accounts'.
#[derive(Debug)]
pub(crate) enum Failure {
    Session(Error),
    Accounts(Fault),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Session(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Accounts(fault)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Session(error) => error.into_response(),
            Self::Accounts(fault) => {
                tracing::error!(error = %fault, "the accounts are not available");
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
        }
    }
}

/// Nothing is run, and nothing comes from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "error.html")]
struct Page {
    code: u16,
    title: &'static str,
    text: &'static str,
}

/// Gives each error that has no page of its own one, keeps its headers, and adds the shop's to every response.
pub(crate) async fn dress(mut response: Response) -> Response {
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if failed
        && !is_html(&response)
        && let Ok(page) = page(status).render()
    {
        *response.body_mut() = Body::from(page);
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(CONTENT_TYPE, html);
    }
    let html = is_html(&response);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    if html {
        // Else whoever comes next to this browser reads it by going back.
        let personal = HeaderValue::from_static("no-store");
        headers.entry(CACHE_CONTROL).or_insert(personal);
    }
    response
}

fn is_html(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

fn page(status: StatusCode) -> Page {
    let (title, text) = match status {
        StatusCode::NOT_FOUND => (
            "We have looked everywhere",
            "There is no such thing on our shelves, and no such page either. It may have been sold out for good.",
        ),
        StatusCode::FORBIDDEN => (
            "That came from elsewhere",
            "Only forms on our own pages can change anything here, and this one was on somebody else's. Nothing has changed.",
        ),
        StatusCode::METHOD_NOT_ALLOWED => (
            "That door opens the other way",
            "This address only takes what a form sends it. Please start from one of our pages.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            "That is more than we can carry",
            "What you sent is too large for us. Nothing has changed; please try again with less.",
        ),
        StatusCode::CONFLICT => (
            "Two things at once",
            "Something else changed this at the same moment. Nothing is lost; please try again.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            "Back in a moment",
            "We cannot get at our books just now. Nothing in your cart is lost; please try again shortly.",
        ),
        status if status.is_client_error() => (
            "We could not make sense of that",
            "Something in that form was missing, or was not what it said it was. Nothing has changed.",
        ),
        _ => (
            "Something fell off a shelf",
            "That was our fault, not yours, and we have taken note. Please try again.",
        ),
    };
    Page {
        code: status.as_u16(),
        title,
        text,
    }
}
