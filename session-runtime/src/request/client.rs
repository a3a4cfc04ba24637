//! Who is asking: what sessions may be bound to, and what a user is told of a device.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};

use crate::config::Config;
use crate::error::Error;
use crate::plan::open::ClientFacts;
use crate::record::{Ended, Record};
use crate::transport::Transport;

/// How much of a `User-Agent` is kept, in bytes.
const AGENT: usize = 512;

/// Returns as much of a text as that many bytes hold.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The facts of a request about its client.
#[derive(Clone, Default)]
pub(super) struct Client {
    address: Option<IpAddr>,
    agent: Option<HeaderValue>,
    /// Somebody will see the response: it is neither a HEAD nor a prefetch.
    pub(super) looks: bool,
    /// The port that it has asked, if the cookie's name goes by that.
    pub(super) port: Option<u16>,
    /// Where its id travels, if the app says so by request.
    transport: Option<Arc<Transport>>,
    /// It is a browser that will not keep the cookie.
    pub(super) refuses: bool,
}

impl Client {
    /// # Errors
    ///
    /// If the app gives this request a cookie that browsers would refuse.
    pub(super) fn of(parts: &Parts, config: &Config) -> Result<Self, Error> {
        let address_of = config.address_of.as_ref();
        #[cfg(feature = "cookie")]
        let transport = config.transport_of(parts)?;
        #[cfg(not(feature = "cookie"))]
        let transport: Option<Arc<Transport>> = None;
        let mut client = Self {
            // A listener for both families tells an IPv4 address as an IPv6 one, another does not.
            address: address_of
                .and_then(|address_of| address_of(parts))
                .map(|address| address.to_canonical()),
            agent: parts.headers.get(USER_AGENT).cloned(),
            looks: parts.method != Method::HEAD && !is_prefetch(parts),
            port: None,
            transport,
            refuses: false,
        };
        client.port = client.transport(config).port(parts);
        Ok(client)
    }

    /// Returns where its id travels.
    pub(super) fn transport<'a>(&'a self, config: &'a Config) -> &'a Transport {
        self.transport.as_deref().unwrap_or(&config.transport)
    }

    /// Returns why this client must not have `record`, if there is a reason.
    pub(super) fn differs(&self, record: &Record, config: &Config) -> Option<Ended> {
        let head = &record.head;
        let address = head.address.as_deref().filter(|_| config.bound_to.address);
        let agent = head
            .user_agent
            .as_deref()
            .filter(|_| config.bound_to.user_agent);
        if head.unbound {
            None
        } else if address.is_some() && address != self.address_text().as_deref() {
            Some(Ended::AddressDiffers)
        } else if agent.is_some_and(|bound| *bound != *self.agent_text()) {
            Some(Ended::UserAgentDiffers)
        } else {
            None
        }
    }

    fn address_text(&self) -> Option<Box<str>> {
        self.address.map(|address| address.to_string().into())
    }

    fn agent_text(&self) -> Box<str> {
        let agent = self.agent.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        // What is no text grows by that.
        let agent = String::from_utf8_lossy(&agent[..agent.len().min(AGENT)]);
        cut(&agent, AGENT).into()
    }

    /// Returns what a guest's new session keeps of it: what it is bound to.
    pub(super) fn bound(&self, config: &Config, unbound: bool) -> ClientFacts {
        let address = config.bound_to.address && !unbound;
        let agent = config.bound_to.user_agent && !unbound;
        self.facts(address, agent)
    }

    /// Returns what the session of a user keeps of it, bound or not, so that the user can tell devices apart.
    pub(super) fn device(&self, config: &Config) -> ClientFacts {
        self.facts(true, self.agent.is_some() || config.bound_to.user_agent)
    }

    fn facts(&self, address: bool, agent: bool) -> ClientFacts {
        ClientFacts {
            address: address.then(|| self.address_text()).flatten(),
            user_agent: agent.then(|| self.agent_text()),
        }
    }
}

/// Returns `true` if a page of another site has had the browser send this. See <https://developer.mozilla.org/docs/Web/HTTP/Headers/Sec-Fetch-Site>.
pub(super) fn is_cross_site(parts: &Parts) -> bool {
    let site = parts.headers.get("sec-fetch-site");
    site.is_some_and(|site| site == "cross-site")
}

/// Returns `true` if the browser loads the page ahead of anybody asking for it.
/// See <https://developer.mozilla.org/docs/Web/HTTP/Headers/Sec-Purpose>.
fn is_prefetch(parts: &Parts) -> bool {
    static NAMES: [HeaderName; 2] = [
        HeaderName::from_static("sec-purpose"),
        HeaderName::from_static("purpose"),
    ];
    let purpose = NAMES.iter().find_map(|name| parts.headers.get(name));
    purpose.is_some_and(|purpose| purpose.as_bytes().starts_with(b"prefetch"))
}

#[cfg(all(test, feature = "memory", feature = "cookie"))]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use crate::transport::CookieTransport;

    #[test]
    fn an_address_is_the_same_on_a_listener_for_both_families() {
        let store = Arc::new(MemoryStore::new());
        let mut config = Config::new(store, CookieTransport::new().into());
        let (parts, ()) = http::Request::new(()).into_parts();
        for (told, text) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            let told: IpAddr = told.parse().unwrap();
            config.address_of = Some(Arc::new(move |_| Some(told)));
            let client = Client::of(&parts, &config).unwrap();
            assert_eq!(client.address_text().as_deref(), Some(text));
        }
    }
}
