//! Keys: the names of records in a store.

use std::fmt;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use crate::id::{SessionId, TAG, to_hex};

/// The name of a record in a store.
///
/// A session's key is a hash of its id: a stolen database holds no usable cookie, and looking one up leaks
/// no timing. The two kinds are different types of name, so no id that a client sends can name a user's
/// record.
///
/// ```
/// use session_runtime::{Key, SessionId, UserId};
///
/// let key = Key::from(&SessionId::generate()?);
/// assert_eq!(Key::parse(&key.to_string()), Some(key));
/// let user = Key::User(UserId::new("42"));
/// assert_eq!(user.to_string(), "user:{42}");
/// # Ok::<(), session_runtime::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A browser's session.
    Session(SessionKey),
    /// What follows a user from device to device.
    User(UserId),
}

/// The hash of a session id, and the id's tag.
///
/// The tag (16 of the id's 160 bits) stands in clear and survives rotation, so that a record and the one
/// it moves to share a hash slot on Redis Cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey {
    tag: [u8; TAG],
    digest: [u8; 32],
}

/// An app's own name for one of its users.
///
/// ```
/// use session_runtime::UserId;
/// assert_eq!(UserId::from(42_u64), UserId::new("42"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Box<str>);

impl UserId {
    /// The user of that name; whatever text the app identifies users by.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for UserId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for UserId {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<u64> for UserId {
    fn from(number: u64) -> Self {
        Self::new(number.to_string())
    }
}

impl From<i64> for UserId {
    fn from(number: i64) -> Self {
        Self::new(number.to_string())
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId(REDACTED)")
    }
}

impl From<&SessionId> for Key {
    fn from(id: &SessionId) -> Self {
        let text = id.bytes();
        let mut tag = [0; TAG];
        tag.copy_from_slice(&text[..TAG]);
        Self::Session(SessionKey {
            tag,
            digest: Sha256::digest(text).into(),
        })
    }
}

const SESSION: &str = "session:{";
const USER: &str = "user:{";

impl fmt::Display for Key {
    /// The key as stores write it: `session:{tag}hash` or `user:{name}`; the braces are Redis Cluster's
    /// hash tag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(SessionKey { tag, digest }) => {
                let hash: [u8; 64] = to_hex(*digest);
                write!(f, "{SESSION}{}}}{}", ascii(tag), ascii(&hash))
            }
            Self::User(UserId(name)) => write!(f, "{USER}{name}}}"),
        }
    }
}

impl Key {
    /// Reads what `Display` wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix(USER) {
            return Some(Self::User(UserId::new(name.strip_suffix('}')?)));
        }
        let (tag, hash) = text.strip_prefix(SESSION)?.split_once('}')?;
        let tag: [u8; TAG] = tag.as_bytes().try_into().ok()?;
        if !tag.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        Some(Self::Session(SessionKey {
            tag,
            digest: from_hex(hash)?,
        }))
    }

    /// The key of a session of the tower-sessions family. No id of ours has it: the text that is hashed is
    /// shorter than one.
    #[cfg(feature = "tower-sessions")]
    pub(crate) fn foreign(id: i128) -> Self {
        let digest: [u8; 32] = Sha256::new()
            .chain_update("tower-sessions:")
            .chain_update(id.to_le_bytes())
            .finalize()
            .into();
        let tag = to_hex([digest[0], digest[1]]);
        Self::Session(SessionKey { tag, digest })
    }

    pub(crate) fn is_user(&self) -> bool {
        matches!(self, Self::User(_))
    }

    /// A number that spreads keys evenly, for choosing a shard or a stripe.
    pub(crate) fn spread(&self) -> u64 {
        match self {
            Self::Session(key) => key
                .digest
                .first_chunk()
                .copied()
                .map_or(0, u64::from_le_bytes),
            Self::User(UserId(name)) => {
                // FNV-1a: short names that differ little still spread.
                name.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
                    (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                })
            }
        }
    }
}

fn ascii(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl Hash for SessionKey {
    /// By the first half of the digest, which is as good as random: the rest would only cost time.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.digest[..16]);
    }
}

impl fmt::Debug for SessionKey {
    /// Four bytes of the hash: enough to follow one session through a log, useless for opening it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first: [u8; 4] = self.digest.first_chunk().copied().unwrap_or_default();
        let short: [u8; 8] = to_hex(first);
        write!(f, "SessionKey({})", ascii(&short))
    }
}
