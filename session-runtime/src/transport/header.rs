//! The id in a header, for clients that keep no cookies.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Notice, Presented};

/// Carries the id in a header: `Authorization: Bearer …`, or one of the app's own naming.
///
/// A response that issues an id carries it in a header: `session-id`, or the one named. A response that ends
/// the session carries that header empty.
///
/// ```
/// use session_runtime::{SessionLayer, store::MemoryStore, transport::HeaderTransport};
///
/// let layer = SessionLayer::new(MemoryStore::new()).transport(HeaderTransport::bearer());
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct HeaderTransport {
    request: HeaderName,
    response: HeaderName,
    bearer: bool,
}

impl HeaderTransport {
    /// Reads `Authorization: Bearer <id>` in requests, and writes `session-id: <id>` into responses.
    pub fn bearer() -> Self {
        Self {
            request: AUTHORIZATION,
            response: HeaderName::from_static("session-id"),
            bearer: true,
        }
    }

    /// Uses a header of that name, both ways.
    pub fn named(name: HeaderName) -> Self {
        Self {
            request: name.clone(),
            response: name,
            bearer: false,
        }
    }

    pub(super) fn request_header(&self) -> HeaderName {
        self.request.clone()
    }

    pub(super) fn read(&self, headers: &HeaderMap) -> Presented {
        let mut values = headers
            .get_all(&self.request)
            .iter()
            .filter_map(|value| self.id_text(value));
        match (values.next(), values.next()) {
            (None, _) => Presented::Nothing,
            (Some(text), None) => Presented::value(text),
            (Some(_), Some(_)) => Presented::Malformed("the header is there twice"),
        }
    }

    /// The id's text in a header's value; `None` if the value is for something else, such as another
    /// authorization scheme.
    fn id_text<'a>(&self, value: &'a HeaderValue) -> Option<&'a [u8]> {
        const SCHEME: &[u8] = b"bearer ";
        let text = value.as_bytes();
        if !self.bearer {
            return Some(text);
        }
        let (scheme, id) = text.split_at_checked(SCHEME.len())?;
        scheme.eq_ignore_ascii_case(SCHEME).then_some(id)
    }

    pub(super) fn write(&self, headers: &mut HeaderMap, notice: Notice) {
        let value = match notice {
            Notice::Issue { id, .. } => {
                let mut value =
                    HeaderValue::from_str(id.expose()).unwrap_or(HeaderValue::from_static(""));
                value.set_sensitive(true);
                value
            }
            Notice::Remove => HeaderValue::from_static(""),
        };
        headers.insert(&self.response, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(values: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_token_is_an_id_and_another_scheme_is_nothing() {
        let id = SessionId::generate().unwrap();
        let bearer = HeaderTransport::bearer();
        let read = |value: &str| bearer.read(&request(&[("authorization", value)]));
        assert_eq!(read(&format!("Bearer {}", id.expose())), Presented::Id(id));
        assert_eq!(read(&format!("bearer {}", id.expose())), Presented::Id(id));
        assert_eq!(read("Basic dXNlcjpwYXNz"), Presented::Nothing);
        assert!(matches!(read("Bearer x"), Presented::Malformed(_)));
    }

    use crate::id::SessionId;

    #[test]
    fn a_named_header_carries_the_id_both_ways_and_twice_is_malformed() {
        let id = SessionId::generate().unwrap();
        let named = HeaderTransport::named(HeaderName::from_static("x-shop"));
        let mut response = HeaderMap::new();
        let issue = Notice::Issue {
            id,
            longest: std::time::Duration::ZERO,
            kept: None,
        };
        named.write(&mut response, issue);
        assert_eq!(named.read(&response), Presented::Id(id));
        let twice = request(&[("x-shop", id.expose()), ("x-shop", id.expose())]);
        assert!(matches!(named.read(&twice), Presented::Malformed(_)));
    }
}
