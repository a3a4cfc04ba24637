//! The payloads of slots.

use std::ops::Deref;

use bytes::Bytes;

/// The bytes of a slot. Few of them stand in the slot itself; many are shared.
#[derive(Clone)]
pub(crate) enum Payload {
    Short { length: u8, bytes: [u8; SHORT] },
    Shared(Bytes),
}

/// The most bytes for which the room of a `Bytes` is enough.
const SHORT: usize = 23;

impl Payload {
    /// Makes it of a part of `whole`, which is shared if the part is not short.
    pub(crate) fn of_part(whole: &Bytes, part: &[u8]) -> Self {
        Self::short(part).unwrap_or_else(|| Self::Shared(whole.slice_ref(part)))
    }

    fn short(bytes: &[u8]) -> Option<Self> {
        let mut room = [0; SHORT];
        room.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let length = u8::try_from(bytes.len()).ok()?;
        Some(Self::Short {
            length,
            bytes: room,
        })
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::short(bytes).unwrap_or_else(|| Self::Shared(Bytes::copy_from_slice(bytes)))
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::short(&bytes).unwrap_or(Self::Shared(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_their_bytes_and_share_the_long_ones() {
        let whole = Bytes::from(vec![7; 60]);
        for length in 0..=60 {
            let part = &whole[..length];
            let payloads = [
                Payload::from(part),
                Payload::from(whole.slice_ref(part)),
                Payload::of_part(&whole, part),
            ];
            for payload in &payloads {
                assert_eq!(&**payload, part);
                assert_eq!(&*payload.clone(), part);
            }
            let is_shared = payloads[2].as_ptr() == whole.as_ptr();
            assert_eq!(is_shared, length > SHORT, "{length}");
        }
    }

    #[test]
    fn short_ones_take_the_room_that_a_slot_has_anyway() {
        assert_eq!(size_of::<Payload>(), size_of::<Bytes>());
    }
}
