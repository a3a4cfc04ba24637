//! Bytes as text: `#[session(with = session_runtime::base64)]` above a field of bytes.
//!
//! JSON has no bytes. Without this a `Vec<u8>` is stored as a list of numbers, at three and a half characters a byte; as
//! base64 it takes one and a third. What was stored as a list still reads, so this can be added at any time.
//!
//! ```
//! use session_runtime::Session;
//!
//! #[derive(Session)]
//! struct Profile {
//!     #[session(with = session_runtime::base64)]
//!     picture: Option<Vec<u8>>,
//! }
//! # async fn show(session: Session<Profile>) -> usize { session.picture.get().as_ref().map_or(0, Vec::len) }
//! ```
//!
//! Inside of a value it is serde's attribute: `#[serde(with = "session_runtime::base64")]`.

use std::fmt;
use std::marker::PhantomData;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::ser::Serializer;

/// Types that are bytes: `Vec<u8>`, `Box<[u8]>`, `[u8; N]`, [`bytes::Bytes`](https://docs.rs/bytes), and each of them in
/// an `Option`. An app implements it for those of its own.
pub trait Binary: Sized {
    /// Returns the bytes; `None` is stored as `null`.
    fn bytes(&self) -> Option<&[u8]>;

    /// Returns the value that has these bytes, if there is one.
    fn from_bytes(bytes: Option<Vec<u8>>) -> Option<Self>;
}

macro_rules! binary {
    ($($type:ty, [$($generics:tt)*];)*) => {
        $(impl<$($generics)*> Binary for $type {
            fn bytes(&self) -> Option<&[u8]> {
                Some(self.as_ref())
            }

            fn from_bytes(bytes: Option<Vec<u8>>) -> Option<Self> {
                bytes?.try_into().ok()
            }
        })*
    };
}

binary! {
    Vec<u8>, [];
    Box<[u8]>, [];
    Bytes, [];
    [u8; N], [const N: usize];
}

impl<T: Binary> Binary for Option<T> {
    fn bytes(&self) -> Option<&[u8]> {
        self.as_ref()?.bytes()
    }

    fn from_bytes(bytes: Option<Vec<u8>>) -> Option<Self> {
        match bytes {
            None => Some(None),
            bytes => T::from_bytes(bytes).map(Some),
        }
    }
}

/// Writes bytes as base64.
///
/// # Errors
///
/// If the serializer fails.
pub fn serialize<T: Binary, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    match value.bytes() {
        Some(bytes) => to.serialize_str(&BASE64.encode(bytes)),
        None => to.serialize_none(),
    }
}

/// Reads base64, or a list of numbers.
///
/// # Errors
///
/// If it is neither, or no value of the type.
pub fn deserialize<'de, T: Binary, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(Reader(PhantomData))
}

struct Reader<T>(PhantomData<T>);

impl<T: Binary> Reader<T> {
    fn value<E: Error>(bytes: Option<Vec<u8>>) -> Result<T, E> {
        T::from_bytes(bytes).ok_or_else(|| E::custom("the bytes are no value of the type"))
    }
}

impl<'de, T: Binary> Visitor<'de> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64, or a list of bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let bytes = BASE64.decode(text);
        Self::value(Some(bytes.map_err(|_| E::custom("it is not base64"))?))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
        Self::value(Some(bytes.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Self::value(Some(bytes))
    }

    fn visit_none<E: Error>(self) -> Result<T, E> {
        Self::value(None)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Self::value(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_any(self)
    }
}
