//! The servers that have the records, each with its share of them.

use redis::ConnectionInfo;

/// A primary, and which keys it has.
#[derive(Clone)]
pub(in crate::store) struct Shard {
    info: ConnectionInfo,
    keys: Keys,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Keys {
    All,
    /// The first and the last slot of each range.
    #[cfg_attr(
        not(any(feature = "redis-cluster", test)),
        expect(dead_code, reason = "one server has all")
    )]
    Of(Vec<(u16, u16)>),
}

impl PartialEq for Shard {
    fn eq(&self, other: &Self) -> bool {
        self.info.addr() == other.info.addr() && self.keys == other.keys
    }
}

impl Shard {
    /// A server that has all keys.
    pub(super) fn whole(info: ConnectionInfo) -> Self {
        Self {
            info,
            keys: Keys::All,
        }
    }

    /// A server that has the keys of these slots.
    #[cfg(any(feature = "redis-cluster", test))]
    pub(super) fn of(info: ConnectionInfo, ranges: Vec<(u16, u16)>) -> Self {
        Self {
            info,
            keys: Keys::Of(ranges),
        }
    }

    /// Returns what a connection to it is made with.
    pub(in crate::store) fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Returns `true` if keys that begin so may be here.
    pub(in crate::store) fn may_have(&self, prefix: &str) -> bool {
        match &self.keys {
            Keys::Of(ranges) => !ranges.is_empty() && (tag(prefix).is_none() || self.has(prefix)),
            Keys::All => true,
        }
    }

    /// Returns a key that begins with this prefix and name, and is here. There has to be one: [`may_have`](Self::may_have).
    pub(in crate::store) fn key(&self, prefix: &str, name: &str) -> String {
        let mut key = format!("{prefix}{name}");
        let mut n = 0;
        while !self.has(&key) {
            key = format!("{prefix}{name}:{{{n}}}");
            n += 1;
        }
        key
    }

    fn has(&self, key: &str) -> bool {
        match &self.keys {
            Keys::All => true,
            Keys::Of(ranges) => {
                let slot = slot(key);
                let mut ranges = ranges.iter();
                ranges.any(|(first, last)| (*first..=*last).contains(&slot))
            }
        }
    }
}

/// Returns the part of a key that decides on its slot, if it is not the whole.
fn tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// Returns the slot of a key: CRC-16/XMODEM, as the Cluster specification has it.
fn slot(key: &str) -> u16 {
    let crc = tag(key).unwrap_or(key).bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    });
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    fn shard(ranges: &[(u16, u16)]) -> Shard {
        let info = "redis://h".into_connection_info().expect("a URL");
        Shard::of(info, ranges.to_vec())
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // From the specification: the CRC of `123456789` is 0x31C3.
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("foo{bar}{zap}"), slot("bar"));
        assert_eq!(tag("foo{}{bar}"), None);
        assert_eq!(tag("foo{{bar}}zap"), Some("{bar"));
    }

    #[test]
    fn a_key_is_found_in_each_shard() {
        for prefix in ["", "shop:", "a{b:", "a{}b:", "}{"] {
            for ranges in [
                &[(0, 5_460)][..],
                &[(16_383, 16_383)],
                &[(7, 7), (9_000, 9_010)],
            ] {
                let shard = shard(ranges);
                assert!(shard.may_have(prefix));
                let key = shard.key(prefix, "beat:1");
                assert!(key.starts_with(prefix) && shard.has(&key), "{key}");
            }
        }
        let slot = slot("shop");
        assert!(shard(&[(slot, slot)]).may_have("{shop}:"));
        assert!(!shard(&[(0, slot - 1), (slot + 1, 16_383)]).may_have("{shop}:"));
        assert!(!shard(&[]).may_have(""));
    }
}
