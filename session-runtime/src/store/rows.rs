//! Records as rows of a table: one for the head, and one for each of the larger payloads beside it.

use std::str;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::frame::{self, Delta};
use crate::key::{Key, LONGEST_NAME};
use crate::record::{Record, Version};
use crate::store::{Scanned, StoreError};

/// The name of a record's own row. What stands beside it has the names of its slots, which are text and never this.
pub(super) const HEAD: &[u8] = b"\xff";

/// The most bytes of a slot's name that stand in an index; of a longer one, a hash does.
const LONGEST_SLOT: usize = 255;

/// How many bytes of small payloads stand in the record's own row.
const ROOM: usize = 2 << 10;

/// A swap, as rows that are written and removed.
pub(super) struct RowSwap<'a> {
    pub(super) key: &'a [u8],
    pub(super) version: i64,
    pub(super) expires: i64,
    pub(super) head: Vec<u8>,
    pub(super) before: Option<i64>,
    pub(super) removed: Vec<Vec<u8>>,
    /// The names of what is written beside the head, and the payloads in the same order.
    pub(super) names: Vec<Vec<u8>>,
    pub(super) payloads: Vec<&'a [u8]>,
}

impl<'a> RowSwap<'a> {
    pub(super) fn new(key: &'a [u8], before: Option<&'a Record>, after: &'a Record) -> Self {
        let Delta {
            head,
            written,
            removed,
        } = frame::delta(before, after, ROOM);
        let names = written.iter().map(|slot| row_name(slot.name().as_str()));
        let removed = removed.iter().map(|name| row_name(name.as_str()));
        Self {
            key,
            version: number(after.version()),
            expires: after.expires().as_millis(),
            head,
            before: before.map(|before| number(before.version())),
            removed: removed.collect(),
            names: names.collect(),
            payloads: written.iter().map(|slot| slot.payload()).collect(),
        }
    }

    /// Returns `true` if nothing beside the head changes.
    pub(super) fn is_head_alone(&self) -> bool {
        self.removed.is_empty() && self.names.is_empty()
    }
}

/// Returns the version as a number that the server compares.
fn number(version: Version) -> i64 {
    i64::from_le_bytes(version.to_bytes())
}

/// Returns the key as the tables of `store` have it.
pub(super) fn key_bytes(key: &Key, store: &str) -> Result<Vec<u8>, StoreError> {
    if let Key::User(user) = key {
        let size = user.as_str().len();
        if size > LONGEST_NAME {
            return Err(StoreError::broken(format!(
                "a user's name of {size} bytes: {store} takes {LONGEST_NAME} at most"
            )));
        }
    }
    Ok(key.to_string().into_bytes())
}

/// Returns the name of the row in which a slot's payload stands beside its record.
fn row_name(slot: &str) -> Vec<u8> {
    if slot.len() <= LONGEST_SLOT {
        return slot.as_bytes().to_vec();
    }
    // Which no text begins with, either.
    let mut name = HEAD.to_vec();
    name.extend_from_slice(&Sha256::digest(slot));
    name
}

/// Reads a record from its rows, each a name and a payload: that of its head, and those beside it.
pub(super) fn record<N: AsRef<[u8]>, P>(
    mut rows: Vec<(N, P)>,
    bytes: impl Fn(&P) -> Bytes,
) -> Result<Option<Arc<Record>>, StoreError> {
    // There may be thousands.
    rows.sort_unstable_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
    let find = |name: &[u8]| {
        let at = rows.binary_search_by(|(other, _)| other.as_ref().cmp(name));
        at.ok().map(|at| bytes(&rows[at].1))
    };
    let Some(head) = find(HEAD) else {
        return Ok(None);
    };
    let record = frame::unpack(&head, |slot| find(&row_name(slot)))?;
    Ok(Some(Arc::new(record)))
}

/// Makes the answer of a scan of the keys that it has found, in their order.
pub(super) fn scanned(keys: &[Vec<u8>], limit: usize) -> Result<Scanned, StoreError> {
    let texts = keys.iter().filter_map(|key| str::from_utf8(key).ok());
    let mut scanned = Scanned::ordered(texts, usize::MAX);
    if let Some(last) = keys.last().filter(|_| keys.len() >= limit) {
        let last = str::from_utf8(last).map_err(|_| {
            StoreError::broken("a row's key is no text: another program has put it there")
        })?;
        scanned.next = Some(last.to_owned());
    }
    Ok(scanned)
}
