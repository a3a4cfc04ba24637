//! Signatures: what a slot's payload is recognised by.

use std::fmt;

use sha2::{Digest, Sha256};

/// Tells one value of a field from another: SHA-256 of its payload, truncated to 128 bits.
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

impl Signature {
    /// Returns the signature of `payload`.
    pub fn of(payload: &[u8]) -> Self {
        Self::truncated(Sha256::digest(payload).into())
    }

    /// Returns a signature that tells this writing of `payload` from every other, even of equal bytes: a flash
    /// that says the same as the one before is still a newer one.
    pub(crate) fn unique(payload: &[u8], nonce: u128) -> Self {
        let hash = Sha256::new()
            .chain_update(payload)
            .chain_update(nonce.to_le_bytes());
        Self::truncated(hash.finalize().into())
    }

    fn truncated(hash: [u8; 32]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        Self(half)
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
