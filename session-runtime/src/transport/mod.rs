//! Where the session id travels between client and server.

#[cfg(feature = "cookie")]
mod cookie;
mod header;

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::id::SessionId;

#[cfg(feature = "cookie")]
pub use cookie::{CookieTransport, SameSite};
pub use header::HeaderTransport;

/// Says where the session id travels: in a cookie, or in a header for apps without cookies.
///
/// ```
/// use session_runtime::transport::{HeaderTransport, Transport};
///
/// let transport = Transport::from(HeaderTransport::bearer());
/// # let _ = transport;
/// ```
#[derive(Clone, Debug)]
pub struct Transport(By);

#[derive(Clone, Debug)]
enum By {
    #[cfg(feature = "cookie")]
    Cookie(CookieTransport),
    Header(HeaderTransport),
}

#[cfg(feature = "cookie")]
impl From<CookieTransport> for Transport {
    fn from(cookie: CookieTransport) -> Self {
        Self(By::Cookie(cookie))
    }
}

impl From<HeaderTransport> for Transport {
    fn from(header: HeaderTransport) -> Self {
        Self(By::Header(header))
    }
}

/// The id that a request presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    Nothing,
    /// Something that is no id, or two of them. Why, for the log.
    Malformed(&'static str),
    Id(SessionId),
    /// Several ids, each of which may be the session's: see [`Transport::ids`].
    #[cfg_attr(
        not(feature = "cookie"),
        expect(dead_code, reason = "of cookies alone")
    )]
    Several,
}

impl Presented {
    /// Reads the one value that was found.
    fn value(text: &[u8]) -> Self {
        SessionId::parse(text).map_or(
            Self::Malformed("it is not 48 lower-case hexadecimal digits"),
            Self::Id,
        )
    }
}

/// The news of its id that a response has for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// This is the id from now on.
    Issue {
        id: SessionId,
        /// For how long the client keeps it at most.
        longest: Duration,
        /// Whether it keeps it when it is closed, if the session says so itself.
        kept: Option<bool>,
    },
    /// The session was ended by this request: forget the id.
    Remove,
}

impl Transport {
    /// Returns the port that a request was sent to, if what it presents goes by that.
    #[cfg_attr(not(feature = "cookie"), expect(unused_variables))]
    pub(crate) fn port(&self, parts: &Parts) -> Option<u16> {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.port(parts),
            By::Header(_) => None,
        }
    }

    /// Returns `true` if ids travel in the cookie, or header, of the same name.
    pub(crate) fn carries_as(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            #[cfg(feature = "cookie")]
            (By::Cookie(cookie), By::Cookie(other)) => cookie.has_name_of(other),
            (By::Header(header), By::Header(other)) => {
                header.request_header() == other.request_header()
            }
            #[cfg(feature = "cookie")]
            _ => false,
        }
    }

    /// Returns `true` if the client is a browser that will not keep what it is told.
    #[cfg_attr(not(feature = "cookie"), expect(unused_variables))]
    pub(crate) fn is_refused_by(&self, parts: &Parts) -> bool {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.is_refused_by(parts),
            By::Header(_) => false,
        }
    }

    /// Returns `true` if browsers keep it back from requests by that method that another site's page has them send.
    #[cfg_attr(not(feature = "cookie"), expect(unused_variables))]
    pub(crate) fn is_kept_back(&self, method: &Method) -> bool {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.is_kept_back(method),
            By::Header(_) => false,
        }
    }

    #[cfg_attr(not(feature = "cookie"), expect(unused_variables))]
    pub(crate) fn read(&self, headers: &HeaderMap, port: Option<u16>) -> Presented {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.read(headers, port),
            By::Header(header) => header.read(headers),
        }
    }

    /// Returns all ids, where several were presented.
    #[cfg_attr(not(feature = "cookie"), expect(unused_variables))]
    pub(crate) fn ids(&self, headers: &HeaderMap, port: Option<u16>) -> Vec<SessionId> {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.ids(headers, port),
            By::Header(_) => Vec::new(),
        }
    }

    /// Adds what the client is to be told.
    #[cfg_attr(not(feature = "cookie"), expect(unused_variables))]
    pub(crate) fn write(&self, headers: &mut HeaderMap, notice: Notice, port: Option<u16>) {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.write(headers, notice, port),
            By::Header(header) => header.write(headers, notice),
        }
    }

    /// Returns the request header that the id is read from, for `Vary`.
    pub(crate) fn varies_by(&self) -> HeaderValue {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(_) => HeaderValue::from_static("cookie"),
            By::Header(header) => header.request_header().into(),
        }
    }

    /// Returns what is wrong with the settings for sessions that live for `longest`, if anything is.
    pub(crate) fn check(&self, longest: Duration) -> Result<(), String> {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.check()?,
            By::Header(_) => {}
        }
        self.check_lifetime(longest)
    }

    /// Returns what is wrong with sessions that live for `longest`, if anything is.
    #[cfg_attr(not(feature = "cookie"), expect(unused_variables))]
    pub(crate) fn check_lifetime(&self, longest: Duration) -> Result<(), String> {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.check_lifetime(longest),
            By::Header(_) => Ok(()),
        }
    }

    /// Returns the cookie's settings, if it is one.
    #[cfg(feature = "cookie")]
    pub(crate) fn cookie(&self) -> Option<&CookieTransport> {
        match &self.0 {
            By::Cookie(cookie) => Some(cookie),
            By::Header(_) => None,
        }
    }

    /// Returns the cookie's settings, if it is one.
    #[cfg(feature = "cookie")]
    pub(crate) fn cookie_mut(&mut self) -> Option<&mut CookieTransport> {
        match &mut self.0 {
            By::Cookie(cookie) => Some(cookie),
            By::Header(_) => None,
        }
    }
}
