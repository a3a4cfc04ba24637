//! Where the session id travels between client and server.

#[cfg(feature = "cookie")]
mod cookie;
mod header;

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

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

/// What a request presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    Nothing,
    /// Something that is no id, or two of them. Why, for the log.
    Malformed(&'static str),
    Id(SessionId),
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

/// What a response tells the client about its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// This is the id from now on, for as long as the client keeps it at most.
    Issue(SessionId, Duration),
    /// The session was ended by this request: forget the id.
    Remove,
}

impl Transport {
    pub(crate) fn read(&self, headers: &HeaderMap) -> Presented {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.read(headers),
            By::Header(header) => header.read(headers),
        }
    }

    /// Adds what the client is to be told.
    pub(crate) fn write(&self, headers: &mut HeaderMap, notice: Notice) {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.write(headers, notice),
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

    /// Returns what is wrong with the settings, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        match &self.0 {
            #[cfg(feature = "cookie")]
            By::Cookie(cookie) => cookie.check(),
            By::Header(_) => Ok(()),
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
