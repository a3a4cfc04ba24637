//! Records as they travel: a hash, whose field `v` is the version, `head` the packed head, and `=name` a payload that
//! stands beside it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value, cmd};

use super::fault::FOREIGN_KEY;
use super::script::{self, Form};
use crate::frame::{self, Delta};
use crate::record::Record;
use crate::store::{KEPT_AFTER_EXPIRY, StoreError, Swapped};

/// The most bytes of payloads that are packed with the head.
const ROOM: usize = 700;

const VERSION: &str = "v";
const HEAD: &str = "head";

/// What the name of a payload's field begins with; no other field's does.
const BESIDE: u8 = b'=';

/// What lives longer has no lifetime on the server: some 3,000 years.
const FOREVER: Duration = Duration::from_secs(100_000_000_000);

/// Builds the command that loads the record of that name.
pub(super) fn load(name: &str) -> Cmd {
    let mut load = cmd("HGETALL");
    load.arg(name);
    load
}

/// Builds the call of the script (`swap.lua`) that puts `after` in place of `before`.
pub(super) fn swap(name: &str, before: Option<&Record>, after: &Record, form: Form) -> Cmd {
    let Delta {
        head,
        written,
        removed,
    } = frame::delta(before, after, ROOM);
    let mut call = script::call(relieves(before, after), form);
    call.arg(1).arg(name);
    match before {
        Some(before) => call.arg(&before.version().to_bytes()[..]),
        None => call.arg(""),
    };
    put_lifetime(&mut call, before, after);
    call.arg(removed.len());
    for name in removed {
        call.arg(field(name.as_str()));
    }
    call.arg(VERSION).arg(&after.version().to_bytes()[..]);
    call.arg(HEAD).arg(head);
    for slot in written {
        call.arg(field(slot.name().as_str()));
        call.arg(slot.payload());
    }
    call
}

/// Returns `true` if the swap may be made on a server that is full: the record ends, or its slots take no more room than
/// before. Its head may grow, but not for long: it keeps so many versions and secrets.
fn relieves(before: Option<&Record>, after: &Record) -> bool {
    after.ended().is_some() || before.is_some_and(|before| after.size() <= before.size())
}

/// Says for how long the server is to keep the record, counted from the app's own time: the two clocks may differ. And how much
/// later it expires than before.
fn put_lifetime(call: &mut Cmd, before: Option<&Record>, after: &Record) {
    let expires = after.expires();
    let lifetime = expires.since(after.seen());
    if before.is_some_and(|before| before.expires() == expires) {
        call.arg("");
    } else if lifetime > FOREVER {
        call.arg("forever");
    } else {
        call.arg((lifetime + KEPT_AFTER_EXPIRY).as_millis().to_string());
    }
    let later = before.map_or(Duration::ZERO, |before| expires.since(before.expires()));
    call.arg(later.min(FOREVER).as_millis().to_string());
}

fn field(name: &str) -> Vec<u8> {
    [&[BESIDE], name.as_bytes()].concat()
}

/// Reads the script's answer.
pub(super) fn swapped(value: Value) -> Result<Swapped, StoreError> {
    match value {
        Value::Int(_) => Ok(Swapped::Done),
        found => record(found).map(Swapped::Stale),
    }
}

/// Reads the fields of a record; `None` if there are none.
pub(super) fn record(value: Value) -> Result<Option<Arc<Record>>, StoreError> {
    let mut fields = Fields::default();
    match value {
        Value::Map(pairs) => {
            for (name, value) in pairs {
                fields.put(bytes(name)?, bytes(value)?);
            }
        }
        // As scripts and the older protocol have it: names and values by turns.
        Value::Array(values) => {
            let mut values = values.into_iter();
            while let (Some(name), Some(value)) = (values.next(), values.next()) {
                fields.put(bytes(name)?, bytes(value)?);
            }
        }
        _ => return Err(unknown_form()),
    }
    fields.record()
}

/// The fields of a record, told apart.
#[derive(Default)]
struct Fields {
    any: bool,
    head: Option<Bytes>,
    /// By name, as its slot has it.
    beside: HashMap<Vec<u8>, Bytes>,
}

impl Fields {
    fn put(&mut self, mut name: Vec<u8>, value: Vec<u8>) {
        self.any = true;
        if name == HEAD.as_bytes() {
            self.head = Some(value.into());
        } else if name.first() == Some(&BESIDE) {
            self.beside.insert(name.split_off(1), value.into());
        }
    }

    fn record(mut self) -> Result<Option<Arc<Record>>, StoreError> {
        if !self.any {
            return Ok(None);
        }
        let head = self.head.ok_or_else(|| StoreError::broken(FOREIGN_KEY))?;
        let record = frame::unpack(&head, |name| self.beside.remove(name.as_bytes()))?;
        Ok(Some(Arc::new(record)))
    }
}

fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(unknown_form()),
    }
}

fn unknown_form() -> StoreError {
    StoreError::broken("the server's answer has an unknown form")
}
