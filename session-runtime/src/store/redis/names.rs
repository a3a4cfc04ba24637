//! What things are called in Redis.

use std::fmt::Write as _;

use crate::key::{Key, UserId};

const SESSION: &str = "session:{";
const USER: &str = "user:{";
const OWNED: &str = "owned:";

/// How many bytes of a session's entry in the owner index are its tag. The rest is its hash.
const TAG: usize = 4;

/// The keys of one app.
///
/// A session is `session:{tag}hash`, a user's record `user:{name}`, the sessions listed for a user
/// `owned:{name}`, each after the app's prefix. The braces are Redis Cluster's hash tag, so what
/// is in them must hold no brace and not be empty.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    /// `None` if the prefix would move the hash tag.
    pub(super) fn new(prefix: String) -> Option<Self> {
        (!prefix.contains(['{', '}'])).then_some(Self { prefix })
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn record(&self, key: &Key) -> String {
        match key {
            Key::Session(_) => format!("{}{key}", self.prefix),
            Key::User(user) => format!("{}{}", self.prefix, user_name(user)),
        }
    }

    /// Reads what [`record`](Self::record) wrote.
    pub(super) fn key(&self, record: &str) -> Option<Key> {
        let name = record.strip_prefix(&self.prefix)?;
        user_key(name).or_else(|| Key::parse(name))
    }

    /// What the keys of the owner index begin with.
    pub(super) fn owned(&self) -> String {
        format!("{}{OWNED}", self.prefix)
    }

    /// The owner index of one user, who is given as a hash tag.
    pub(super) fn owned_by(&self, tag: &str) -> String {
        format!("{}{OWNED}{{{tag}}}", self.prefix)
    }
}

fn user_name(user: &UserId) -> String {
    format!("{USER}{}}}", tag(user))
}

fn user_key(name: &str) -> Option<Key> {
    let tag = name.strip_prefix(USER)?.strip_suffix('}')?;
    user(tag).map(Key::User)
}

/// A record as the owner index lists it. That of a session is 36 bytes: a sorted set whose members have up to
/// 64 takes a fifth of the room.
pub(super) fn entry(key: &Key) -> Vec<u8> {
    match key {
        Key::User(user) => user_name(user).into_bytes(),
        Key::Session(_) => {
            let name = key.to_string();
            let parts = name
                .strip_prefix(SESSION)
                .and_then(|name| name.split_once('}'));
            let (tag, hash) = parts.unwrap_or_default();
            [tag.as_bytes(), &digest(hash)].concat()
        }
    }
}

/// Reads what [`entry`] wrote. No user's begins with hexadecimal digits.
pub(super) fn listed(entry: &[u8]) -> Option<Key> {
    let (tag, digest) = entry.split_at_checked(TAG)?;
    let mut name = format!("{SESSION}{}}}", std::str::from_utf8(tag).ok()?);
    for byte in digest {
        let _ = write!(name, "{byte:02x}");
    }
    Key::parse(&name).or_else(|| user_key(std::str::from_utf8(entry).ok()?))
}

/// The bytes of hexadecimal digits.
fn digest(digits: &str) -> Vec<u8> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or_default();
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs
        .filter_map(|pair| u8::try_from(value(&pair[0]) << 4 | value(&pair[1])).ok())
        .collect()
}

/// A user's name as a hash tag: braces, the percent sign and control characters are escaped; no name is `%`.
pub(super) fn tag(user: &UserId) -> String {
    let name = user.as_str();
    if name.is_empty() {
        return "%".to_owned();
    }
    let mut tag = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '{' | '}' | '%' | '\0'..='\x1f' | '\x7f' => {
                // Writing to a string cannot fail.
                let _ = write!(tag, "%{:02x}", u32::from(character));
            }
            other => tag.push(other),
        }
    }
    tag
}

/// The user whose name [`tag`] wrote.
fn user(tag: &str) -> Option<UserId> {
    if tag == "%" {
        return Some(UserId::new(""));
    }
    let mut parts = tag.split('%');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        name.push(char::from(u8::from_str_radix(code, 16).ok()?));
        name.push_str(rest);
    }
    Some(UserId::from(name))
}

/// Whether two records are sure to lie on one node of a Cluster.
pub(super) fn together(one: &str, other: &str) -> bool {
    hash_tag(one) == hash_tag(other)
}

fn hash_tag(record: &str) -> Option<&str> {
    let (_, tag) = record.split_once('{')?;
    Some(tag.split_once('}')?.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::SessionId;

    fn names() -> Names {
        Names::new("shop:".to_owned()).expect("a prefix")
    }

    #[test]
    fn a_prefix_must_not_move_the_hash_tag() {
        assert!(Names::new("a{b}".to_owned()).is_none());
        assert!(Names::new("a}".to_owned()).is_none());
    }

    #[test]
    fn a_name_of_braces_stays_within_its_hash_tag() {
        let key = Key::User(UserId::new("}{a}%\n"));
        assert_eq!(names().record(&key), "shop:user:{%7d%7ba%7d%25%0a}");
    }

    #[test]
    fn no_hash_tag_is_empty() {
        assert_eq!(names().record(&Key::User(UserId::new(""))), "shop:user:{%}");
    }

    #[test]
    fn a_session_and_what_it_moves_to_lie_together() {
        let id = SessionId::generate().expect("random bytes");
        let next = id.successor().expect("random bytes");
        let [one, two] = [id, next].map(|id| names().record(&Key::from(&id)));
        assert!(one != two && together(&one, &two));
        assert_eq!(names().key(&one), Some(Key::from(&id)));
        let entry = entry(&Key::from(&id));
        assert_eq!(entry.len(), 36);
        assert_eq!(listed(&entry), Some(Key::from(&id)));
    }

    proptest! {
        #[test]
        fn every_user_has_a_key_that_reads_back(name in any::<String>()) {
            let key = Key::User(UserId::from(name));
            let record = names().record(&key);
            prop_assert_eq!(hash_tag(&record).map(str::is_empty), Some(false));
            let first = record.find('}');
            prop_assert_eq!(first, Some(record.len() - 1));
            prop_assert_eq!(listed(&entry(&key)), Some(key.clone()));
            prop_assert_eq!(names().key(&record), Some(key));
        }
    }
}
