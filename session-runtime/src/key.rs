//! Keys: the names of records in a store.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The name of a record in a store.
///
/// The two kinds are different types of name, so no id that a client sends can name a user's record.
///
/// ```
/// use session_runtime::{Key, SessionId, UserId};
///
/// let key = Key::from(&SessionId::generate()?);
/// assert_eq!(Key::parse(&key.to_string()), Some(key));
/// let user = Key::User(UserId::new("42"));
/// assert_eq!(user.to_string(), "user:42");
/// # Ok::<(), session_runtime::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Key {
    /// A browser's session.
    Session(Selector),
    /// What follows a user from device to device.
    User(UserId),
}

/// The part of a session id that names its record: 64 random bits. No secret: it opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector(u64);

impl Selector {
    /// Returns the selector of these bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// Returns the bytes, in the order of the digits.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Returns what the session is called towards users and in logs: 64 bits of a hash, in hexadecimal. The selector
    /// cannot be told from it.
    pub(crate) fn public_name(self) -> String {
        let hash = Sha256::digest(self.to_bytes());
        let first: [u8; 8] = hash.first_chunk().copied().unwrap_or_default();
        let digits: [u8; 16] = to_hex(first);
        ascii(&digits).to_owned()
    }
}

/// How many bytes a user's name may have: what every store can hold in a key.
pub(crate) const LONGEST_NAME: usize = 1024;

/// An app's own name for one of its users: up to 1,024 bytes.
///
/// ```
/// use session_runtime::UserId;
/// assert_eq!(UserId::from(42_u64), UserId::new("42"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Box<str>);

impl UserId {
    /// Refuses a name that stores cannot hold.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let size = self.0.len();
        if size > LONGEST_NAME {
            Err(Error::user_name(size, LONGEST_NAME))
        } else {
            Ok(())
        }
    }

    /// Makes the id of the user of that name; whatever text the app identifies users by.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the name, as [`str::parse`] does: `user.parse::<i64>()`.
    ///
    /// # Errors
    ///
    /// If the name is not of that form.
    pub fn parse<T: FromStr>(&self) -> Result<T, T::Err> {
        self.as_str().parse()
    }
}

/// Types that name a user: whatever converts into a [`UserId`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a user",
    label = "neither text nor an integer",
    note = "write `user.id.to_string()`, or implement `From<{Self}> for session_runtime::UserId`"
)]
pub trait IntoUserId {
    /// Converts it.
    fn into_user_id(self) -> UserId;
}

/// The future of a function that takes one: of an `async fn` the compiler would say thrice that a type names no user.
pub(crate) type UserFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[diagnostic::do_not_recommend]
impl<T: Into<UserId>> IntoUserId for T {
    fn into_user_id(self) -> UserId {
        self.into()
    }
}

macro_rules! from_text {
    ($($text:ty),*) => {
        $(impl From<$text> for UserId {
            fn from(name: $text) -> Self {
                Self::new(name)
            }
        })*
    };
}

from_text!(&str, String, Box<str>, Cow<'_, str>);

impl From<&String> for UserId {
    fn from(name: &String) -> Self {
        Self::new(name.as_str())
    }
}

macro_rules! from_numbers {
    ($($number:ty),*) => {
        $(impl From<$number> for UserId {
            fn from(number: $number) -> Self {
                Self::new(number.to_string())
            }
        })*
    };
}

from_numbers!(
    i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize
);

#[cfg(feature = "uuid")]
impl From<uuid::Uuid> for UserId {
    fn from(id: uuid::Uuid) -> Self {
        Self::new(id.to_string())
    }
}

impl From<&Self> for UserId {
    fn from(user: &Self) -> Self {
        user.clone()
    }
}

impl AsRef<str> for UserId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for UserId {
    fn eq(&self, name: &str) -> bool {
        self.as_str() == name
    }
}

impl PartialEq<&str> for UserId {
    fn eq(&self, name: &&str) -> bool {
        self.as_str() == *name
    }
}

impl PartialEq<String> for UserId {
    fn eq(&self, name: &String) -> bool {
        self.as_str() == name
    }
}

impl fmt::Display for UserId {
    /// Writes the name. `Debug` does not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId(REDACTED)")
    }
}

impl From<Selector> for Key {
    fn from(selector: Selector) -> Self {
        Self::Session(selector)
    }
}

const SESSION: &str = "session:";
const USER: &str = "user:";

impl fmt::Display for Key {
    /// Writes the key as stores do: `session:` and 16 hexadecimal digits, or `user:` and the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(selector) => {
                let digits: [u8; 16] = to_hex(selector.to_bytes());
                write!(f, "{SESSION}{}", ascii(&digits))
            }
            Self::User(UserId(name)) => write!(f, "{USER}{name}"),
        }
    }
}

/// Returns the two texts between which the keys of all sessions are, and no user's.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
    allow(dead_code)
)]
pub(crate) const fn sessions() -> (&'static str, &'static str) {
    (SESSION, "session;") // `;` comes after `:`
}

impl Key {
    /// Reads what `Display` wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix(USER) {
            return Some(Self::User(UserId::new(name)));
        }
        let digits = text.strip_prefix(SESSION)?;
        let exact = digits.len() == 16
            && digits
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let selector = exact.then(|| u64::from_str_radix(digits, 16).ok())?;
        selector.map(|bits| Self::Session(Selector(bits)))
    }

    pub(crate) fn is_user(&self) -> bool {
        matches!(self, Self::User(_))
    }

    /// Returns a number that spreads keys evenly, for choosing a shard or a queue.
    pub(crate) fn spread(&self) -> u64 {
        match self {
            Self::Session(selector) => selector.0,
            Self::User(UserId(name)) => {
                // Short names that differ little still spread.
                fnv_1a(name)
            }
        }
    }
}

impl Serialize for Selector {
    /// Writes the key, as it stands in the store.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Key::from(*self))
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Key::parse(&String::deserialize(deserializer)?) {
            Some(Key::Session(selector)) => Ok(selector),
            _ => Err(D::Error::custom("not the key of a session")),
        }
    }
}

/// Returns the FNV-1a hash of a text: the same in every process and version.
pub(crate) fn fnv_1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn ascii(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl fmt::Debug for Selector {
    /// Writes half of the public name: enough to follow one session through a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", &self.public_name()[..8])
    }
}

/// Writes `bytes` as lower-case hexadecimal digits.
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::{IntoUserId, Key, Selector, UserId};
    use crate::record::arbitrary::text;

    fn session(number: u64) -> Key {
        Key::Session(Selector::from_bytes(number.to_be_bytes()))
    }

    #[cfg(feature = "uuid")]
    #[test]
    fn a_uuid_names_a_user_and_parses_back() {
        let id = uuid::Uuid::from_u128(0x1234_5678 << 96 | 0x2a);
        let user = id.into_user_id();
        assert_eq!(user.as_str(), "12345678-0000-0000-0000-00000000002a");
        assert_eq!(user.parse::<uuid::Uuid>(), Ok(id));
    }

    #[test]
    fn keys_are_written_as_stores_keep_them() {
        assert_eq!(session(0x1f).to_string(), "session:000000000000001f");
        assert_eq!(session(u64::MAX).to_string(), "session:ffffffffffffffff");
        assert_eq!(Key::User(UserId::new("")).to_string(), "user:");
    }

    #[test]
    fn only_the_exact_form_is_a_key() {
        for text in [
            "",
            "session:",
            "session:1f",
            "session:000000000000001F",
            "session:00000000000000001f",
            "session:+00000000000001f",
            "session: 00000000000001f",
            "session:000000000000001g",
            " session:000000000000001f",
            "Session:000000000000001f",
            "000000000000001f",
            "users:ada",
            "USER:ada",
            "ada",
        ] {
            assert_eq!(Key::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn no_user_is_a_session() {
        let key = session(7);
        let user = Key::User(UserId::new(key.to_string()));
        assert_ne!(user, key);
        assert_eq!(Key::parse(&user.to_string()), Some(user));
    }

    #[test]
    fn neither_user_nor_selector_is_shown() {
        let key = session(0x0123_4567_89ab_cdef);
        let shown = format!("{key:?} {:?}", Key::User(UserId::new("canary")));
        assert!(
            !shown.contains("0123") && !shown.contains("cdef"),
            "{shown}"
        );
        assert!(!shown.contains("81985529216486895"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn a_user_is_named_by_whatever_apps_number_or_call_users_by() {
        fn named(user: impl IntoUserId) -> UserId {
            user.into_user_id()
        }
        let name = String::from("42");
        let (borrowed, user) = (Cow::Borrowed("42"), UserId::new("42"));
        let numbers = [
            named(42),
            named(42_i32),
            named(42_u32),
            named(42_usize),
            named(42_i128),
        ];
        let texts = [
            named(&name),
            named(borrowed),
            named(Box::<str>::from("42")),
            named(&user),
            named(user),
        ];
        for user in numbers.iter().chain(&texts) {
            assert!(*user == "42" && *user == name);
            assert_eq!(user.to_string(), "42");
            assert_eq!(user.parse::<i64>(), Ok(42));
        }
    }

    #[test]
    fn a_public_name_is_no_selector() {
        let selector = Selector::from_bytes([7; 8]);
        let name = selector.public_name();
        assert_eq!(name.len(), 16);
        assert_ne!(name, "0707070707070707");
        assert_eq!(name, Selector::from_bytes([7; 8]).public_name());
        assert_ne!(name, Selector::from_bytes([8; 8]).public_name());
        assert!(format!("{selector:?}").contains(&name[..8]));
    }

    #[test]
    fn users_of_little_difference_spread() {
        let mut counts = [0; 16];
        for number in 0..1_600_u64 {
            let spread = Key::User(UserId::from(number)).spread();
            counts[usize::from(spread.to_le_bytes()[0]) % 16] += 1;
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }

    proptest! {
        #[test]
        fn any_key_comes_back(number: u64, name in text()) {
            for key in [session(number), Key::User(UserId::from(name))] {
                prop_assert_eq!(Key::parse(&key.to_string()), Some(key));
            }
        }

        #[test]
        fn any_text_that_is_a_key_is_written_so(text in text()) {
            if let Some(key) = Key::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }

        #[test]
        fn any_selector_comes_back(bytes: [u8; 8]) {
            prop_assert_eq!(Selector::from_bytes(bytes).to_bytes(), bytes);
        }
    }
}
