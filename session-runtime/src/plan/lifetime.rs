//! How long a session lives.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::record::{Head, Record};

/// The lifetimes of a session, as far as a request has a say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) ttl: Duration,
    pub(crate) absolute: Duration,
}

impl Lifetimes {
    /// Returns when the session that `head` is of expires if it is used at `now`.
    pub(crate) fn extended(self, head: &Head, now: Timestamp) -> Timestamp {
        (now + head.ttl.unwrap_or(self.ttl)).min(self.limit(head))
    }

    /// Returns what nothing extends the session beyond.
    pub(crate) fn limit(self, head: &Head) -> Timestamp {
        let limit = head.limit.unwrap_or(head.created + self.absolute);
        head.ends().map_or(limit, |ends| limit.min(ends))
    }

    /// Returns `true` if an extension is worth a round trip of its own: it is, once every tenth of the lifetime, and
    /// for the last one there is, up to the limit.
    pub(crate) fn is_due(self, record: &Record, now: Timestamp) -> bool {
        let to = self.extended(&record.head, now);
        let ttl = record.head.ttl.unwrap_or(self.ttl);
        to > record.expires
            && (to == self.limit(&record.head) || to.since(record.expires) >= ttl / 10)
    }
}
