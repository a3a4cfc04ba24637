//! A record as an entry of a store that holds JSON.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde_json::Value;

use crate::change::{Change, CommitId, Kind};
use crate::error::StoreError;
use crate::frame;
use crate::key::UserId;
use crate::record::Record;

use super::family::Data;

const RECORD: &str = "record";
const OWNER: &str = "owner";
const COMMITS: &str = "commits";

/// How many commits an entry names: those whose answer may have been lost, and a few more.
const NAMED: usize = 8;

/// A record, and what is kept with it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) record: Arc<Record>,
    pub(super) owner: Option<UserId>,
    /// The last commits that were applied to it, the latest last. That they are written together with the
    /// record tells whether a commit whose answer was lost has happened.
    pub(super) commits: Vec<CommitId>,
}

impl Entry {
    /// What the change makes of what is held, if anything is.
    pub(super) fn after(change: &Change, held: Option<&Self>) -> Self {
        let kept = held.filter(|_| change.kind != Kind::Create);
        let mut record = kept.map_or_else(
            || Record::new(change.now, change.now),
            |held| Record::clone(&held.record),
        );
        change.apply(&mut record);
        let owner = change.owner.as_ref();
        Self {
            record: Arc::new(record),
            owner: owner.or(kept.and_then(|held| held.owner.as_ref())).cloned(),
            commits: named(change.id, held),
        }
    }

    /// What is left of what is held after a move or an end.
    pub(super) fn tombstone(change: &Change, held: Option<&Self>) -> Option<Self> {
        Some(Self {
            record: Arc::new(change.tombstone()?),
            owner: None,
            commits: named(change.id, held),
        })
    }

    pub(super) fn names(&self, commit: CommitId) -> bool {
        self.commits.contains(&commit)
    }

    pub(super) fn to_data(&self) -> Data {
        let commits: Vec<u8> = self.commits.iter().flat_map(|id| id.to_bytes()).collect();
        let mut data = Data::from([
            (RECORD.to_owned(), text(&frame::encode(&self.record))),
            (COMMITS.to_owned(), text(&commits)),
        ]);
        if let Some(owner) = &self.owner {
            data.insert(OWNER.to_owned(), Value::from(owner.as_str()));
        }
        data
    }

    pub(super) fn from_data(data: &Data) -> Result<Self, StoreError> {
        let frame = bytes(data, RECORD).ok_or_else(foreign)?;
        let commits = bytes(data, COMMITS).ok_or_else(foreign)?;
        let commits = commits.as_chunks().0.iter().copied();
        let owner = data.get(OWNER).and_then(Value::as_str);
        Ok(Self {
            record: Arc::new(frame::decode(&frame.into())?),
            owner: owner.map(UserId::from),
            commits: commits.map(CommitId::from_bytes).collect(),
        })
    }
}

fn named(commit: CommitId, held: Option<&Entry>) -> Vec<CommitId> {
    let before = held.map_or(&[][..], |held| &held.commits);
    let last = &before[before.len().saturating_sub(NAMED - 1)..];
    last.iter().copied().chain([commit]).collect()
}

fn text(bytes: &[u8]) -> Value {
    Value::from(BASE64.encode(bytes))
}

fn bytes(data: &Data, name: &str) -> Option<Vec<u8>> {
    BASE64.decode(data.get(name)?.as_str()?).ok()
}

fn foreign() -> StoreError {
    StoreError::broken(
        "what is stored there is no record of this library: give the sessions a table or a prefix of their own",
    )
}
