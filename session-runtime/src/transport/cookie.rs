//! The id in a cookie.

use std::borrow::Cow;
use std::mem;
use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::time::Duration;

use cookie::{Cookie, Expiration, time};
use http::header::{COOKIE, HOST, ORIGIN, REFERER, SET_COOKIE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method};

use super::{Notice, Presented};
use crate::id::SessionId;

pub use cookie::SameSite;

/// Browsers keep no cookie longer ([RFC 6265bis, 5.5](https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis#section-5.5)).
const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// How many ids may come under one name: a browser holds as many as it has scopes for it, and each costs a look-up.
const SCOPES: usize = 4;

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
#[expect(clippy::struct_excessive_bools, reason = "each is a setting")]
pub struct CookieTransport {
    name: String,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
    path: String,
    domain: Option<String>,
    kept: bool,
    partitioned: bool,
    /// The port is a part of the name, since plain http shares cookies across ports.
    by_port: bool,
    replaced: Vec<Self>,
    formatted: Formatted,
}

/// The text after the id, for the lifetime that was asked first: mostly there is but one. It takes no part in comparing
/// settings, and no copy, which may be changed, has it.
#[derive(Debug, Default)]
struct Formatted(OnceLock<(Option<time::Duration>, Box<str>)>);

impl Clone for Formatted {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Formatted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Formatted {}

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
            partitioned: false,
            by_port: false,
            replaced: Vec::new(),
            formatted: Formatted::default(),
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
    /// does, posting a form does not. With `Strict` not even a link does: whoever follows one comes as a guest, also if logged in, and
    /// what such a page sets begins no session, which would take the place of the one that the browser has.
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
    /// decides when the session ends, either way. [`Session::remember`](crate::Session::remember) says otherwise for one
    /// session.
    #[must_use]
    pub fn ends_with_browser(self) -> Self {
        Self {
            kept: false,
            ..self
        }
    }

    /// Keeps it apart for each site that embeds this one ([CHIPS]), or not: it does not by default. For an app in other
    /// sites' frames, together with [`SameSite::None`]. Browsers keep it beside one that is not partitioned, and send both, of which none
    /// counts: where they hold the other already, say so by [`replaces`](Self::replaces).
    ///
    /// [CHIPS]: https://developer.mozilla.org/docs/Web/Privacy/Guides/Privacy_sandbox/Partitioned_cookies
    #[must_use]
    pub fn partitioned(self, partitioned: bool) -> Self {
        Self {
            partitioned,
            ..self
        }
    }

    /// Says under which settings browsers were given the cookie before: another name, domain or path, or not partitioned. Where no cookie of
    /// the present name comes, the older name is read; and whenever an id is issued, or the session ends, the older cookie
    /// is removed. So nobody is logged out by the change, and nobody is left with two cookies. What `before` replaces itself is
    /// replaced, too.
    ///
    /// Keep it for as long as such cookies live. Until then the older cookie opens a session as well as the present one: one
    /// without `__Host-` may be planted by a subdomain.
    ///
    /// ```
    /// use session_runtime::transport::CookieTransport;
    ///
    /// let before = CookieTransport::new().name("sid").domain("example.org");
    /// let cookie = CookieTransport::new().replaces(before);
    /// # let _ = cookie;
    /// ```
    #[must_use]
    pub fn replaces(mut self, mut before: Self) -> Self {
        let older = mem::take(&mut before.replaced);
        self.replaced.push(before);
        self.replaced.extend(older);
        self
    }

    /// Allows plain http: the cookie loses `Secure` and its `__Host-` prefix, and has the port in its name, since plain http
    /// shares cookies across the ports of a host. Whoever listens on the network has the session. For requests that come so, see
    /// [`SessionLayer::cookie_by`](crate::SessionLayer::cookie_by); for an app that knows nothing else,
    /// [`SessionLayer::insecure`](crate::SessionLayer::insecure) is shorter.
    #[must_use]
    pub fn insecure(mut self) -> Self {
        self.allow_insecure();
        self
    }

    pub(crate) fn allow_insecure(&mut self) {
        for prefix in [HOST_HTTP, HOST_ONLY, HTTP_ONLY, SECURE_ONLY] {
            if begins_with(&self.name, prefix) {
                self.name.drain(..prefix.len());
            }
        }
        (self.secure, self.partitioned, self.by_port) = (false, false, true);
        let mut replaced = mem::take(&mut self.replaced);
        replaced.iter_mut().for_each(Self::allow_insecure);
        // One that differed by its prefix alone is this cookie now.
        replaced.retain(|older| !self.is_kept_as(older));
        self.replaced = replaced;
    }

    /// Returns `true` if browsers take the two for one.
    fn is_kept_as(&self, other: &Self) -> bool {
        (&self.name, &self.domain, &self.path, self.partitioned)
            == (&other.name, &other.domain, &other.path, other.partitioned)
    }

    pub(super) fn has_name_of(&self, other: &Self) -> bool {
        (&self.name, self.by_port) == (&other.name, other.by_port)
    }

    /// Returns the port that the browser has asked, if the name depends on it.
    pub(super) fn port(&self, parts: &Parts) -> Option<u16> {
        let authority = || parts.uri.authority().cloned().or_else(|| host(parts));
        self.by_port.then(authority)??.port_u16()
    }

    /// Returns `true` if the browser is on plain http, and so will not keep the cookie.
    pub(super) fn is_refused_by(&self, parts: &Parts) -> bool {
        let header = |name| parts.headers.get(name).map(HeaderValue::as_bytes);
        let page = header(ORIGIN).or_else(|| header(REFERER));
        let is_plain = page.map_or_else(
            || is_typed_in_over_http(parts),
            |page| {
                let page = page.strip_prefix(b"http://");
                let ours = |page: &[u8]| header(HOST).is_some_and(|host| page.starts_with(host));
                page.is_some_and(ours)
            },
        );
        self.secure && is_plain
    }

    /// Returns `true` if browsers do not send it with what another site's page has them request by that method.
    pub(super) fn is_kept_back(&self, method: &Method) -> bool {
        match self.same_site {
            SameSite::Strict => true,
            SameSite::Lax => !method.is_safe(),
            SameSite::None => false,
        }
    }

    /// Reads the cookie of the present name; else the first of those before it that is there.
    pub(super) fn read(&self, headers: &HeaderMap, port: Option<u16>) -> Presented {
        let presented = self.read_own(headers, port);
        if presented != Presented::Nothing {
            return presented;
        }
        let older = self.presented_before(headers, port);
        older.map_or(Presented::Nothing, |older| older.read_own(headers, port))
    }

    /// Returns all ids under the name that [`read`](Self::read) has found several under.
    pub(super) fn ids(&self, headers: &HeaderMap, port: Option<u16>) -> Vec<SessionId> {
        let own = self.own_ids(headers, port);
        if !own.is_empty() {
            return own;
        }
        let older = self.presented_before(headers, port);
        older.map_or(Vec::new(), |older| older.own_ids(headers, port))
    }

    fn presented_before(&self, headers: &HeaderMap, port: Option<u16>) -> Option<&Self> {
        let is_there = |older: &&Self| older.read_own(headers, port) != Presented::Nothing;
        self.replaced.iter().find(is_there)
    }

    fn read_own(&self, headers: &HeaderMap, port: Option<u16>) -> Presented {
        let name = self.name_at(port);
        let mut values = all_values(headers, &name);
        match (values.next(), values.next()) {
            (None, _) => Presented::Nothing,
            (Some(text), None) => Presented::value(text),
            // One of them may have been planted, and which one cannot be told.
            (Some(_), Some(_)) if self.name.starts_with("__Host-") => {
                Presented::Malformed("the cookie is there twice")
            }
            // A browser may hold one for each scope that the cookie has ever had.
            (Some(_), Some(_)) => match *self.own_ids(headers, port) {
                [] => Presented::Malformed("the cookie is there twice, and no id in it"),
                [id] => Presented::Id(id),
                ref ids if ids.len() <= SCOPES => Presented::Several,
                _ => Presented::Malformed("the cookie is there too often"),
            },
        }
    }

    /// Returns the ids under this cookie's name, each once, up to one too many. What is no id is passed over.
    fn own_ids(&self, headers: &HeaderMap, port: Option<u16>) -> Vec<SessionId> {
        let mut ids = Vec::new();
        for id in all_values(headers, &self.name_at(port)).filter_map(SessionId::parse) {
            if !ids.contains(&id) {
                ids.push(id);
            }
            if ids.len() > SCOPES {
                break;
            }
        }
        ids
    }

    fn name_at(&self, port: Option<u16>) -> Cow<'_, str> {
        match port {
            Some(port) => format!("{}-{port}", self.name).into(),
            None => self.name.as_str().into(),
        }
    }

    /// Adds the cookie, or its removal, and before that the removal of those that it replaces.
    pub(super) fn write(&self, headers: &mut HeaderMap, notice: Notice, port: Option<u16>) {
        for older in &self.replaced {
            older.write_own(headers, Notice::Remove, port);
        }
        self.write_own(headers, notice, port);
    }

    fn write_own(&self, headers: &mut HeaderMap, notice: Notice, port: Option<u16>) {
        let name = self.name_at(port);
        let text = match &notice {
            Notice::Issue { id, longest, kept } => {
                let max_age = kept.unwrap_or(self.kept).then(|| seconds(*longest));
                self.issue(&name, id, max_age)
            }
            Notice::Remove => {
                let epoch = Some(time::OffsetDateTime::UNIX_EPOCH);
                self.format(&name, "", Some(time::Duration::ZERO), epoch)
            }
        };
        if let Ok(mut value) = HeaderValue::try_from(text) {
            value.set_sensitive(true);
            headers.append(SET_COOKIE, value);
        }
    }

    fn issue(&self, name: &str, id: &SessionId, max_age: Option<time::Duration>) -> String {
        let format = || self.format(name, id.expose(), max_age, None);
        let before = name.len() + "=".len() + id.expose().len();
        let (formatted, after) = self
            .formatted
            .0
            .get_or_init(|| (max_age, format()[before..].into()));
        if *formatted != max_age {
            return format();
        }
        let mut text = String::with_capacity(before + after.len());
        for part in [name, "=", id.expose(), after] {
            text.push_str(part);
        }
        text
    }

    fn format(
        &self,
        name: &str,
        value: &str,
        max_age: Option<time::Duration>,
        expires: Option<time::OffsetDateTime>,
    ) -> String {
        let mut cookie = Cookie::build((name, value))
            .secure(self.secure)
            .http_only(self.http_only)
            .same_site(self.same_site)
            .path(self.path.as_str())
            .partitioned(self.partitioned)
            .build();
        if let Some(domain) = &self.domain {
            cookie.set_domain(domain.as_str());
        }
        cookie.set_max_age(max_age);
        if let Some(expires) = expires {
            cookie.set_expires(Expiration::DateTime(expires));
        }
        cookie.to_string()
    }

    /// Refuses settings that cannot work, in a sentence that says what to change.
    pub(super) fn check(&self) -> Result<(), String> {
        self.replaced.iter().try_for_each(Self::check)?;
        if self.replaced.iter().any(|older| self.is_kept_as(older)) {
            return Err(
                "what the cookie `replaces` has its name, domain and path: leave it out".to_owned(),
            );
        }
        let name = &self.name;
        let host = begins_with(name, HOST_ONLY);
        let http = begins_with(name, HTTP_ONLY) || begins_with(name, HOST_HTTP);
        let prefixed = host || http || begins_with(name, SECURE_ONLY);
        if !is_token(name) {
            return Err(format!(
                "a cookie cannot be named {name:?}: use letters, digits, `-` and `_`"
            ));
        }
        if prefixed && !self.secure {
            return Err(format!(
                "browsers refuse `{name}` without `Secure`: for plain http in development, call `SessionLayer::insecure()`; for requests that come over plain http, `CookieTransport::insecure()`"
            ));
        }
        if http && !self.http_only {
            return Err(format!(
                "browsers refuse `{name}` without `HttpOnly`: name the cookie without `Http-`, or leave `http_only`"
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
        if self.partitioned && !self.secure {
            return Err("browsers refuse `Partitioned` without `Secure`".to_owned());
        }
        if !self.path.starts_with('/') || !is_attribute(&self.path) {
            return Err(format!(
                "the cookie's path must begin with `/` and be plain text, and {:?} does not",
                self.path
            ));
        }
        self.domain.as_deref().map_or(Ok(()), check_domain)
    }

    /// Refuses a lifetime that no cookie can have.
    pub(super) fn check_lifetime(&self, longest: Duration) -> Result<(), String> {
        if self.kept && longest > LONGEST {
            return Err(
                "browsers keep no cookie for more than 400 days: set `absolute` to no more than that, or let the cookie end with the browser".to_owned()
            );
        }
        Ok(())
    }
}

/// Returns the values that all headers have under a name.
fn all_values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let headers = headers.get_all(COOKIE).iter();
    headers.flat_map(|header| values(header.as_bytes(), name.as_bytes()))
}

/// Returns the values that a header has under a name.
fn values<'a>(header: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    header.split(|byte| *byte == b';').filter_map(move |pair| {
        let rest = pair.trim_ascii_start().strip_prefix(name)?;
        let value = rest.trim_ascii_start().strip_prefix(b"=")?;
        Some(value.trim_ascii())
    })
}

/// Returns the host that the browser has asked, and the port.
fn host(parts: &Parts) -> Option<Authority> {
    let host = parts.headers.get(HOST)?;
    Authority::try_from(host.as_bytes()).ok()
}

/// Returns the seconds, rounded up: none would remove the cookie.
fn seconds(longest: Duration) -> time::Duration {
    let longest = longest.min(LONGEST); // of a session that is remembered, where cookies end with the browser
    let seconds = longest.as_secs() + u64::from(longest.subsec_nanos() > 0);
    time::Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

// What names begin with by which browsers hold a cookie to its attributes
// ([RFC 6265bis, 4.1.3](https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis#section-4.1.3)).
const HOST_ONLY: &str = "__Host-";
const HOST_HTTP: &str = "__Host-Http-";
const HTTP_ONLY: &str = "__Http-";
const SECURE_ONLY: &str = "__Secure-";

/// Returns `true` if it has that prefix for browsers, which do not mind the case.
fn begins_with(name: &str, prefix: &str) -> bool {
    let start = name.as_bytes().get(..prefix.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// Returns `true` if a browser asks for a page over plain http that no other page has led to: it was typed in, or loaded anew. Over
/// plain http browsers send no `Sec-Fetch-Site`, but to `localhost`; neither do old ones and robots, but those ask where everybody
/// does, without a port.
fn is_typed_in_over_http(parts: &Parts) -> bool {
    let says = |name: &str| parts.headers.contains_key(name);
    let has_port = || host(parts).is_some_and(|host| host.port().is_some());
    says("upgrade-insecure-requests") && !says("sec-fetch-site") && has_port()
}

/// Refuses a domain for which no browser takes a cookie.
fn check_domain(domain: &str) -> Result<(), String> {
    let name = domain.strip_prefix('.').unwrap_or(domain);
    let label = |label: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(letter)
    };
    if !name.split('.').all(label) {
        return Err(format!(
            "the cookie's domain must be a host's name, without scheme, port or path, and {domain:?} is not"
        ));
    }
    if name.parse::<Ipv4Addr>().is_ok() {
        return Err(format!(
            "browsers share no cookie among hosts of the address {domain:?}: leave the domain"
        ));
    }
    if !name.contains('.') {
        return Err(format!(
            "browsers share no cookie among all hosts below {domain:?}: leave the domain"
        ));
    }
    Ok(())
}

/// Returns `true` if it is a token as RFC 9110, 5.6.2 has it.
fn is_token(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

/// Returns `true` if it can stand in an attribute of `Set-Cookie`.
fn is_attribute(text: &str) -> bool {
    text.bytes()
        .all(|byte| (b' '..=b'~').contains(&byte) && byte != b';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cookies: &[&str]) -> Presented {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
        }
        CookieTransport::new().read(&headers, None)
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
        cookie.write(&mut headers, notice, None);
        headers[SET_COOKIE].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_removal_repeats_every_attribute() {
        let id = SessionId::parse(&[b'a'; 48]).unwrap();
        let issue = Notice::Issue {
            id,
            longest: Duration::from_secs(60),
            kept: None,
        };
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
    fn each_id_is_written_with_its_own_lifetime_and_settings() {
        let of = |digit| SessionId::parse(&[digit; 48]).unwrap();
        let issue = |digit, seconds, kept| Notice::Issue {
            id: of(digit),
            longest: Duration::from_secs(seconds),
            kept,
        };
        let cookie = CookieTransport::new();
        let attributes = "HttpOnly; SameSite=Lax; Secure; Path=/";
        for (digit, seconds) in [(b'a', 60), (b'b', 60), (b'c', 90), (b'd', 60)] {
            assert_eq!(
                written(&cookie, issue(digit, seconds, None)),
                format!(
                    "__Host-id={}; {attributes}; Max-Age={seconds}",
                    of(digit).expose()
                )
            );
        }
        assert_eq!(
            written(&cookie, issue(b'e', 60, Some(false))),
            format!("__Host-id={}; {attributes}", of(b'e').expose())
        );
        let other = cookie.clone().name("s").path("/shop");
        assert_eq!(
            written(&other, issue(b'f', 60, None)),
            format!(
                "s={}; HttpOnly; SameSite=Lax; Secure; Path=/shop; Max-Age=60",
                of(b'f').expose()
            )
        );
    }

    #[test]
    fn what_an_older_cookie_has_replaced_is_replaced_too() {
        let id = SessionId::parse(&[b'a'; 48]).unwrap();
        let new = CookieTransport::new;
        let cookie = new().replaces(new().name("b").replaces(new().name("a")));
        let mut headers = HeaderMap::new();
        let oldest = format!("a={}", id.expose());
        headers.append(COOKIE, HeaderValue::from_str(&oldest).unwrap());
        assert_eq!(cookie.read(&headers, None), Presented::Id(id));
        cookie.write(&mut headers, Notice::Remove, None);
        let removed = headers.get_all(SET_COOKIE).iter();
        let removed = removed.map(|value| value.to_str().unwrap().split('=').next().unwrap());
        assert_eq!(removed.collect::<Vec<_>>(), ["b", "a", "__Host-id"]);
    }

    #[test]
    fn a_cookie_that_is_partitioned_by_now_removes_the_one_that_was_not() {
        let whole = || CookieTransport::new().same_site(SameSite::None);
        let cookie = whole().partitioned(true).replaces(whole());
        assert_eq!(cookie.check(), Ok(()));
        let mut headers = HeaderMap::new();
        let issue = Notice::Issue {
            id: SessionId::parse(&[b'a'; 48]).unwrap(),
            longest: Duration::from_secs(60),
            kept: None,
        };
        cookie.write(&mut headers, issue, None);
        let set = headers.get_all(SET_COOKIE).iter();
        let set: Vec<_> = set.map(|value| value.to_str().unwrap()).collect();
        assert!(set[0].starts_with("__Host-id=;") && !set[0].contains("Partitioned"));
        assert!(set[1].starts_with("__Host-id=aaa") && set[1].contains("Partitioned"));
    }

    #[test]
    fn what_a_cookie_replaces_may_be_itself_over_plain_http() {
        let new = CookieTransport::new;
        let cookie = new().replaces(new().name("__Secure-id").replaces(new().name("sid")));
        let open = cookie.insecure();
        assert_eq!(open.check(), Ok(()));
        assert_eq!(open.replaced.len(), 1);
    }

    #[test]
    fn a_cookie_that_is_kept_for_ever_is_kept_for_as_long_as_browsers_do() {
        let issue = Notice::Issue {
            id: SessionId::parse(&[b'a'; 48]).unwrap(),
            longest: Duration::MAX,
            kept: Some(true),
        };
        let cookie = CookieTransport::new().ends_with_browser();
        assert_eq!(cookie.check_lifetime(Duration::MAX), Ok(()));
        let text = written(&cookie, issue);
        assert!(text.ends_with("; Max-Age=34560000"), "{text}");
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
            (new().name("s").domain(""), "host's name"),
            (new().name("s").domain("https://example.org"), "host's name"),
            (new().name("s").domain("example.org:8080"), "host's name"),
            (new().name("s").domain("example.org/shop"), "host's name"),
            (new().name("s").domain("*.example.org"), "host's name"),
            (new().name("s").domain("example.org."), "host's name"),
            (new().name("s").domain("bücher.example"), "host's name"),
            (new().name("s").domain("[::1]"), "host's name"),
            (new().name("s").domain("127.0.0.1"), "leave the domain"),
            (new().name("s").domain("localhost"), "leave the domain"),
            (new().name("s").domain(".com"), "leave the domain"),
            (
                new().name("s").secure(false).partitioned(true),
                "`Partitioned`",
            ),
            (new().name("__host-id").secure(false), "insecure()"),
            (new().name("__HOST-id").path("/shop"), "without `__Host-`"),
            (new().name("__secure-id").secure(false), "insecure()"),
            (new().name("__Http-id").http_only(false), "`HttpOnly`"),
            (new().name("__Host-Http-id").http_only(false), "`HttpOnly`"),
            (new().replaces(new()), "leave it out"),
            (new().replaces(new().path("/shop")), "without `__Host-`"),
        ] {
            let refusal = cookie.check().unwrap_err();
            assert!(refusal.contains(hint), "{refusal}");
        }
        assert_eq!(new().check(), Ok(()));
        assert_eq!(new().name("s").domain(".shop.example.org").check(), Ok(()));
        for name in ["__Host-id", "__host-Http-id", "__SECURE-id", "__Http-id"] {
            let open = new().name(name).insecure();
            assert_eq!((open.check(), open.name.as_str()), (Ok(()), "id"));
        }
    }
}
