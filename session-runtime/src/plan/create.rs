//! Creating a guest's session.

use super::edit::{self, Caps, SlotEdit};
use super::lifetime::Lifetimes;
use super::open::ClientFacts;
use super::save::FactEdits;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::record::Record;
use crate::secret::{SecretHash, Secrets};

/// A session that is about to begin.
pub(crate) struct Create<'a> {
    pub(crate) edits: &'a [SlotEdit],
    pub(crate) facts: FactEdits,
    /// What it is bound to.
    pub(crate) client: ClientFacts,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) caps: Caps,
}

impl Create<'_> {
    /// Makes the record, which `secret` opens.
    pub(crate) fn record(&self, secret: SecretHash, now: Timestamp) -> Result<Record, Error> {
        let mut record = Record::new(now, now);
        edit::apply(self.edits, &mut record, self.caps, now)?;
        let head = record.head_mut();
        head.secrets = Secrets::first(secret, now);
        head.address.clone_from(&self.client.address);
        head.user_agent.clone_from(&self.client.user_agent);
        self.facts.apply(&mut record);
        record.expires = self.lifetimes.extended(&record.head, now);
        self.caps.check(None, &record)?;
        Ok(record)
    }
}
