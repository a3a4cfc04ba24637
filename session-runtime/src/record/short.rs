//! Bytes that are few, and have no room of their own.

use std::ops::Deref;

/// At most `N` bytes, in place.
#[derive(Clone)]
pub(crate) struct Short<const N: usize> {
    length: u8,
    bytes: [u8; N],
}

impl<const N: usize> Short<N> {
    /// Returns `None` if they are too many.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut room = [0; N];
        room.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let length = u8::try_from(bytes.len()).ok()?;
        Some(Self {
            length,
            bytes: room,
        })
    }
}

impl<const N: usize> Deref for Short<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}
