//! Scanning: the keys of all sessions, some at a time, from one primary after the other.

use std::fmt;

use redis::{Cmd, Value, cmd};

use crate::key;
use crate::store::StoreError;

/// How many keys the server looks at in one go at least: others' are among them.
const FEWEST: usize = 100;

/// How many slots a Cluster has.
const SLOTS: u16 = 16_384;

/// The place that a scan has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// A slot of the primary that is being scanned; of one server, 0.
    pub(super) slot: u16,
    /// Where that one goes on.
    pub(super) cursor: u64,
}

impl Cursor {
    /// Reads what `Display` wrote; the beginning for `None`.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, StoreError> {
        let Some(text) = text else {
            return Ok(Self::default());
        };
        let parsed = text.split_once('/').and_then(|(slot, cursor)| {
            let (slot, cursor) = (slot.parse().ok()?, cursor.parse().ok()?);
            (slot < SLOTS).then_some(Self { slot, cursor })
        });
        parsed.ok_or_else(StoreError::no_place)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.slot, self.cursor)
    }
}

/// Builds the command that looks at about `limit` keys.
pub(super) fn command(prefix: &str, from: Cursor, limit: usize) -> Cmd {
    let (sessions, _) = key::sessions();
    let mut command = cmd("SCAN");
    command.arg(from.cursor);
    command
        .arg("MATCH")
        .arg(format!("{}{sessions}*", literal(prefix)));
    command.arg("COUNT").arg(limit.max(FEWEST));
    command
}

/// Returns the pattern that a text alone matches.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Reads the names that were found, and where to go on; 0 at the end.
pub(super) fn found(answer: Value) -> Result<(Vec<String>, u64), StoreError> {
    let read = redis::from_redis_value::<(u64, Vec<Vec<u8>>)>(answer);
    let (cursor, names) = read.map_err(StoreError::broken)?;
    let names = names
        .into_iter()
        .filter_map(|name| String::from_utf8(name).ok());
    Ok((names.collect(), cursor))
}

/// Returns the lowest slot above `slot`'s primary that another one begins with, as `CLUSTER SLOTS` tells of them: each primary is
/// known by the lowest of its slots.
#[cfg(feature = "redis-cluster")]
pub(super) fn next_primary(answer: Value, slot: u16) -> Result<Option<u16>, StoreError> {
    type Node = (String, u16);
    let ranges = redis::from_redis_value::<Vec<Vec<Value>>>(answer).map_err(StoreError::broken)?;
    let mut lowest = std::collections::BTreeMap::<Node, u16>::new();
    for range in ranges {
        let mut range = range.into_iter();
        let (Some(first), Some(_), Some(primary)) = (range.next(), range.next(), range.next())
        else {
            continue;
        };
        let first: u16 = redis::from_redis_value(first).map_err(StoreError::broken)?;
        let Value::Array(primary) = primary else {
            continue;
        };
        let mut primary = primary.into_iter();
        let (Some(host), Some(port)) = (primary.next(), primary.next()) else {
            continue;
        };
        let host: Option<String> = redis::from_redis_value(host).map_err(StoreError::broken)?;
        let port: u16 = redis::from_redis_value(port).map_err(StoreError::broken)?;
        let lowest = lowest
            .entry((host.unwrap_or_default(), port))
            .or_insert(first);
        *lowest = first.min(*lowest);
    }
    Ok(lowest.into_values().filter(|first| *first > slot).min())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_is_one() {
        let cursor = Cursor {
            slot: 5_461,
            cursor: u64::MAX,
        };
        assert_eq!(Cursor::parse(Some(&cursor.to_string())).unwrap(), cursor);
        assert_eq!(Cursor::parse(None).unwrap(), Cursor::default());
        for text in ["", "0", "/", "a/0", "0/a", "16384/0", "70000/0", "0/-1"] {
            assert!(Cursor::parse(Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_matches_itself_alone() {
        assert_eq!(literal("shop:"), "shop:");
        assert_eq!(literal("a*[b]?\\"), "a\\*\\[b\\]\\?\\\\");
    }
}
