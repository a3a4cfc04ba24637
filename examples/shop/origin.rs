//! Where forms come from.
//!
//! The session's cookie is `SameSite=Lax`, so a form on somebody else's page is sent without it. It could still do
//! harm: sign a visitor in as somebody else, or give them a new session in place of theirs. Browsers say where a
//! form comes from, so those are refused.

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Lets pages be looked at from anywhere, and changed from here.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    if looks || is_own(request.headers()) {
        next.run(request).await
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}

/// Returns `true` if a request comes from a page of this shop, or from no page at all.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        // An older browser, or plain http to a machine that is not this one.
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == text(HOST.as_str())
        }
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_own;
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn own(headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        is_own(&headers.collect::<HeaderMap>())
    }

    #[test]
    fn only_our_own_pages_and_no_page_count_as_ours() {
        let host = ("host", "shop.example:8080");
        assert!(own(&[host]));
        assert!(own(&[host, ("origin", "http://shop.example:8080")]));
        assert!(own(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(own(&[host, ("sec-fetch-site", "none")]));
        for origin in ["null", "http://evil.example", "http://shop.example", ""] {
            assert!(!own(&[host, ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "", "SAME-ORIGIN"] {
            let origin = ("origin", "http://shop.example:8080");
            assert!(!own(&[host, origin, ("sec-fetch-site", site)]), "{site}");
        }
    }
}
