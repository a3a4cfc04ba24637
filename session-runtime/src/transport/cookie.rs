//! The id in a cookie.

use std::fmt::Write;
use std::time::Duration;

use cookie::{Cookie, Expiration, time};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use super::{Notice, Presented};

pub use cookie::SameSite;

/// How long `Set-Cookie` usually is, at most.
const USUAL: usize = 128;

/// Carries the id in a cookie: `__Host-id; HttpOnly; SameSite=Lax; Secure; Path=/` unless told otherwise.
///
/// The prefix `__Host-` makes browsers refuse the cookie from a subdomain, from plain http and for a part of
/// the site ([RFC 6265bis, 4.1.3.2]). It is read byte by byte and never percent-decoded, since decoding would let
/// `__%48ost-id` pass for it.
///
/// ```
/// use session_runtime::{SessionLayer, store::MemoryStore};
/// use session_runtime::transport::{CookieTransport, SameSite};
///
/// let cookie = CookieTransport::new().same_site(SameSite::Strict).ends_with_browser();
/// let layer = SessionLayer::new(MemoryStore::new()).transport(cookie);
/// # let _ = layer;
/// ```
///
/// [RFC 6265bis, 4.1.3.2]: https://www.rfc-editor.org/rfc/rfc6265
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieTransport {
    name: String,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
    path: String,
    domain: Option<String>,
    kept: bool,
}

impl Default for CookieTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl CookieTransport {
    /// Makes the safest settings.
    pub fn new() -> Self {
        Self {
            name: "__Host-id".to_owned(),
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
            path: "/".to_owned(),
            domain: None,
            kept: true,
        }
    }

    /// Names the cookie: `__Host-id` by default. Without that prefix, a subdomain can plant a cookie of this name.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// Keeps it to https, or not: it does by default. If not, whoever listens on the network has the
    /// session.
    #[must_use]
    pub fn secure(self, secure: bool) -> Self {
        Self { secure, ..self }
    }

    /// Hides it from scripts, or not: it does by default. If not, a script injected into a page has the
    /// session.
    #[must_use]
    pub fn http_only(self, http_only: bool) -> Self {
        Self { http_only, ..self }
    }

    /// Says which requests that begin on other sites carry it: `Lax` by default, which means following a link
    /// does, posting a form does not.
    #[must_use]
    pub fn same_site(self, same_site: SameSite) -> Self {
        Self { same_site, ..self }
    }

    /// Keeps it to a part of the site: `/`, the whole, by default. Not possible together with `__Host-`.
    #[must_use]
    pub fn path(self, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..self
        }
    }

    /// Shares it with all subdomains of `domain`: by default it is for this host alone. Not possible together
    /// with `__Host-`.
    #[must_use]
    pub fn domain(self, domain: impl Into<String>) -> Self {
        Self {
            domain: Some(domain.into()),
            ..self
        }
    }

    /// Lets it end with the browser; by default the browser keeps it for the absolute lifetime. The server
    /// decides when the session ends, either way.
    #[must_use]
    pub fn ends_with_browser(self) -> Self {
        Self {
            kept: false,
            ..self
        }
    }

    /// Allows plain http: another name, and no `Secure`.
    pub(crate) fn insecure(&mut self) {
        for prefix in ["__Host-", "__Secure-"] {
            if let Some(name) = self.name.strip_prefix(prefix) {
                self.name = name.to_owned();
            }
        }
        self.secure = false;
    }

    pub(super) fn read(&self, headers: &HeaderMap) -> Presented {
        let mut values = headers
            .get_all(COOKIE)
            .iter()
            .flat_map(|header| self.values(header.as_bytes()));
        match (values.next(), values.next()) {
            (None, _) => Presented::Nothing,
            (Some(text), None) => Presented::value(text),
            // One of them may have been planted, and which one cannot be told.
            (Some(_), Some(_)) => Presented::Malformed("the cookie is there twice"),
        }
    }

    /// The values that one header has under our name.
    fn values<'a>(&self, header: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        header.split(|byte| *byte == b';').filter_map(move |pair| {
            let pair = pair.trim_ascii();
            let at = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (
                pair[..at].trim_ascii_end(),
                pair[at + 1..].trim_ascii_start(),
            );
            (name == self.name.as_bytes()).then_some(value)
        })
    }

    pub(super) fn write(&self, headers: &mut HeaderMap, notice: Notice) {
        let (value, expires, max_age) = match &notice {
            Notice::Issue(id, longest) => (id.expose(), None, self.kept.then(|| seconds(*longest))),
            Notice::Remove => (
                "",
                Some(time::OffsetDateTime::UNIX_EPOCH),
                Some(time::Duration::ZERO),
            ),
        };
        let mut cookie = Cookie::build((self.name.as_str(), value))
            .secure(self.secure)
            .http_only(self.http_only)
            .same_site(self.same_site)
            .path(self.path.as_str())
            .build();
        if let Some(domain) = &self.domain {
            cookie.set_domain(domain.as_str());
        }
        cookie.set_max_age(max_age);
        if let Some(expires) = expires {
            cookie.set_expires(Expiration::DateTime(expires));
        }
        let mut text = String::with_capacity(USUAL);
        let _ = write!(text, "{cookie}"); // a `String` takes anything
        if let Ok(mut value) = HeaderValue::try_from(text) {
            value.set_sensitive(true);
            headers.append(SET_COOKIE, value);
        }
    }

    /// What is wrong with the settings, in a sentence that says what to change.
    pub(super) fn check(&self) -> Result<(), String> {
        let host = self.name.starts_with("__Host-");
        let prefixed = host || self.name.starts_with("__Secure-");
        let name = &self.name;
        if !is_token(name) {
            return Err(format!(
                "a cookie cannot be named {name:?}: use letters, digits, `-` and `_`"
            ));
        }
        if prefixed && !self.secure {
            return Err(format!(
                "browsers refuse `{name}` without `Secure`: for plain http in development, call `SessionLayer::insecure()`"
            ));
        }
        if host && self.path != "/" {
            return Err(format!(
                "browsers refuse `{name}` with a path other than `/`: name the cookie without `__Host-`, or leave the path"
            ));
        }
        if host && self.domain.is_some() {
            return Err(format!(
                "browsers refuse `{name}` with a domain: name the cookie without `__Host-`, or leave the domain"
            ));
        }
        if self.same_site == SameSite::None && !self.secure {
            return Err("browsers refuse `SameSite=None` without `Secure`".to_owned());
        }
        if !self.path.starts_with('/') || !is_attribute(&self.path) {
            return Err(format!(
                "the cookie's path must begin with `/` and be plain text, and {:?} does not",
                self.path
            ));
        }
        match &self.domain {
            Some(domain) if domain.is_empty() || !is_attribute(domain) || domain.contains('/') => {
                Err(format!(
                    "the cookie's domain must be a host's name, and {domain:?} is not"
                ))
            }
            _ => Ok(()),
        }
    }
}

fn seconds(longest: Duration) -> time::Duration {
    time::Duration::seconds(i64::try_from(longest.as_secs()).unwrap_or(i64::MAX))
}

/// Whether it is a token as RFC 9110, 5.6.2 has it.
fn is_token(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

/// Whether it can stand in an attribute of `Set-Cookie`.
fn is_attribute(text: &str) -> bool {
    text.bytes()
        .all(|byte| (b' '..=b'~').contains(&byte) && byte != b';')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;

    fn read(cookies: &[&str]) -> Presented {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
        }
        CookieTransport::new().read(&headers)
    }

    #[test]
    fn only_the_exact_name_and_form_is_an_id() {
        let id = SessionId::generate().unwrap();
        let text = id.expose();
        assert_eq!(read(&[&format!("__Host-id={text}")]), Presented::Id(id));
        assert_eq!(
            read(&[&format!("a=b; __Host-id={text};c=d")]),
            Presented::Id(id)
        );
        assert_eq!(
            read(&["a=b", &format!("__Host-id={text}")]),
            Presented::Id(id)
        );
        for other in [
            "__%48ost-id",
            "__host-id",
            "__HOST-ID",
            "id",
            "$Version=1, __Host-id",
            "x__Host-id",
        ] {
            assert_eq!(
                read(&[&format!("{other}={text}")]),
                Presented::Nothing,
                "{other}"
            );
        }
        for value in [
            format!("\"{text}\""),
            text.to_uppercase(),
            format!("{text}0"),
            String::new(),
        ] {
            assert!(
                matches!(
                    read(&[&format!("__Host-id={value}")]),
                    Presented::Malformed(_)
                ),
                "{value}"
            );
        }
    }

    #[test]
    fn the_name_twice_is_no_session_in_either_order_and_across_headers() {
        let (one, other) = (
            SessionId::generate().unwrap(),
            SessionId::generate().unwrap(),
        );
        let pair = |id: &SessionId| format!("__Host-id={}", id.expose());
        for cookies in [
            vec![format!("{}; {}", pair(&one), pair(&other))],
            vec![pair(&other), pair(&one)],
            vec![format!("{}; __Host-id=x", pair(&one))],
        ] {
            let cookies: Vec<&str> = cookies.iter().map(String::as_str).collect();
            assert!(matches!(read(&cookies), Presented::Malformed(_)));
        }
    }

    fn written(cookie: &CookieTransport, notice: Notice) -> String {
        let mut headers = HeaderMap::new();
        cookie.write(&mut headers, notice);
        headers[SET_COOKIE].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_removal_repeats_every_attribute() {
        let id = SessionId::parse(&[b'a'; 48]).unwrap();
        let issue = Notice::Issue(id, Duration::from_secs(60));
        let cookie = CookieTransport::new();
        let attributes = "HttpOnly; SameSite=Lax; Secure; Path=/";
        assert_eq!(
            written(&cookie, issue),
            format!("__Host-id={}; {attributes}; Max-Age=60", "a".repeat(48))
        );
        assert_eq!(
            written(&cookie, Notice::Remove),
            format!("__Host-id=; {attributes}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
        );
        let shared = CookieTransport::new()
            .name("s")
            .path("/shop")
            .domain("example.org")
            .ends_with_browser();
        assert_eq!(
            written(&shared, issue),
            format!(
                "s={}; HttpOnly; SameSite=Lax; Secure; Path=/shop; Domain=example.org",
                "a".repeat(48)
            )
        );
    }

    #[test]
    fn impossible_combinations_are_refused_with_a_way_out() {
        let new = CookieTransport::new;
        for (cookie, hint) in [
            (new().secure(false), "insecure()"),
            (new().path("/shop"), "without `__Host-`"),
            (new().domain("example.org"), "without `__Host-`"),
            (new().name("a b"), "letters"),
            (new().name(""), "letters"),
            (
                new().name("s").secure(false).same_site(SameSite::None),
                "SameSite=None",
            ),
            (new().name("s").path("shop"), "begin with `/`"),
            (new().name("s").path("/;Domain=evil"), "plain text"),
            (new().name("s").domain("a;b"), "host's name"),
        ] {
            let refusal = cookie.check().unwrap_err();
            assert!(refusal.contains(hint), "{refusal}");
        }
        assert_eq!(new().check(), Ok(()));
        let mut insecure = new();
        insecure.insecure();
        assert_eq!(insecure.check(), Ok(()));
    }
}
