//! The owner index of a store that has none: an entry for each owner that lists their keys.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::key::{Key, UserId};

use super::family::Data;

const LISTED: &str = "listed";

/// How long a key stays listed though no record is there: it is listed before its record is written.
const YOUNG: Duration = Duration::from_secs(60);

/// The keys of one owner, and when each was listed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed(BTreeMap<Key, Timestamp>);

impl Listed {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    pub(super) fn add(&mut self, key: &Key, now: Timestamp) {
        self.0.insert(key.clone(), now);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// The keys whose records ought to have been written by now.
    pub(super) fn settled(&self, now: Timestamp) -> Vec<Key> {
        let settled = self.0.iter().filter(|(_, at)| now.since(**at) > YOUNG);
        settled.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn to_data(&self) -> Data {
        let listed = self.0.iter();
        let listed = listed.map(|(key, at)| (key.to_string(), Value::from(at.as_millis())));
        Data::from([(LISTED.to_owned(), listed.collect())])
    }

    /// What is none of it is passed over: it is written anew with the next login.
    pub(super) fn from_data(data: &Data) -> Self {
        let listed = data.get(LISTED).and_then(Value::as_object);
        let listed = listed
            .into_iter()
            .flatten()
            .filter_map(|(key, at)| Some((Key::parse(key)?, Timestamp::from_millis(at.as_i64()?))));
        Self(listed.collect())
    }
}

/// Where a record is.
pub(super) fn id_of(key: &Key) -> i128 {
    id(&key.to_string())
}

/// Where an owner's list is. No key reads like that.
pub(super) fn list_of(owner: &UserId) -> i128 {
    id(&format!("owner:{}", owner.as_str()))
}

/// Half a digest: as many bits as an id of theirs has.
fn id(text: &str) -> i128 {
    let digest: [u8; 32] = Sha256::digest(text).into();
    digest.first_chunk().copied().map_or(0, i128::from_le_bytes)
}
