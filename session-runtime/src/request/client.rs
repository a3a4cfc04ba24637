//! Who is asking, as far as sessions are bound to that.

use std::net::IpAddr;

use http::header::USER_AGENT;
use http::request::Parts;

use crate::commit::{Pending, fact};
use crate::config::Config;
use crate::record::{Ended, Record};
use crate::schema::facts;

/// What a session may be bound to.
#[derive(Clone, Default)]
pub(super) struct Client {
    /// Where it is, if sessions are bound to that and it could be told.
    pub(super) address: Option<IpAddr>,
    pub(super) user_agent: Option<String>,
    /// The app has lifted the binding.
    pub(super) unbound: bool,
}

impl Client {
    pub(super) fn of(parts: &Parts, config: &Config) -> Self {
        let agent = || {
            parts
                .headers
                .get(USER_AGENT)
                .map_or(&b""[..], |agent| agent.as_bytes())
        };
        Self {
            address: config
                .address_of
                .as_ref()
                .and_then(|address_of| address_of(parts)),
            user_agent: config
                .bind_user_agent
                .then(|| String::from_utf8_lossy(agent()).into_owned()),
            unbound: false,
        }
    }

    /// Why this is another client than the record is bound to, if it is.
    pub(super) fn differs(&self, record: &Record, config: &Config) -> Option<Ended> {
        let address = fact(record, &facts::ADDRESS).filter(|_| config.address_of.is_some());
        if address.is_some_and(|bound| Some(bound) != self.address_text()) {
            return Some(Ended::AddressDiffers);
        }
        let agent = fact(record, &facts::USER_AGENT).filter(|_| config.bind_user_agent);
        let differs = agent.is_some() && agent != self.user_agent;
        differs.then_some(Ended::UserAgentDiffers)
    }

    pub(super) fn address_text(&self) -> Option<String> {
        self.address.map(|address| address.to_string())
    }

    /// What a session of this client is bound to.
    pub(super) fn facts(&self) -> Vec<Pending> {
        if self.unbound {
            return Vec::new();
        }
        let address = self.address_text();
        let fact = |row, value: Option<&String>| Pending::fact(row, None, value);
        vec![
            fact(&facts::ADDRESS, address.as_ref()),
            fact(&facts::USER_AGENT, self.user_agent.as_ref()),
        ]
    }
}
