//! Changes and records as they travel. The script (`commit.lua`) has the fields of a record.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::names::{self, Names};
use super::script::{self, Form};
use crate::change::{Change, CommitId, Committed, Expiry, Kind, SlotChange, SlotOp};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::{Key, UserId};
use crate::record::{Ended, Record, Slot, State};
use crate::signature::Signature;

/// The format of records, as in the script.
const FORMAT: &str = "1";

/// What the name of a slot's field begins with; no other field's does.
const SLOT: u8 = b'=';

/// Where the owner index is written.
#[derive(Clone, Copy)]
pub(super) enum Index<'a> {
    /// By the script, which can reach it.
    Within,
    /// Before the script, for this hash tag, if for any.
    Listed(&'a str),
}

/// What a script answers.
pub(super) enum Reply {
    Committed(Committed),
    /// It is applied, and the record is this owner's no more, by hash tag: it is to be taken out of that list.
    Left(String),
    /// Nothing is done: the record has this owner, by hash tag, and is to be listed first.
    Unlisted(String),
}

/// The command that commits `change`.
pub(super) fn commit(
    names: &Names,
    key: &Key,
    change: &Change,
    index: Index<'_>,
    form: Form,
) -> Cmd {
    let record = names.record(key);
    let to = match &change.kind {
        Kind::Move(to, _) => Some(names.record(to)),
        _ => None,
    };
    let retire = retired(names, &record, change, index);
    let mut call = script::call(relieves(change), form);
    call.arg(1 + usize::from(to.is_some()) + usize::from(retire.is_some()));
    call.arg(record)
        .arg(to)
        .arg(retire.as_ref().map(|(old, _)| old));

    call.arg(&short(change.id)[..]).arg(change.now.as_millis());
    put_kind(&mut call, key, change);
    put_expiry(&mut call, change.expiry);
    put_owner(&mut call, names, change, index);
    call.arg(entry(key, change));
    put_time(&mut call, retire.map(|(_, until)| until));
    put_slots(&mut call, change);
    call
}

/// A commit's id as a record remembers it, folded: among a thousand, 64 bits tell one from another.
fn short(id: CommitId) -> [u8; 8] {
    let id = id.to_bytes();
    std::array::from_fn(|at| id[at] ^ id[at + 8])
}

/// What the owner index is to call the record, if the change may list it, or has called it, if the change ends it.
pub(super) fn entry(key: &Key, change: &Change) -> Vec<u8> {
    match (&change.kind, &change.owner) {
        (Kind::Move(to, _), _) => names::entry(to),
        (Kind::End(_), _) | (_, Some(_)) => names::entry(key),
        (_, None) => Vec::new(),
    }
}

/// Whether the change takes no more room than it gives back, but for its id.
fn relieves(change: &Change) -> bool {
    let grows = |slot: &SlotChange| match &slot.to {
        SlotOp::Set(new) => !slot.base.as_ref().is_some_and(|base| fits(new, base)),
        SlotOp::Retime(_) | SlotOp::Drop => false,
    };
    match &change.kind {
        Kind::End(_) => true,
        Kind::Update | Kind::Release(_) => {
            change.owner.is_none() && !change.slots.iter().any(grows)
        }
        Kind::Create | Kind::Move(..) | Kind::Claim(_) => false,
    }
}

/// Whether a slot takes no more room than the one before it.
fn fits(slot: &Slot, before: &Slot) -> bool {
    slot.payload().len() <= before.payload().len()
        && (slot.expires().is_none() || before.expires().is_some())
}

/// What the change retires. On a Cluster a record on another node cannot have been moved here: nothing, then.
fn retired(
    names: &Names,
    record: &str,
    change: &Change,
    index: Index<'_>,
) -> Option<(String, Timestamp)> {
    let (old, until) = change.retire.as_ref()?;
    let old = names.record(old);
    let reachable = matches!(index, Index::Within) || names::together(record, &old);
    reachable.then_some((old, *until))
}

fn put_kind(call: &mut Cmd, key: &Key, change: &Change) {
    let (kind, detail) = match &change.kind {
        Kind::Create => ("create", Vec::new()),
        Kind::Update => ("update", Vec::new()),
        Kind::Move(..) => ("move", names::entry(key)),
        Kind::End(reason) => ("end", reason_text(reason).into_bytes()),
        Kind::Claim(user) => ("claim", user.as_str().into()),
        Kind::Release(at) => ("release", at.as_millis().to_string().into_bytes()),
    };
    let ending = change.tombstone().map(|tombstone| tombstone.expires);
    call.arg(kind).arg(detail);
    put_time(call, ending);
}

fn put_expiry(call: &mut Cmd, expiry: Expiry) {
    let (how, to) = match expiry {
        Expiry::Keep => ("keep", None),
        Expiry::Extend(to) => ("extend", Some(to)),
        Expiry::Set(to) => ("set", Some(to)),
    };
    call.arg(how);
    put_time(call, to);
}

fn put_owner(call: &mut Cmd, names: &Names, change: &Change, index: Index<'_>) {
    call.arg(change.owner.as_ref().map_or_else(String::new, names::tag));
    match index {
        Index::Within => call.arg(names.owned()).arg(""),
        Index::Listed(tag) => call.arg("").arg(tag),
    };
}

fn put_slots(call: &mut Cmd, change: &Change) {
    call.arg(change.slots.len());
    for slot in &change.slots {
        call.arg(slot.name.as_str());
        put_signature(call, slot.expected());
        put_operation(call, &slot.to);
    }
    for (name, expected) in &change.unchanged {
        call.arg(name.as_str());
        put_signature(call, *expected);
    }
}

fn put_operation(call: &mut Cmd, operation: &SlotOp) {
    match operation {
        SlotOp::Set(slot) => {
            call.arg("set").arg(slot_bytes(slot));
        }
        SlotOp::Retime(expires) => {
            call.arg("retime");
            put_time(call, *expires);
        }
        SlotOp::Drop => {
            call.arg("drop").arg("");
        }
    }
}

fn put_time(call: &mut Cmd, time: Option<Timestamp>) {
    match time {
        Some(time) => call.arg(time.as_millis()),
        None => call.arg(""),
    };
}

fn put_signature(call: &mut Cmd, signature: Option<Signature>) {
    match &signature {
        Some(signature) => call.arg(&signature.as_bytes()[..]),
        None => call.arg(""),
    };
}

fn slot_bytes(slot: &Slot) -> Vec<u8> {
    let expires = slot
        .expires()
        .map_or_else(String::new, |expires| expires.as_millis().to_string());
    let mut bytes = Vec::with_capacity(16 + expires.len() + 1 + slot.payload().len());
    bytes.extend_from_slice(slot.signature().as_bytes());
    bytes.extend_from_slice(expires.as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(slot.payload());
    bytes
}

fn reason_text(reason: &Ended) -> String {
    match reason {
        Ended::Expired => "expired",
        Ended::AddressDiffers => "address differs",
        Ended::UserAgentDiffers => "user agent differs",
        Ended::Revoked => "revoked",
        Ended::Deleted(text) => return format!("{DELETED}{text}"),
        Ended::Malformed => "malformed",
        Ended::LoggedIn => "logged in",
        Ended::LoggedOut => "logged out",
    }
    .to_owned()
}

const DELETED: &str = "deleted: ";

fn reason(text: &str) -> Option<Ended> {
    Some(match text {
        "expired" => Ended::Expired,
        "address differs" => Ended::AddressDiffers,
        "user agent differs" => Ended::UserAgentDiffers,
        "revoked" => Ended::Revoked,
        "malformed" => Ended::Malformed,
        "logged in" => Ended::LoggedIn,
        "logged out" => Ended::LoggedOut,
        other => Ended::Deleted(other.strip_prefix(DELETED)?.to_owned()),
    })
}

/// What the script has answered.
pub(super) fn reply(names: &Names, value: Value) -> Result<Reply, StoreError> {
    let mut parts = list(value)?.into_iter();
    let outcome = text(parts.next())?;
    let committed = match outcome.as_str() {
        "applied" => match parts.next() {
            Some(owner) => return Ok(Reply::Left(text(Some(owner))?)),
            None => Committed::Applied,
        },
        "gone" => Committed::Gone,
        "exists" => Committed::Exists,
        "moved" => {
            let to = names.key(&text(parts.next())?).ok_or(Fault::Key)?;
            Committed::Moved(to)
        }
        "conflict" => {
            let found = record(names, parts.next().ok_or(Fault::Reply)?)?;
            Committed::Conflict(found.ok_or(Fault::Reply)?)
        }
        "unlisted" => return Ok(Reply::Unlisted(text(parts.next())?)),
        _ => return Err(Fault::Reply.into()),
    };
    Ok(Reply::Committed(committed))
}

/// The record whose fields these are; `None` without any.
pub(super) fn record(names: &Names, value: Value) -> Result<Option<Arc<Record>>, StoreError> {
    let mut fields = Fields::default();
    for (name, value) in pairs(value)? {
        fields.take(&bytes(name)?, bytes(value)?)?;
    }
    fields
        .head
        .as_ref()
        .map(|head| parse(names, head, &fields.detail))
        .transpose()
        .map(|head| head.map(|head| Arc::new(head.with_slots(fields.slots))))
}

/// What a record says of its owner.
pub(super) enum Standing {
    /// It has this one, by hash tag.
    Owned(String),
    /// It has moved to this record.
    Moved(String),
    /// It has none, or there is no such record.
    Other,
}

/// The standing of a record, from its fields `record`, `detail` and `owner`.
pub(super) fn standing(value: Value) -> Result<Standing, StoreError> {
    let fields = list(value)?.into_iter();
    let mut texts = Vec::with_capacity(3);
    for field in fields {
        texts.push(match field {
            Value::Nil => None,
            field => Some(utf8(bytes(field)?)?),
        });
    }
    let Ok([Some(head), detail, owner]) = <[_; 3]>::try_from(texts) else {
        return Ok(Standing::Other);
    };
    let moved = head.split(' ').nth(1) == Some("M");
    Ok(match (owner, detail) {
        (Some(owner), _) => Standing::Owned(owner),
        (None, Some(to)) if moved => Standing::Moved(to),
        _ => Standing::Other,
    })
}

/// The fields of a record, told apart.
#[derive(Default)]
struct Fields {
    head: Option<String>,
    detail: Vec<u8>,
    slots: Vec<Arc<Slot>>,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: Vec<u8>) -> Result<(), Fault> {
        match name {
            [SLOT, name @ ..] => self.slots.push(Arc::new(slot(name, value)?)),
            b"record" => self.head = Some(utf8(value)?),
            b"detail" => self.detail = value,
            _ => {}
        }
        Ok(())
    }
}

/// A slot from its field. The payload is not copied.
fn slot(name: &[u8], value: Vec<u8>) -> Result<Slot, Fault> {
    let name = std::str::from_utf8(name).map_err(|_| Fault::Text)?;
    let value = Bytes::from(value);
    let signature = *value.first_chunk().ok_or(Fault::Slot)?;
    let rest = &value[16..];
    let space = rest
        .iter()
        .position(|byte| *byte == b' ')
        .ok_or(Fault::Slot)?;
    let expires = match &rest[..space] {
        [] => None,
        digits => Some(time(std::str::from_utf8(digits).map_err(|_| Fault::Text)?)?),
    };
    let payload = value.slice(16 + space + 1..);
    Ok(Slot::signed(
        name,
        payload,
        expires,
        Signature::from_bytes(signature),
    ))
}

/// A record without its slots.
fn parse(names: &Names, head: &str, detail: &[u8]) -> Result<Record, StoreError> {
    let mut words = head.split(' ');
    let mut word = || words.next().ok_or(Fault::Head);
    let format = word()?;
    if format != FORMAT {
        return Err(Fault::Format(format.to_owned()).into());
    }
    let state = state(names, word()?, detail)?;
    let (expires, updated, seen) = (time(word()?)?, time(word()?)?, time(word()?)?);
    let mut record = Record::new(updated, expires);
    (record.state, record.seen) = (state, seen);
    Ok(record)
}

fn state(names: &Names, state: &str, detail: &[u8]) -> Result<State, Fault> {
    let detail = std::str::from_utf8(detail).map_err(|_| Fault::Text)?;
    Ok(match state {
        "L" => State::Live,
        "M" => State::Moved(names.key(detail).ok_or(Fault::Key)?),
        "E" => State::Ended(reason(detail).ok_or(Fault::State)?),
        "C" | "S" => {
            let (at, by) = detail.split_once(' ').ok_or(Fault::State)?;
            State::Claimed {
                by: UserId::from(by),
                at: time(at)?,
                shared: state == "S",
            }
        }
        _ => return Err(Fault::State),
    })
}

fn time(digits: &str) -> Result<Timestamp, Fault> {
    let millis = digits.parse().map_err(|_| Fault::Time)?;
    Ok(Timestamp::from_millis(millis))
}

fn list(value: Value) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(Fault::Reply),
    }
}

/// Names and values: a map, or as the older protocol has it, a list of both by turns.
fn pairs(value: Value) -> Result<Vec<(Value, Value)>, Fault> {
    match value {
        Value::Map(pairs) => Ok(pairs),
        Value::Array(values) => {
            let mut values = values.into_iter();
            Ok(std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect())
        }
        _ => Err(Fault::Reply),
    }
}

fn text(value: Option<Value>) -> Result<String, Fault> {
    utf8(bytes(value.ok_or(Fault::Reply)?)?)
}

fn bytes(value: Value) -> Result<Vec<u8>, Fault> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(Fault::Reply),
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, Fault> {
    String::from_utf8(bytes).map_err(|_| Fault::Text)
}

/// Why something is no record, or no answer. It never quotes it.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Format(String),
    Head,
    State,
    Key,
    Slot,
    Time,
    Text,
    Reply,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Format(format) => {
                return write!(
                    f,
                    "a record in Redis has format {format}, and this version of the library reads {FORMAT}"
                );
            }
            Self::Reply => return f.write_str("the server's answer has an unknown form"),
            Self::Head => "lacks some of its times",
            Self::State => "has an unknown state",
            Self::Key => "has moved to something that is no key",
            Self::Slot => "has a slot without a signature or expiry",
            Self::Time => "has a time that is no number",
            Self::Text => "has a text that is not UTF-8",
        };
        write!(f, "a record in Redis {what}")
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        Self::broken(fault)
    }
}
