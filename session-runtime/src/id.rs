//! Session ids: 160 random bits, as the client carries them.

use std::fmt;

use rand::TryRng;
use rand::rngs::SysRng;

use crate::error::Error;

/// Bytes of randomness in an id.
const RANDOM: usize = 20;

/// Characters of an id, and its only accepted length.
const TEXT: usize = 2 * RANDOM;

/// Characters of the tag: the first 16 bits, which survive rotation.
pub(crate) const TAG: usize = 4;

/// A session id: 160 bits from the operating system's generator, as 40 lower-case hexadecimal digits.
///
/// Whoever knows it holds the session, so `Debug` and `Display` do not show it.
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
    /// A fresh id.
    ///
    /// # Errors
    ///
    /// If the operating system's generator fails. There is no fallback.
    pub fn generate() -> Result<Self, Error> {
        let mut random = [0; RANDOM];
        SysRng.try_fill_bytes(&mut random).map_err(Error::random)?;
        Ok(Self(to_hex(random)))
    }

    /// A fresh id that keeps the tag of this one, so that both records share a Redis Cluster slot.
    ///
    /// # Errors
    ///
    /// If the operating system's generator fails.
    pub fn successor(&self) -> Result<Self, Error> {
        let mut next = Self::generate()?;
        next.0[..TAG].copy_from_slice(&self.0[..TAG]);
        Ok(next)
    }

    /// The id that `text` is, if it is exactly 40 lower-case hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; TEXT] = text.try_into().ok()?;
        digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            .then_some(Self(digits))
    }

    /// The id as the client sends it. A secret: keep it out of logs and pages.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> &[u8; TEXT] {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(REDACTED)")
    }
}

/// A name that nothing else has: 128 random bits in hexadecimal. No secret.
pub(crate) fn random_text() -> String {
    let text: [u8; 32] = to_hex(rand::random::<[u8; 16]>());
    String::from_utf8_lossy(&text).into_owned()
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn to_hex<const N: usize, const M: usize>(bytes: [u8; N]) -> [u8; M] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    const { assert!(M == 2 * N) };
    let mut text = [0; M];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}
