//! Changes as parameters, and rows as records.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::str;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::change::{Change, Committed, Expiry, Kind, SlotChange, SlotOp};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::{Key, UserId};
use crate::record::{Ended, Record, Slot, State};
use crate::signature::Signature;
use crate::store::Swept;
use crate::store::token::Token;

const LIVE: &str = "live";
const MOVED: &str = "moved";
const CLAIMED: &str = "claimed";
const SHARED: &str = "shared";
const DELETED: &str = "deleted";

/// Names go into indexes, whose entries PostgreSQL limits.
const LONGEST_NAME: usize = 1024;

/// A commit as the function takes it: named as its parameters are, and in their order.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    token: Sixteen,
    key: Vec<u8>,
    now: i64,
    kind: &'static str,
    state: &'static str,
    detail: Option<Vec<u8>>,
    since: Option<i64>,
    until: Option<i64>,
    extend: Option<i64>,
    expires: Option<i64>,
    owner: Option<&'a [u8]>,
    retire: Option<Vec<u8>>,
    retire_at: Option<i64>,
    names: Vec<&'a [u8]>,
    expected: Vec<Option<Sixteen>>,
    set: Option<Vec<&'a [u8]>>,
    payloads: Option<Vec<&'a [u8]>>,
    lapses: Option<Vec<Option<i64>>>,
    signatures: Option<Vec<Sixteen>>,
    retimed: Option<Vec<&'a [u8]>>,
    retimed_to: Option<Vec<Option<i64>>>,
    dropped: Option<Vec<&'a [u8]>>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(key: &Key, change: &'a Change) -> Result<Self, StoreError> {
        let mut ask = Self::of_record(key, change)?;
        for slot in &change.slots {
            ask.compare(slot.name.as_str(), slot.expected());
        }
        for (name, expected) in &change.unchanged {
            ask.compare(name.as_str(), *expected);
        }
        for (name, end) in ends(&change.slots) {
            ask.write(name.as_bytes(), &end);
        }
        Ok(ask)
    }

    fn of_record(key: &Key, change: &'a Change) -> Result<Self, StoreError> {
        let becomes = Becomes::new(change)?;
        let (extend, expires) = match change.expiry {
            Expiry::Keep => (None, None),
            Expiry::Extend(to) => (Some(to.as_millis()), None),
            Expiry::Set(to) => (None, Some(to.as_millis())),
        };
        let retire = change.retire.as_ref();
        Ok(Self {
            token: Sixteen(Token::new(key, change.id).to_bytes()),
            key: key_bytes(key)?,
            now: change.now.as_millis(),
            kind: becomes.kind,
            state: becomes.state,
            detail: becomes.detail,
            since: becomes.since.map(Timestamp::as_millis),
            until: change.tombstone().map(|left| left.expires.as_millis()),
            extend,
            expires,
            owner: change.owner.as_ref().map(user_bytes).transpose()?,
            retire: retire.map(|(key, _)| key_bytes(key)).transpose()?,
            retire_at: retire.map(|(_, at)| at.as_millis()),
            names: Vec::new(),
            expected: Vec::new(),
            set: None,
            payloads: None,
            lapses: None,
            signatures: None,
            retimed: None,
            retimed_to: None,
            dropped: None,
        })
    }

    fn compare(&mut self, name: &'a str, expected: Option<Signature>) {
        self.names.push(name.as_bytes());
        self.expected.push(expected.map(Sixteen::from));
    }

    fn write(&mut self, name: &'a [u8], end: &End<'a>) {
        match *end {
            End::Set(slot, expires) => {
                push(&mut self.set, name);
                push(&mut self.payloads, slot.payload().as_ref());
                push(&mut self.lapses, expires.map(Timestamp::as_millis));
                push(&mut self.signatures, slot.signature().into());
            }
            End::Retimed(expires) => {
                push(&mut self.retimed, name);
                push(&mut self.retimed_to, expires.map(Timestamp::as_millis));
            }
            End::Dropped => push(&mut self.dropped, name),
        }
    }

    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 22] {
        [
            &self.token,
            &self.key,
            &self.now,
            &self.kind,
            &self.state,
            &self.detail,
            &self.since,
            &self.until,
            &self.extend,
            &self.expires,
            &self.owner,
            &self.retire,
            &self.retire_at,
            &self.names,
            &self.expected,
            &self.set,
            &self.payloads,
            &self.lapses,
            &self.signatures,
            &self.retimed,
            &self.retimed_to,
            &self.dropped,
        ]
    }
}

fn push<T>(list: &mut Option<Vec<T>>, item: T) {
    list.get_or_insert_default().push(item);
}

/// What a change makes of the record as a whole.
struct Becomes {
    kind: &'static str,
    state: &'static str,
    detail: Option<Vec<u8>>,
    since: Option<Timestamp>,
}

impl Becomes {
    fn new(change: &Change) -> Result<Self, StoreError> {
        let (kind, state) = match &change.kind {
            Kind::Create => ("create", LIVE),
            Kind::Update => ("update", LIVE),
            Kind::Move(..) => ("move", MOVED),
            Kind::End(reason) => ("end", name_of(reason)),
            Kind::Claim(_) => ("claim", CLAIMED),
            Kind::Release(_) => ("release", LIVE),
        };
        let detail = match &change.kind {
            Kind::Move(to, _) => Some(key_bytes(to)?),
            Kind::End(Ended::Deleted(reason)) => Some(reason.as_bytes().to_vec()),
            Kind::Claim(user) => Some(user.as_str().as_bytes().to_vec()),
            _ => None,
        };
        let since = match change.kind {
            Kind::Claim(_) => Some(change.now),
            Kind::Release(at) => Some(at),
            _ => None,
        };
        Ok(Self {
            kind,
            state,
            detail,
            since,
        })
    }
}

/// What becomes of a slot in the end.
enum End<'a> {
    Set(&'a Slot, Option<Timestamp>),
    Retimed(Option<Timestamp>),
    Dropped,
}

/// By name, since a statement can write a row once: of a slot that a change names twice, what both come to.
fn ends(slots: &[SlotChange]) -> BTreeMap<&str, End<'_>> {
    let mut ends = BTreeMap::new();
    for slot in slots {
        let name = slot.name.as_str();
        let end = match (&slot.to, ends.remove(name)) {
            (SlotOp::Set(new), _) => End::Set(new, new.expires()),
            (SlotOp::Drop, _) | (SlotOp::Retime(_), Some(End::Dropped)) => End::Dropped,
            (SlotOp::Retime(expires), Some(End::Set(new, _))) => End::Set(new, *expires),
            (SlotOp::Retime(expires), _) => End::Retimed(*expires),
        };
        ends.insert(name, end);
    }
    ends
}

pub(super) fn key_bytes(key: &Key) -> Result<Vec<u8>, StoreError> {
    if let Key::User(user) = key {
        user_bytes(user)?;
    }
    Ok(key.to_string().into_bytes())
}

pub(super) fn user_bytes(user: &UserId) -> Result<&[u8], StoreError> {
    let name = user.as_str().as_bytes();
    if name.len() > LONGEST_NAME {
        let size = name.len();
        return Err(StoreError::broken(format!(
            "a user's name of {size} bytes: PostgresStore takes {LONGEST_NAME} at most"
        )));
    }
    Ok(name)
}

/// A signature or token: without this, it would have to live elsewhere to be borrowed from.
#[derive(Clone, Copy, Debug)]
struct Sixteen([u8; 16]);

impl From<Signature> for Sixteen {
    fn from(signature: Signature) -> Self {
        Self(*signature.as_bytes())
    }
}

impl ToSql for Sixteen {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(BYTEA);
    to_sql_checked!();
}

/// The columns of a record and one of its slots, in the order of the statements.
mod column {
    pub(super) const STATE: usize = 0;
    pub(super) const DETAIL: usize = 1;
    pub(super) const SINCE: usize = 2;
    pub(super) const EXPIRES: usize = 3;
    pub(super) const UPDATED: usize = 4;
    pub(super) const SEEN: usize = 5;
    pub(super) const NAME: usize = 6;
    pub(super) const PAYLOAD: usize = 7;
    pub(super) const LAPSES: usize = 8;
    pub(super) const SIGNATURE: usize = 9;
    pub(super) const OUTCOME: usize = 10;
}

/// The record whose slots these rows are, if there is one.
pub(super) fn record(rows: &[Row]) -> Result<Option<Record>, StoreError> {
    rows.first()
        .map(|first| read(first, rows).map_err(Unreadable::error))
        .transpose()
}

/// What came of a commit.
pub(super) fn committed(rows: &[Row]) -> Result<Committed, StoreError> {
    let outcome = || {
        let first = rows.first().ok_or(Unreadable("outcome"))?;
        Ok(match first.try_get(column::OUTCOME)? {
            "applied" => Committed::Applied,
            "conflict" => Committed::Conflict(Arc::new(read(first, rows)?)),
            "moved" => Committed::Moved(key(first.try_get(column::DETAIL)?)?),
            "gone" => Committed::Gone,
            "exists" => Committed::Exists,
            _ => return Err(Unreadable("outcome")),
        })
    };
    outcome().map_err(Unreadable::error)
}

pub(super) fn keys(rows: &[Row]) -> Result<Vec<Key>, StoreError> {
    rows.iter()
        .map(|row| key(row.try_get(0)?))
        .collect::<Result<_, _>>()
        .map_err(Unreadable::error)
}

/// The one number that was asked for.
pub(super) fn count(rows: &[Row]) -> Result<i64, StoreError> {
    let count = || {
        rows.first()
            .ok_or(Unreadable("count"))?
            .try_get(0)
            .map_err(Unreadable::from)
    };
    count().map_err(Unreadable::error)
}

/// Adds what a batch of sweeping has deleted.
pub(super) fn add_swept(swept: &mut Swept, rows: &[Row]) -> Result<(), StoreError> {
    let mut add = |row: &Row| {
        let (found, owner): (Option<&[u8]>, Option<&[u8]>) = (row.try_get(0)?, row.try_get(1)?);
        let Some(found) = found else { return Ok(()) };
        swept.deleted += 1;
        let state: &str = row.try_get(2)?;
        if [LIVE, CLAIMED, SHARED].contains(&state) {
            let owner = owner.map(|name| text(name).map(UserId::from)).transpose()?;
            swept.expired.push((key(found)?, owner));
        }
        Ok(())
    };
    rows.iter()
        .try_for_each(|row| add(row).map_err(Unreadable::error))
}

fn read(first: &Row, rows: &[Row]) -> Result<Record, Unreadable> {
    let time = |column| first.try_get(column).map(Timestamp::from_millis);
    let mut record = Record::new(time(column::UPDATED)?, time(column::EXPIRES)?);
    record.seen = time(column::SEEN)?;
    record.state = state(first)?;
    for row in rows {
        if let Some(name) = row.try_get::<_, Option<&[u8]>>(column::NAME)? {
            record.set(Arc::new(slot(name, row)?));
        }
    }
    Ok(record)
}

fn slot(name: &[u8], row: &Row) -> Result<Slot, Unreadable> {
    let payload = Bytes::copy_from_slice(row.try_get(column::PAYLOAD)?);
    let expires: Option<i64> = row.try_get(column::LAPSES)?;
    let signature: &[u8] = row.try_get(column::SIGNATURE)?;
    let signature = signature.try_into().map_err(|_| Unreadable("signature"))?;
    Ok(Slot::signed(
        text(name)?,
        payload,
        expires.map(Timestamp::from_millis),
        Signature::from_bytes(signature),
    ))
}

fn state(row: &Row) -> Result<State, Unreadable> {
    let detail = || {
        let bytes: Option<&[u8]> = row.try_get(column::DETAIL)?;
        bytes.ok_or(Unreadable("detail"))
    };
    Ok(match row.try_get(column::STATE)? {
        LIVE => State::Live,
        MOVED => State::Moved(key(detail()?)?),
        name @ (CLAIMED | SHARED) => State::Claimed {
            by: text(detail()?)?.into(),
            at: Timestamp::from_millis(row.try_get(column::SINCE)?),
            shared: name == SHARED,
        },
        DELETED => State::Ended(Ended::Deleted(text(detail()?)?.to_owned())),
        name => State::Ended(
            REASONS
                .iter()
                .find(|reason| name_of(reason) == name)
                .cloned()
                .ok_or(Unreadable("state"))?,
        ),
    })
}

/// Every reason without a text.
const REASONS: [Ended; 7] = [
    Ended::Expired,
    Ended::AddressDiffers,
    Ended::UserAgentDiffers,
    Ended::Revoked,
    Ended::Malformed,
    Ended::LoggedIn,
    Ended::LoggedOut,
];

fn name_of(reason: &Ended) -> &'static str {
    match reason {
        Ended::Expired => "expired",
        Ended::AddressDiffers => "address_differs",
        Ended::UserAgentDiffers => "user_agent_differs",
        Ended::Revoked => "revoked",
        Ended::Deleted(_) => DELETED,
        Ended::Malformed => "malformed",
        Ended::LoggedIn => "logged_in",
        Ended::LoggedOut => "logged_out",
    }
}

fn key(bytes: &[u8]) -> Result<Key, Unreadable> {
    Key::parse(text(bytes)?).ok_or(Unreadable("key"))
}

fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    str::from_utf8(bytes).map_err(|_| Unreadable("text"))
}

/// What in a row cannot be read. It never quotes it.
#[derive(Debug)]
struct Unreadable(&'static str);

impl Unreadable {
    fn error(self) -> StoreError {
        StoreError::broken(self)
    }
}

impl From<tokio_postgres::Error> for Unreadable {
    fn from(_: tokio_postgres::Error) -> Self {
        Self("column")
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a stored record has a {} that this version of the library cannot read",
            self.0
        )
    }
}

impl StdError for Unreadable {}
