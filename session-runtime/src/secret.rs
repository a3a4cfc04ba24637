//! The secrets of a session: which of the ids that were sent open it, and for how long.
//!
//! A *current* secret opens the session. A *retiring* one, which a rotation has replaced, opens it until a minute after
//! its replacement has come back. A *superseded* one, from before a login or logout, opens nothing; for five minutes
//! it is still known, so that a request that is late does not begin a new session over the newer one. A login of the
//! same user knows it for as long as the newer one has not come back: that may never have been sent.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

/// For how long a retiring secret opens the session once its replacement has been presented.
pub(crate) const RETIRING: Duration = Duration::from_secs(60);

/// For how long a superseded secret is known.
pub(crate) const SUPERSEDED: Duration = Duration::from_secs(5 * 60);

/// How old a secret that nobody has presented has to be for a rotation to drop it.
const UNPRESENTED: Duration = Duration::from_secs(60 * 60);

/// How many secrets may wait to be presented: a rotation that finds as many issues none.
const WAITING: usize = 4;

/// How many secrets of each standing are kept, the newest.
const KEPT: usize = 16;

/// SHA-256 of a secret, truncated to 128 bits: all that a store holds of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecretHash([u8; 16]);

impl SecretHash {
    pub(crate) fn of(secret: &[u8]) -> Self {
        let hash = Sha256::digest(secret);
        Self(hash.first_chunk().copied().unwrap_or_default())
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(REDACTED)")
    }
}

/// The standing of a secret: what it is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Opens the session.
    Current {
        /// When it was first presented.
        presented: Option<Timestamp>,
    },
    /// Opens the session for a while.
    Retiring {
        /// The number of the secret that replaced it.
        by: u32,
        /// The end of that while, once that one, or a later one, has been presented.
        until: Option<Timestamp>,
    },
    /// Opens nothing.
    Superseded {
        /// The number of the secret that superseded it.
        by: u32,
        /// When that was.
        at: Timestamp,
        /// Since when that one, or a later one, has been presented.
        since: Option<Timestamp>,
    },
}

/// One secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) hash: SecretHash,
    /// Counts up within the session.
    pub(crate) number: u32,
    pub(crate) issued: Timestamp,
    pub(crate) standing: Standing,
}

/// The access that a presented secret gives at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opens {
    /// It opens the session and is current.
    Current,
    /// It opens the session, though a rotation has replaced it.
    Retiring,
    /// It did, and its time is over. A request that was served by it goes on.
    Retired,
    /// It opens nothing, and is known.
    Superseded,
    /// It is not known.
    Nothing,
}

/// The secrets of one session, in the order in which they were issued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Secrets(pub(crate) Vec<Secret>);

impl Secrets {
    /// The secret of a session that is created now: whoever gets it presents it in the response's sequel or never.
    pub(crate) fn first(hash: SecretHash, now: Timestamp) -> Self {
        Self(vec![Secret {
            hash,
            number: 1,
            issued: now,
            standing: Standing::Current {
                presented: Some(now),
            },
        }])
    }

    /// The secret of a session that a login creates, which nobody has presented yet.
    pub(crate) fn unpresented(hash: SecretHash, now: Timestamp) -> Self {
        let mut secrets = Self::default();
        secrets.issue(hash, now);
        secrets
    }

    /// Returns what `hash` opens at `now`.
    pub(crate) fn look_up(&self, hash: SecretHash, now: Timestamp) -> Opens {
        match self.find(hash).map(|secret| secret.standing) {
            Some(Standing::Current { .. }) => Opens::Current,
            Some(Standing::Retiring { until, .. }) if until.is_none_or(|until| now < until) => {
                Opens::Retiring
            }
            Some(Standing::Retiring { .. }) => Opens::Retired,
            Some(Standing::Superseded { at, since, .. })
                if now < since.unwrap_or(at) + SUPERSEDED =>
            {
                Opens::Superseded
            }
            _ => Opens::Nothing,
        }
    }

    /// Returns what `hash` opens for a login: a superseded one counts until it is sure that the client has had a newer
    /// one.
    pub(crate) fn look_up_for_login(&self, hash: SecretHash, now: Timestamp) -> Opens {
        match self.find(hash).map(|secret| secret.standing) {
            Some(Standing::Superseded { since: None, .. }) => Opens::Superseded,
            _ => self.look_up(hash, now),
        }
    }

    /// Returns since when the client is known to have had what superseded `hash`.
    pub(crate) fn superseded_since(&self, hash: SecretHash) -> Option<Timestamp> {
        match self.find(hash)?.standing {
            Standing::Superseded { since, .. } => since,
            _ => None,
        }
    }

    /// Returns `true` if `hash` is one of these, whatever it opens.
    pub(crate) fn knows(&self, hash: SecretHash) -> bool {
        self.find(hash).is_some()
    }

    /// Returns `true` if presenting `hash` is to be noted.
    pub(crate) fn is_news(&self, hash: SecretHash) -> bool {
        let standing = self.find(hash).map(|secret| secret.standing);
        standing == Some(Standing::Current { presented: None })
    }

    /// Notes that a current secret has been presented: the time of those that it replaced begins.
    pub(crate) fn present(&mut self, hash: SecretHash, now: Timestamp) {
        let Some(secret) = self.0.iter_mut().find(|secret| secret.hash == hash) else {
            return;
        };
        let Standing::Current { presented } = &mut secret.standing else {
            return;
        };
        presented.get_or_insert(now);
        let number = secret.number;
        for secret in &mut self.0 {
            match &mut secret.standing {
                Standing::Retiring { by, until } if *by <= number => {
                    until.get_or_insert(now + RETIRING);
                }
                Standing::Superseded { by, since, .. } if *by <= number => {
                    since.get_or_insert(now);
                }
                _ => {}
            }
        }
    }

    /// Adds `hash` for the request that has presented `own`, and lets those retire that have been presented, if `own`
    /// is current. `false` if enough secrets wait to be presented, or `own` opens nothing: then nothing is added.
    pub(crate) fn rotate(&mut self, own: SecretHash, hash: SecretHash, now: Timestamp) -> bool {
        let opens = self.look_up(own, now);
        if !matches!(opens, Opens::Current | Opens::Retiring) {
            return false;
        }
        self.present(own, now);
        let waits = |secret: &Secret| secret.standing == Standing::Current { presented: None };
        self.0
            .retain(|secret| !waits(secret) || now.since(secret.issued) < UNPRESENTED);
        if self.0.iter().filter(|secret| waits(secret)).count() >= WAITING {
            return false;
        }
        let by = self.next_number();
        for secret in &mut self.0 {
            if opens == Opens::Current
                && matches!(secret.standing, Standing::Current { presented: Some(_) })
            {
                secret.standing = Standing::Retiring { by, until: None };
            }
        }
        self.issue(hash, now);
        true
    }

    /// Adds a current secret. Of too many the oldest falls.
    pub(crate) fn issue(&mut self, hash: SecretHash, now: Timestamp) {
        self.0.push(Secret {
            hash,
            number: self.next_number(),
            issued: now,
            standing: Standing::Current { presented: None },
        });
        self.tidy(now);
    }

    /// From now on none of them opens the session.
    pub(crate) fn supersede(&mut self, now: Timestamp) {
        let by = self.next_number();
        for secret in &mut self.0 {
            let since = match secret.standing {
                Standing::Superseded { .. } => continue,
                Standing::Current { .. } => None,
                // Its time goes on: else one that retired long ago would be known anew.
                Standing::Retiring { until, .. } => until.map(|until| until - RETIRING),
            };
            secret.standing = Standing::Superseded { by, at: now, since };
        }
        self.tidy(now);
    }

    /// Takes a secret away that nobody has presented. `false` if it is not there, or somebody has.
    pub(crate) fn take_back(&mut self, hash: SecretHash) -> bool {
        let own = |secret: &Secret| {
            secret.hash == hash && secret.standing == Standing::Current { presented: None }
        };
        let before = self.0.len();
        self.0.retain(|secret| !own(secret));
        self.0.len() < before
    }

    /// Returns `true` if any of them opens the session at `now`.
    pub(crate) fn open_anything(&self, now: Timestamp) -> bool {
        let mut all = self.0.iter();
        all.any(|secret| {
            matches!(
                self.look_up(secret.hash, now),
                Opens::Current | Opens::Retiring
            )
        })
    }

    /// Forgets what opens nothing and is not known any more, and what is too much.
    fn tidy(&mut self, now: Timestamp) {
        self.0.retain(|secret| match secret.standing {
            Standing::Current { .. } | Standing::Retiring { .. } => true,
            Standing::Superseded { since, .. } => {
                since.is_none_or(|since| now < since + SUPERSEDED)
            }
        });
        let kinds: [fn(&Standing) -> bool; 3] = [
            |standing| matches!(standing, Standing::Current { .. }),
            |standing| matches!(standing, Standing::Retiring { .. }),
            |standing| matches!(standing, Standing::Superseded { .. }),
        ];
        for is_kind in kinds {
            let held = self.0.iter().filter(|secret| is_kind(&secret.standing));
            let mut surplus = held.count().saturating_sub(KEPT);
            self.0.retain(|secret| {
                let dropped = surplus > 0 && is_kind(&secret.standing);
                surplus -= usize::from(dropped);
                !dropped
            });
        }
    }

    /// Returns since when the client is known to have a secret that opens the session.
    pub(crate) fn presented(&self) -> Option<Timestamp> {
        let presented = self.0.iter().filter_map(|secret| match secret.standing {
            Standing::Current { presented } => presented,
            // Only one that was presented retires.
            Standing::Retiring { .. } => Some(secret.issued),
            Standing::Superseded { .. } => None,
        });
        presented.min()
    }

    /// Returns when the newest secret was issued.
    pub(crate) fn last_issued(&self) -> Option<Timestamp> {
        self.0.iter().map(|secret| secret.issued).max()
    }

    fn find(&self, hash: SecretHash) -> Option<&Secret> {
        self.0.iter().find(|secret| secret.hash == hash)
    }

    fn next_number(&self) -> u32 {
        let highest = self.0.iter().map(|secret| secret.number).max();
        highest.unwrap_or(0).saturating_add(1)
    }
}

#[cfg(test)]
mod tests;
