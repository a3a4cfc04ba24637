//! Signatures: what a slot's payload is recognised by.

use std::fmt;

use sha2::{Digest, Sha256};

/// Tells one value of a field from another: a payload shorter than a signature is one itself, of any other it is SHA-256,
/// truncated to 127 bits.
///
/// It decides field by field which of two sides has changed what. Stores keep it, and do not look at it.
///
/// ```
/// use session_runtime::store::Signature;
///
/// assert_eq!(Signature::of(b"1"), Signature::of(b"1"));
/// assert_ne!(Signature::of(b"1"), Signature::of(b"2"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 16]);

/// Bytes of a signature.
const BYTES: usize = 16;

/// The bit that the first byte of a hash has, and of a length has not.
const HASH: u8 = 0x80;

impl Signature {
    /// Returns the signature of `payload`.
    pub fn of(payload: &[u8]) -> Self {
        let mut bytes = [0; BYTES];
        if let Some(own) = bytes[1..].get_mut(..payload.len()) {
            own.copy_from_slice(payload);
            bytes[0] = u8::try_from(payload.len()).unwrap_or_default(); // less than 16
            return Self(bytes);
        }
        let hash = Sha256::digest(payload);
        Self::unique(hash.first_chunk().copied().unwrap_or_default())
    }

    /// Returns a signature that tells this writing of a payload from every other, even of equal bytes: a flash that says
    /// the same as the one before is still a newer one.
    pub(crate) const fn unique(mut random: [u8; BYTES]) -> Self {
        random[0] |= HASH;
        Self(random)
    }

    /// Returns the signature whose bytes these are, as a store kept them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, for a store to keep.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    /// Writes nothing of it: a short payload could be guessed back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(REDACTED)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_payloads_are_their_own_signatures_and_differ_from_every_hash() {
        for length in 0..=40 {
            let payload = vec![b'x'; length];
            let signature = Signature::of(&payload);
            let is_hash = signature.as_bytes()[0] & HASH != 0;
            assert_eq!(is_hash, length > 15, "{length}");
            assert_eq!(signature, Signature::of(&payload));
            for other in [&payload[..length / 2], b"x\0", b"\0"] {
                assert_eq!(signature == Signature::of(other), payload == other);
            }
        }
    }
}
