//! Which records each user owns.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::lock;
use crate::key::{Key, UserId};

/// The owner index. It is locked after a shard, never before one.
///
/// A record is listed before it is there and unlisted after it has gone: one may be listed in vain, none
/// is there unlisted.
#[derive(Default)]
pub(super) struct Owners(Mutex<HashMap<UserId, HashSet<Key>>>);

impl Owners {
    pub(super) fn keys(&self, owner: &UserId) -> Vec<Key> {
        lock(&self.0)
            .get(owner)
            .map(|keys| keys.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn list(&self, owner: &UserId, key: &Key) {
        let mut owners = lock(&self.0);
        match owners.get_mut(owner) {
            Some(keys) => keys.insert(key.clone()),
            None => owners.entry(owner.clone()).or_default().insert(key.clone()),
        };
    }

    pub(super) fn unlist(&self, owner: &UserId, key: &Key) {
        let mut owners = lock(&self.0);
        let Some(keys) = owners.get_mut(owner) else {
            return;
        };
        keys.remove(key);
        if keys.is_empty() {
            owners.remove(owner);
        }
    }
}
