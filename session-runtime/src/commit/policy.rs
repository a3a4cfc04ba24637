//! How long a session lives.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::record::Record;
use crate::schema::{Row, facts};

/// How long the session is to live, as far as this request has a say.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) ttl: Duration,
    pub(crate) absolute: Duration,
    /// Whether the request counts as use.
    pub(crate) touch: bool,
}

impl Policy {
    /// What follows a user neither idles out nor has a limit.
    pub(crate) const OF_ACCOUNTS: Self = Self {
        ttl: Duration::MAX,
        absolute: Duration::MAX,
        touch: false,
    };

    /// When a session that begins at `now` expires.
    pub(super) fn initial(self, now: Timestamp, ttl: Option<Duration>) -> Timestamp {
        now + ttl.unwrap_or(self.ttl).min(self.absolute)
    }

    /// The time that nothing extends `record` beyond, if that can be told.
    pub(crate) fn limit(self, record: &Record) -> Option<Timestamp> {
        let created = fact(record, &facts::CREATED)?;
        Some(Timestamp::from_millis(created) + self.absolute)
    }

    /// When `record` is to expire if it is used at `now`.
    pub(super) fn extended(self, record: &Record, now: Timestamp) -> Option<Timestamp> {
        Some((now + self.ttl_of(record)).min(self.limit(record)?))
    }

    /// How long `record` may be idle.
    fn ttl_of(self, record: &Record) -> Duration {
        fact(record, &facts::TTL).map_or(self.ttl, Duration::from_millis)
    }

    /// Whether an extension is worth a round trip of its own: it is, once every tenth of the lifetime, and for
    /// the last one there is, up to the limit.
    pub(super) fn is_due(self, record: &Record, now: Timestamp) -> bool {
        let limit = self.touch.then(|| self.limit(record)).flatten();
        let Some(limit) = limit else {
            return false;
        };
        let ttl = self.ttl_of(record);
        let to = (now + ttl).min(limit);
        to > record.expires && (to == limit || to.since(record.expires) >= ttl / 10)
    }
}

/// One of the session's own facts.
pub(crate) fn fact<T>(record: &Record, row: &Row<T>) -> Option<T> {
    let slot = record.fact(row.name())?;
    row.decode_payload(slot.payload()).ok()
}
