//! Session ids: a selector and a secret, as the client carries them.

use std::fmt;

use rand::TryRng;
use rand::rngs::SysRng;

use crate::error::Error;
use crate::key::{Key, Selector, to_hex};
use crate::secret::SecretHash;

/// Bytes of the selector.
const SELECTOR: usize = 8;

/// Bytes of the secret.
const SECRET: usize = 16;

/// Characters of an id, and its only accepted length.
const TEXT: usize = 2 * (SELECTOR + SECRET);

/// A session id: 64 bits that select the record and 128 secret bits that open it, from the operating system's
/// generator, as 48 lower-case hexadecimal digits.
///
/// Whoever knows it holds the session, so `Debug` does not show it. Stores only ever see the selector, as a
/// [`Key`](crate::Key), and a hash of the secret.
///
/// ```
/// use session_runtime::SessionId;
///
/// let id = SessionId::generate()?;
/// assert_eq!(SessionId::parse(id.expose().as_bytes()), Some(id));
/// assert_eq!(SessionId::parse(b"ABC"), None);
/// # Ok::<(), session_runtime::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; TEXT]);

impl SessionId {
    /// Generates a fresh id.
    ///
    /// # Errors
    ///
    /// If the operating system's generator fails. There is no fallback.
    pub fn generate() -> Result<Self, Error> {
        let mut random = [0; SELECTOR + SECRET];
        SysRng.try_fill_bytes(&mut random).map_err(Error::random)?;
        Ok(Self(to_hex(random)))
    }

    /// Generates an id with another secret for the record that `selector` selects.
    pub(crate) fn of(selector: Selector) -> Result<Self, Error> {
        let mut id = Self::generate()?;
        let digits: [u8; 2 * SELECTOR] = to_hex(selector.to_bytes());
        id.0[..2 * SELECTOR].copy_from_slice(&digits);
        Ok(id)
    }

    /// Returns the id that `text` is, if it is exactly 48 lower-case hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; TEXT] = text.try_into().ok()?;
        digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            .then_some(Self(digits))
    }

    /// Returns the id as the client sends it. A secret: keep it out of logs and pages.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the part that selects the record.
    pub(crate) fn selector(&self) -> Selector {
        let digits = self.0[..2 * SELECTOR].chunks_exact(2);
        let mut bytes = [0; SELECTOR];
        for (byte, pair) in bytes.iter_mut().zip(digits) {
            *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
        }
        Selector::from_bytes(bytes)
    }

    /// Returns what a record holds of the secret.
    pub(crate) fn secret(&self) -> SecretHash {
        SecretHash::of(&self.0[2 * SELECTOR..])
    }
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'0'),
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(REDACTED)")
    }
}

impl From<&SessionId> for Key {
    fn from(id: &SessionId) -> Self {
        Self::Session(id.selector())
    }
}
