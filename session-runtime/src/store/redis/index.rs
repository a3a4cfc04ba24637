//! The owner index: a sorted set for each user, of the keys of records and when they expire as far as known.
//!
//! A record is listed before it is there, and taken out when it ends or moves. What else becomes of it, the index
//! need not follow: the record itself says whose it is, and is asked. Entries that have had their time, and whose
//! record is gone, are taken out after the next login, or when the user is deleted.

use std::collections::HashSet;
use std::time::Duration;

use redis::{Cmd, Value, cmd};

use super::RedisStore;
use super::fault::Failure;
use super::names;
use super::wire::{self, Standing};
use crate::change::{Change, Expiry};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::{Key, UserId};
/// How long an entry whose record has yet to be written is left alone.
const YOUNG: Duration = Duration::from_secs(10 * 60);

/// How many entries are looked at together.
const SOME: usize = 64;

/// Takes entries out, unless they have been written anew since. Takes no room, so it runs on a full server too.
const REMOVE: &str = "#!lua flags=allow-oom
for at = 2, #ARGV do
  local until_ = redis.call('ZSCORE', KEYS[1], ARGV[at])
  if until_ and tonumber(until_) <= tonumber(ARGV[1]) then redis.call('ZREM', KEYS[1], ARGV[at]) end
end";

impl RedisStore {
    /// Lists the record that `change` makes, under the owner of that hash tag, ahead of it.
    pub(super) async fn list(
        &self,
        owner: &str,
        entry: &[u8],
        change: &Change,
    ) -> Result<(), StoreError> {
        let expires = match change.expiry {
            Expiry::Keep => change.now,
            Expiry::Extend(to) | Expiry::Set(to) => to,
        };
        let expires = expires.max(change.now + YOUNG);
        let mut list = cmd("ZADD");
        list.arg(self.names.owned_by(owner));
        list.arg("GT").arg(expires.as_millis()).arg(entry);
        self.link.ask(&list).await?;
        Ok(())
    }

    /// The keys of all records of that owner. One that has moved since its entry was read is followed: its new
    /// entry may not have been there yet.
    pub(super) async fn listed(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        let owner = names::tag(owner);
        let mut all = cmd("ZRANGE");
        all.arg(self.names.owned_by(&owner)).arg(0).arg(-1);
        let entries = entries(self.read(&all).await?);
        let keys = entries.iter().filter_map(|entry| names::listed(entry));
        let mut asked: Vec<_> = keys.map(|key| self.names.record(&key)).collect();
        let (mut seen, mut theirs) = (HashSet::new(), Vec::new());
        while !asked.is_empty() {
            let found = self.standings(&asked).await?;
            // What is not there may be there by the time that something is found to have moved to it.
            let there = asked.iter().zip(&found);
            let there = there.filter(|(_, standing)| !matches!(standing, Standing::Other));
            seen.extend(there.map(|(record, _)| record.clone()));
            let mut moved = Vec::new();
            for (record, standing) in asked.iter().zip(found) {
                match standing {
                    Standing::Owned(by) if by == owner => theirs.extend(self.names.key(record)),
                    Standing::Moved(to) if !seen.contains(&to) => moved.push(to),
                    _ => {}
                }
            }
            asked = moved;
        }
        Ok(theirs)
    }

    /// What each of these records says of its owner.
    async fn standings(&self, records: &[String]) -> Result<Vec<Standing>, StoreError> {
        let ask = |record: &String| {
            let mut fields = cmd("HMGET");
            fields.arg(record).arg("record").arg("detail").arg("owner");
            fields
        };
        let found = self.link.ask_all(records.iter().map(ask).collect()).await?;
        found.into_iter().map(wire::standing).collect()
    }

    /// Takes a record that has ended or moved out of the list of that owner, given as a hash tag, in the background:
    /// if that fails, it is taken out when it has had its time.
    pub(super) fn unlist_later(&self, owner: &str, entry: Vec<u8>) {
        let mut remove = cmd("ZREM");
        remove.arg(self.names.owned_by(owner)).arg(entry);
        let store = self.clone();
        tokio::spawn(async move { store.send(&remove).await });
    }

    /// Takes out what has had its time, in the background: nobody has to wait for it, and what fails is done
    /// after the next login.
    pub(super) fn trim_later(&self, owner: &UserId, now: Timestamp) {
        let (store, owner) = (self.clone(), names::tag(owner));
        tokio::spawn(async move {
            if let Err(error) = store.trim(&owner, now).await {
                tracing::debug!(%error, "an owner's list of sessions could not be trimmed");
            }
        });
    }

    async fn trim(&self, owner: &str, now: Timestamp) -> Result<(), StoreError> {
        let index = self.names.owned_by(owner);
        let mut due = cmd("ZRANGE");
        due.arg(&index).arg("-inf").arg(now.as_millis());
        due.arg("BYSCORE").arg("LIMIT").arg(0).arg(SOME);
        loop {
            let some = entries(self.link.ask(&due).await?);
            self.look_after(owner, &index, now, &some).await?;
            if some.len() < SOME {
                return Ok(());
            }
        }
    }

    /// Has none of these entries be due any more.
    async fn look_after(
        &self,
        owner: &str,
        index: &str,
        now: Timestamp,
        due: &[Vec<u8>],
    ) -> Result<(), StoreError> {
        // What is no entry leads to no record, and goes.
        let keys = due.iter().map(|entry| names::listed(entry));
        let records: Vec<_> = keys
            .map(|key| key.map_or_else(String::new, |key| self.names.record(&key)))
            .collect();
        let (mut theirs, mut gone) = (Vec::new(), Vec::new());
        for (entry, standing) in due.iter().zip(self.standings(&records).await?) {
            match standing {
                Standing::Owned(by) if by == owner => theirs.push(entry),
                _ => gone.push(entry),
            }
        }
        self.remove(index, now, gone).await?;
        self.defer(index, now, theirs).await?;
        Ok(())
    }

    async fn remove(
        &self,
        index: &str,
        now: Timestamp,
        entries: Vec<&Vec<u8>>,
    ) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut remove = cmd("EVAL");
        remove
            .arg(REMOVE)
            .arg(1)
            .arg(index)
            .arg(now.as_millis())
            .arg(entries);
        self.link.ask(&remove).await.map(drop)
    }

    /// Records that are still there have been extended: they are looked at again in a while.
    async fn defer(
        &self,
        index: &str,
        now: Timestamp,
        entries: Vec<&Vec<u8>>,
    ) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let later = (now + YOUNG).as_millis();
        let mut defer: Cmd = cmd("ZADD");
        defer.arg(index).arg("XX").arg("GT");
        for entry in entries {
            defer.arg(later).arg(entry);
        }
        self.link.ask(&defer).await.map(drop)
    }
}

fn entries(value: Value) -> Vec<Vec<u8>> {
    let Value::Array(values) = value else {
        return Vec::new();
    };
    let entries = values.into_iter().filter_map(|value| match value {
        Value::BulkString(entry) => Some(entry),
        _ => None,
    });
    entries.collect()
}
