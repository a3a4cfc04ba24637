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
        // Without a way out in between, several digits are looked at in one go.
        let are_digits = digits.iter().fold(true, |so_far, digit| {
            so_far & matches!(digit, b'0'..=b'9' | b'a'..=b'f')
        });
        are_digits.then_some(Self(digits))
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::{SessionId, TEXT};
    use crate::key::{Key, Selector};
    use crate::secret::SecretHash;

    fn id(text: &str) -> SessionId {
        SessionId::parse(text.as_bytes()).expect("an id")
    }

    const SOME: &str = "0123456789abcdef00112233445566778899aabbccddeeff";

    #[test]
    fn an_id_is_a_selector_and_a_secret() {
        let id = id(SOME);
        let selector = Selector::from_bytes(0x0123_4567_89ab_cdef_u64.to_be_bytes());
        assert_eq!(id.selector(), selector);
        assert_eq!(Key::from(&id), Key::Session(selector));
        assert_eq!(
            id.secret(),
            SecretHash::of(b"00112233445566778899aabbccddeeff")
        );
        assert_eq!(id.expose(), SOME);
    }

    #[test]
    fn only_the_exact_form_is_an_id() {
        let upper = SOME.to_uppercase();
        let long = format!("{SOME}0");
        let spaced = format!(" {}", &SOME[1..]);
        let prefixed = format!("0x{}", &SOME[2..]);
        for text in ["", &SOME[1..], &upper, &long, &spaced, &prefixed, "user:42"] {
            assert_eq!(SessionId::parse(text.as_bytes()), None, "{text:?}");
        }
        for at in 0..TEXT {
            for byte in (0..=255).filter(|byte| !b"0123456789abcdef".contains(byte)) {
                let mut text = SOME.as_bytes().to_vec();
                text[at] = byte;
                assert_eq!(SessionId::parse(&text), None, "byte {byte} at {at}");
            }
        }
    }

    #[test]
    fn ids_and_their_parts_do_not_repeat() {
        const IDS: usize = 20_000;
        let ids: Vec<_> = (0..IDS).map(|_| SessionId::generate().unwrap()).collect();
        let selectors: HashSet<_> = ids.iter().map(SessionId::selector).collect();
        let secrets: HashSet<_> = ids.iter().map(|id| *id.secret().as_bytes()).collect();
        assert_eq!((selectors.len(), secrets.len()), (IDS, IDS));
    }

    #[test]
    fn each_digit_of_an_id_takes_every_value() {
        let mut seen = [[false; 256]; TEXT];
        for _ in 0..2_000 {
            for (seen, digit) in seen.iter_mut().zip(SessionId::generate().unwrap().0) {
                seen[usize::from(digit)] = true;
            }
        }
        let values = |seen: &[bool; 256]| seen.iter().filter(|seen| **seen).count();
        assert!(seen.iter().all(|seen| values(seen) == 16));
    }

    #[test]
    fn another_secret_for_the_same_record_is_another_id() {
        let first = SessionId::generate().unwrap();
        let second = SessionId::of(first.selector()).unwrap();
        assert_eq!(second.selector(), first.selector());
        assert_ne!(second.secret(), first.secret());
        assert_eq!(SessionId::parse(second.expose().as_bytes()), Some(second));
    }

    #[test]
    fn no_digit_is_shown() {
        assert_eq!(format!("{:?}", id(SOME)), "SessionId(REDACTED)");
    }

    proptest! {
        #[test]
        fn any_selector_is_kept(bytes: [u8; 8]) {
            let selector = Selector::from_bytes(bytes);
            prop_assert_eq!(SessionId::of(selector).unwrap().selector(), selector);
        }

        #[test]
        fn any_bytes_that_are_an_id_are_written_so(text in "[0-9a-g]{48}") {
            let id = SessionId::parse(text.as_bytes());
            prop_assert_eq!(id.is_some(), !text.contains('g'));
            prop_assert!(id.is_none_or(|id| id.expose() == text));
        }
    }
}
