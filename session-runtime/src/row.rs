//! Rows: what is known of each field, in the table that `#[derive(Session)]` fills.
//!
//! A [`Row`] says everything about one field. All code that acts on a row is here, compiled once; macro
//! output is data.

use std::any::{TypeId, type_name};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::canonical::{Canonical, Form, same_but_for_order};
use crate::clock::Timestamp;
use crate::error::EncodeError;
use crate::merge::{self, Occasion, Sides};
use crate::record::{Expiry, FieldName, Payload, Slot};
use crate::signature::Signature;

/// What the stored names of fields begin with that are a guest's alone.
pub(crate) const GUEST: &str = "@guest/";

/// The lifetimes of a session: a schema's wishes, or the layer's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lifetime {
    /// The time for which a session may be idle.
    pub ttl: Option<Duration>,
    /// The time for which it may live at all.
    pub absolute: Option<Duration>,
}

impl Lifetime {
    /// Lifetimes in milliseconds, as the macro has parsed them.
    pub const fn from_millis(ttl: Option<u64>, absolute: Option<u64>) -> Self {
        Self {
            ttl: duration(ttl),
            absolute: duration(absolute),
        }
    }

    /// The longer of each.
    #[must_use]
    pub fn longest(self, other: Self) -> Self {
        Self {
            ttl: self.ttl.max(other.ttl),
            absolute: self.absolute.max(other.absolute),
        }
    }
}

const fn duration(millis: Option<u64>) -> Option<Duration> {
    match millis {
        Some(millis) => Some(Duration::from_millis(millis)),
        None => None,
    }
}

/// One field of a schema.
#[derive(Debug)]
pub struct Row<T> {
    name: &'static str,
    aliases: &'static [&'static str],
    ttl: Option<Duration>,
    sliding: bool,
    flash: bool,
    follows: bool,
    form: Form,
    /// The module whose functions it is stored by, if there is one.
    stored_by: Option<&'static str>,
    default: DefaultOf<T>,
    decode: fn(&[u8]) -> Result<T, serde_json::Error>,
    /// How a value is read that was stored as the older type.
    upgrade: fn(&[u8]) -> Option<T>,
    encode: fn(&T, Canonical<'_>) -> Result<(), EncodeError>,
    rule: Rule<T>,
}

/// Types that have a value for a field that is absent: those that implement `Default`.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` has no value while it is absent",
    label = "does not implement `Default`",
    note = "make it an `Option`, derive `Default` for it, or write `#[session(default = …)]` above the field"
)]
pub trait Absent: Sized {
    /// That value.
    fn absent() -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Default> Absent for T {
    fn absent() -> Self {
        Self::default()
    }
}

/// The value of a field that is absent.
#[derive(Debug)]
enum DefaultOf<T> {
    OfType(fn() -> T),
    /// The app's own expression, of the time perhaps: it may be another one each time.
    OfApp(fn() -> T),
}

/// The rule by which a field merges.
#[derive(Debug)]
enum Rule<T> {
    /// It names no rule.
    Unnamed(fn(Sides<T>) -> Option<T>),
    Reject,
    By(fn(Sides<T>) -> Option<T>),
}

/// [`Row::new`], for the macro: the compiler blames a type that fails the bounds of a function at the type's
/// own place, and names the derive that is missing.
pub const fn row<T>(name: &'static str, default: fn() -> T) -> Row<T>
where
    T: Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static,
{
    Row::new(name, default)
}

impl<T> Row<T> {
    /// A field under its stored name. It has no rule: the later writer wins, and it stays with the browser.
    pub const fn new(name: &'static str, default: fn() -> T) -> Self
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        Self::with(name, default, decode::<T>, encode::<T>)
    }

    /// The same for a field whose type says nothing of its stored form.
    pub const fn with(
        name: &'static str,
        default: fn() -> T,
        decode: fn(&[u8]) -> Result<T, serde_json::Error>,
        encode: fn(&T, Canonical<'_>) -> Result<(), EncodeError>,
    ) -> Self
    where
        T: Send + Sync + 'static,
    {
        Self {
            name,
            aliases: &[],
            ttl: None,
            sliding: false,
            flash: false,
            follows: false,
            form: Form::SORTED,
            stored_by: None,
            default: DefaultOf::OfType(default),
            decode,
            upgrade: |_| None,
            encode,
            rule: Rule::Unnamed(merge::later::<T>),
        }
    }

    /// The default is an expression that the app has written.
    #[must_use]
    pub const fn own_default(self) -> Self {
        let (DefaultOf::OfType(default) | DefaultOf::OfApp(default)) = self.default;
        Self {
            default: DefaultOf::OfApp(default),
            ..self
        }
    }

    /// Older stored names, which still read.
    #[must_use]
    pub const fn aliases(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// The field's own lifetime, from when it is set; with `sliding`, from when it was last used.
    #[must_use]
    pub const fn expire(self, millis: u64, sliding: bool) -> Self {
        Self {
            ttl: Some(Duration::from_millis(millis)),
            sliding,
            ..self
        }
    }

    /// Its maps are stored in the order that they have.
    #[must_use]
    pub const fn ordered(self) -> Self {
        let form = Form {
            ordered: true,
            ..self.form
        };
        Self { form, ..self }
    }

    /// Names the module whose functions it is stored by.
    #[must_use]
    pub const fn stored_by(self, module: &'static str) -> Self {
        let stored_by = Some(module);
        Self { stored_by, ..self }
    }

    /// Used up by being read.
    #[must_use]
    pub const fn flash(self) -> Self {
        Self {
            flash: true,
            ..self
        }
    }

    /// Sets how the field merges. It follows the user.
    #[must_use]
    pub const fn merge(self, rule: fn(Sides<T>) -> Option<T>) -> Self {
        Self {
            follows: true,
            ..self.merge_in_browser(rule)
        }
    }

    /// Sets how the field merges between requests. It stays with the browser.
    #[must_use]
    pub const fn merge_in_browser(self, rule: fn(Sides<T>) -> Option<T>) -> Self {
        Self {
            rule: Rule::By(rule),
            ..self
        }
    }

    /// A conflict is an error.
    #[must_use]
    pub const fn reject(self) -> Self {
        Self {
            rule: Rule::Reject,
            ..self
        }
    }

    /// Another way to read stored bytes, for those that were stored as the older type.
    #[must_use]
    pub const fn upgrade(self, upgrade: fn(&[u8]) -> Option<T>) -> Self {
        Self { upgrade, ..self }
    }
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(payload)
}

/// Reads JSON as the function of a module does that knows how a type is stored.
///
/// # Errors
///
/// If it is no such value.
pub fn decode_with<T>(
    payload: &[u8],
    read: impl FnOnce(&mut Json<'_>) -> Result<T, serde_json::Error>,
) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let value = read(&mut json)?;
    json.end()?;
    Ok(value)
}

type Json<'a> = serde_json::Deserializer<serde_json::de::SliceRead<'a>>;

fn encode<T: Serialize>(value: &T, to: Canonical<'_>) -> Result<(), EncodeError> {
    value.serialize(to)
}

/// Reads a value as the older type that it once had, if it is one.
pub fn upgraded<Old: DeserializeOwned, T>(
    payload: &[u8],
    upgrade: impl FnOnce(Old) -> T,
) -> Option<T> {
    decode(payload).ok().map(upgrade)
}

impl<T> Row<T> {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns where the name stands: what tells this row from others in this process.
    pub(crate) fn own_name(&'static self) -> &'static &'static str {
        &self.name
    }

    pub(crate) fn older_names(&self) -> &'static [&'static str] {
        self.aliases
    }

    pub(crate) fn follows_user(&self) -> bool {
        self.follows
    }

    pub(crate) fn is_flash(&self) -> bool {
        self.flash
    }

    /// The lifetime that using the field starts anew, if it slides.
    pub(crate) fn slides(&self) -> Option<Duration> {
        self.ttl.filter(|_| self.sliding)
    }

    /// Returns when the field expires if it is set at `now`.
    pub(crate) fn expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.ttl.map(|ttl| now + ttl)
    }

    pub(crate) fn default(&self) -> T {
        let (DefaultOf::OfType(default) | DefaultOf::OfApp(default)) = self.default;
        default()
    }

    pub(crate) fn decode_payload(&self, payload: &[u8]) -> Result<T, serde_json::Error> {
        (self.decode)(payload).or_else(|error| (self.upgrade)(payload).ok_or(error))
    }

    /// Encodes a value that takes about as many bytes.
    pub(crate) fn encode_value(&self, value: &T, about: usize) -> Result<Payload, EncodeError> {
        let mut payload = SCRATCH.take();
        payload.reserve(about);
        (self.encode)(value, Canonical::new(&mut payload, self.form))?;
        if payload.len() > SCRATCHED {
            // In a box: else `Bytes` keeps a second allocation, for the spare room.
            return Ok(Bytes::from(payload.into_boxed_slice()).into());
        }
        let encoded = Payload::from(&payload[..]);
        payload.clear();
        SCRATCH.set(payload);
        Ok(encoded)
    }

    /// Makes a slot of what this row has encoded, and which says so.
    pub(crate) fn own_slot(&'static self, payload: Payload, expiry: Expiry) -> Arc<Slot> {
        self.named_slot(FieldName::of_row(&self.name), payload, expiry)
    }

    fn encode_as(&self, value: &T, shows_some: bool) -> Result<Vec<u8>, EncodeError> {
        let mut payload = Vec::new();
        let form = Form {
            shows_some,
            ..self.form
        };
        (self.encode)(value, Canonical::new(&mut payload, form))?;
        Ok(payload)
    }

    /// Returns what is wrong with a value that is written, if it does not read back as it is.
    pub(crate) fn check_written(&self, value: &T) -> Result<(), EncodeError> {
        let read = self.decode_payload(&self.encode_as(value, false)?);
        let read = read.map_err(|error| EncodeError::unreadable(&error))?;
        if self.is_same(value, &read)? {
            Ok(())
        } else {
            Err(EncodeError::reads_otherwise())
        }
    }

    /// Returns what is wrong with a value that a handler has only read, if it is not what it was handed: `stored`, or the
    /// default. Of a default that the app has written nobody knows what it was then.
    pub(crate) fn check_read(&self, value: &T, stored: Option<&Slot>) -> Result<(), EncodeError> {
        let stored = || stored.and_then(|slot| self.decode_payload(slot.payload()).ok());
        let handed_out = || stored().unwrap_or_else(|| self.default());
        if matches!(self.default, DefaultOf::OfApp(_)) && stored().is_none() {
            return Ok(());
        }
        // A default may be another one each time.
        let same = |one: &T, other: &T| {
            // What cannot be encoded was not stored, and is not written.
            self.is_same(one, other).unwrap_or(true)
        };
        if same(value, &handed_out()) || !same(&handed_out(), &handed_out()) {
            Ok(())
        } else {
            Err(EncodeError::changed_unseen())
        }
    }

    fn is_same(&self, one: &T, other: &T) -> Result<bool, EncodeError> {
        let (one, other) = (self.encode_as(one, true)?, self.encode_as(other, true)?);
        Ok(same_but_for_order(&one, &other))
    }

    fn named_slot(&self, name: FieldName, payload: Payload, expiry: Expiry) -> Arc<Slot> {
        let signature = self.flash.then(|| Signature::unique(rand::random()));
        Arc::new(Slot::stored(name, payload, expiry, signature))
    }
}

thread_local! {
    /// Where values are encoded before it is known how long they are.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The longest payload that is copied from there: moving a longer one is cheaper, and no thread keeps more than about that.
const SCRATCHED: usize = 4096;

/// Why two sides could not be merged.
#[derive(Debug)]
pub(crate) enum MergeFault {
    /// The rule is `reject`.
    Rejected,
    /// The stored side cannot be read; it is kept as it is.
    Undecodable,
    /// The result cannot be written.
    Encode(EncodeError),
}

/// The way a field is kept: its type, how that is stored, where, and for how long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    id: TypeId,
    type_name: &'static str,
    stored_by: Option<&'static str>,
    ordered: bool,
    flash: bool,
    follows: bool,
    /// How long after it was "set" or "used".
    lasts: Option<(Duration, &'static str)>,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.type_name)?;
        if let Some(module) = self.stored_by {
            write!(f, " with `{module}`")?;
        }
        for (holds, says) in [
            (self.ordered, ", ordered"),
            (self.flash, ", a flash"),
            (self.follows, ", which follows the user"),
        ] {
            f.write_str(if holds { says } else { "" })?;
        }
        if let Some((ttl, since)) = self.lasts {
            write!(f, ", for {ttl:?} after it was {since}")?;
        }
        Ok(())
    }
}

/// A [`Row`] of whatever type.
pub(crate) trait AnyRow: Send + Sync {
    /// The stored name.
    fn name(&self) -> &'static str;

    /// Older stored names.
    fn aliases(&self) -> &'static [&'static str];

    /// Returns `true` if the field follows the user from device to device.
    fn follows(&self) -> bool;

    /// Returns `true` if the field names a rule by which it merges.
    fn has_rule(&self) -> bool;

    /// Returns `true` if the field is used up by being read.
    fn is_flash(&self) -> bool;

    /// Returns `true` if the field lives longer when it is used.
    fn is_sliding(&self) -> bool;

    /// Returns what two structs have to agree on that have the field.
    fn kept(&self) -> Kept;

    /// Returns `true` if it is the field's name, or an older one.
    fn knows(&self, name: &str) -> bool {
        self.name() == name || self.aliases().contains(&name)
    }

    /// Merges a value that both sides changed, into a slot that does not expire.
    ///
    /// # Errors
    ///
    /// If the rule is to refuse, or one side has no place in the other's type.
    fn merge(&self, sides: Sides<&Slot>) -> Result<Option<Arc<Slot>>, MergeFault>;
}

/// The rows of one schema, or of several.
pub(crate) type Rows = [RowOf];

/// Returns the row that knows a slot of that name, be it an older one.
pub(crate) fn row_of(rows: &Rows, name: &str) -> Option<&'static dyn AnyRow> {
    rows.iter().map(|row| row.0).find(|row| row.knows(name))
}

impl<T: Send + Sync + 'static> AnyRow for Row<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    fn follows(&self) -> bool {
        self.follows
    }

    fn has_rule(&self) -> bool {
        !matches!(self.rule, Rule::Unnamed(_))
    }

    fn is_flash(&self) -> bool {
        self.flash
    }

    fn is_sliding(&self) -> bool {
        self.sliding
    }

    fn kept(&self) -> Kept {
        Kept {
            id: TypeId::of::<T>(),
            type_name: type_name::<T>(),
            stored_by: self.stored_by,
            ordered: self.form.ordered,
            flash: self.flash,
            follows: self.follows,
            lasts: self
                .ttl
                .map(|ttl| (ttl, if self.sliding { "used" } else { "set" })),
        }
    }

    fn merge(&self, sides: Sides<&Slot>) -> Result<Option<Arc<Slot>>, MergeFault> {
        let (Rule::By(rule) | Rule::Unnamed(rule)) = self.rule else {
            return Err(MergeFault::Rejected);
        };
        let read = |side: &Slot| self.decode_payload(side.payload());
        let mut sides = Sides {
            base: sides.base.and_then(|base| read(base).ok()),
            ours: sides
                .ours
                .map(read)
                .transpose()
                .map_err(|_| MergeFault::Undecodable)?,
            theirs: sides
                .theirs
                .map(read)
                .transpose()
                .map_err(|_| MergeFault::Undecodable)?,
            occasion: sides.occasion,
        };
        // Both requests were handed the default, where nothing was there or nothing that can be read.
        let both = sides.ours.is_some() && sides.theirs.is_some();
        if sides.base.is_none() && both && sides.occasion == Occasion::Conflict {
            sides.base = Some(self.default());
        }
        let Some(merged) = rule(sides) else {
            return Ok(None);
        };
        let payload = self.encode_value(&merged, 0).map_err(MergeFault::Encode)?;
        let name = FieldName::fixed(self.name);
        Ok(Some(self.named_slot(name, payload, Expiry::Never)))
    }
}

/// A row, in a type that no other crate can look into.
#[derive(Clone, Copy)]
pub struct RowOf(pub(crate) &'static dyn AnyRow);

impl RowOf {
    /// Of whatever type the field is.
    pub const fn new<T: Send + Sync + 'static>(row: &'static Row<T>) -> Self {
        Self(row)
    }
}

impl fmt::Debug for RowOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RowOf").field(&self.0.name()).finish()
    }
}

/// A handler's change of one cell.
#[derive(Clone)]
pub struct CellEdit {
    pub(crate) row: &'static dyn AnyRow,
    /// The slot the cell was opened on.
    pub(crate) base: Option<Arc<Slot>>,
    /// What is to be in its place; `None` takes it out.
    pub(crate) ours: Option<Arc<Slot>>,
    pub(crate) kind: EditKind,
}

/// The way in which a handler's change of a cell is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EditKind {
    /// As a change.
    Changed,
    /// As a value for the rest of this request alone.
    Passing,
    /// As a use of a field that slides: it lives longer.
    Slid,
    /// As a flash that was read: it goes when the request ends, unless that sets or keeps it.
    UsedUp,
    /// As a flash that is to stay for one more request.
    Kept,
    /// Not at all: the request has the flash to itself, or keeps it.
    Nothing,
}

impl fmt::Debug for CellEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row,
            base,
            ours,
            kind,
        } = self;
        f.debug_struct("CellEdit")
            .field("row", &row.name())
            .field("base", base)
            .field("ours", ours)
            .field("kind", kind)
            .finish()
    }
}
