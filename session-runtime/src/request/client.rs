//! Who is asking: what sessions may be bound to, and what a user is told of a device.

use std::net::IpAddr;

use http::HeaderValue;
use http::header::USER_AGENT;
use http::request::Parts;

use crate::commit::{Pending, fact};
use crate::config::Config;
use crate::record::{Ended, Record};
use crate::schema::facts;

/// How much of a `User-Agent` is kept, in bytes.
const AGENT: usize = 512;

/// What the layer asks of a request about its client.
#[derive(Clone, Default)]
pub(super) struct Client {
    address: Option<IpAddr>,
    agent: Option<HeaderValue>,
    /// The handler has unbound the session before there was one.
    pub(super) unbound: bool,
}

impl Client {
    pub(super) fn of(parts: &Parts, config: &Config) -> Self {
        let address_of = config.address_of.as_ref();
        Self {
            address: address_of.and_then(|address_of| address_of(parts)),
            agent: parts.headers.get(USER_AGENT).cloned(),
            unbound: false,
        }
    }

    /// Why this client must not have `record`, if there is a reason.
    pub(super) fn differs(&self, record: &Record, config: &Config) -> Option<Ended> {
        let bound = |wanted: bool, row| wanted.then(|| fact(record, row)).flatten();
        let address = bound(config.bind_address, &facts::ADDRESS);
        let agent = bound(config.bind_user_agent, &facts::USER_AGENT);
        let reason = if address.is_some() && address != self.address_text() {
            Ended::AddressDiffers
        } else if agent.is_some_and(|bound| bound != self.agent_text()) {
            Ended::UserAgentDiffers
        } else {
            return None;
        };
        fact(record, &facts::UNBOUND).is_none().then_some(reason)
    }

    fn address_text(&self) -> Option<String> {
        self.address.map(|address| address.to_string())
    }

    fn agent_text(&self) -> String {
        let agent = self.agent.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        String::from_utf8_lossy(&agent[..agent.len().min(AGENT)]).into_owned()
    }

    /// What a guest's new session keeps of it: what it is bound to.
    pub(super) fn facts(&self, config: &Config) -> Vec<Pending> {
        let address = config.bind_address && !self.unbound;
        let agent = config.bind_user_agent && !self.unbound;
        self.kept(address, agent)
    }

    /// What the new session of a user keeps of it, bound or not, so that the user can tell devices apart.
    pub(super) fn device(&self, config: &Config) -> Vec<Pending> {
        let mut kept = self.kept(true, self.agent.is_some() || config.bind_user_agent);
        if self.unbound {
            kept.push(unbound(None));
        }
        kept
    }

    fn kept(&self, address: bool, agent: bool) -> Vec<Pending> {
        let address = address.then(|| self.address_text()).flatten();
        let agent = agent.then(|| self.agent_text());
        let fact = |row, value: Option<String>| Some(Pending::fact(row, None, Some(&value?)));
        let facts = [
            fact(&facts::ADDRESS, address),
            fact(&facts::USER_AGENT, agent),
        ];
        facts.into_iter().flatten().collect()
    }
}

/// Says that a session is bound to nothing any more.
pub(super) fn unbound(record: Option<&Record>) -> Pending {
    let base = record.and_then(|record| record.slot(facts::UNBOUND.name()));
    Pending::fact(&facts::UNBOUND, base.cloned(), Some(&true))
}
