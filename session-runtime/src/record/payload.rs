//! The payloads of slots.

use std::ops::Deref;

use bytes::Bytes;

use super::short::Short;

/// The bytes of a slot. Few of them stand in the slot itself; many are shared.
#[derive(Clone)]
pub(crate) enum Payload {
    Short(Short<SHORT>),
    Shared(Bytes),
}

/// The most bytes for which the room of a `Bytes` is enough.
const SHORT: usize = 23;

impl Payload {
    /// Makes it of a part of `whole`, which is shared if the part is not short.
    pub(crate) fn of_part(whole: &Bytes, part: &[u8]) -> Self {
        Self::short_or(part, || whole.slice_ref(part))
    }

    fn short_or(bytes: &[u8], shared: impl FnOnce() -> Bytes) -> Self {
        Short::of(bytes).map_or_else(|| Self::Shared(shared()), Self::Short)
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::short_or(bytes, || Bytes::copy_from_slice(bytes))
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Short::of(&bytes).map_or(Self::Shared(bytes), Self::Short)
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
