//! Schemas: the table that `#[derive(Session)]` fills, and what the runtime reads from it.
//!
//! A [`Row`] says everything about one field. All code that acts on a row is here, compiled once; macro
//! output is data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::clock::Timestamp;
use crate::error::{EncodeError, Error};
use crate::merge::{self, Sides};
use crate::record::{FieldName, Slot};
use crate::request::Request;
use crate::signature::Signature;

/// An app's struct as a session. Implemented by `#[derive(Session)]`, and by nothing else.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session",
    label = "does not derive `Session`",
    note = "write `#[derive(session_runtime::Session)]` above `struct {Self}`"
)]
pub trait Schema: Sized + Send + Sync + 'static {
    /// The struct of cells, one for each field.
    type Cells: Send + Sync + 'static;

    /// The lifetimes that the struct asks for.
    const LIFETIME: Lifetime;

    /// Whether reading alone can change the session: some field is a flash or slides.
    const READING_COUNTS: bool;

    /// What is known of each field.
    const ROWS: &'static [RowOf];

    /// Opens the cells over the request's slots.
    fn open(slots: &mut Opener<'_>) -> Self::Cells;

    /// Shows each cell to `visit`, until it fails.
    ///
    /// # Errors
    ///
    /// The first that `visit` returns.
    fn visit(cells: &Self::Cells, visit: &mut Visitor<'_>) -> Result<(), Error>;

    /// Sets every cell to the value of its field.
    fn assign(self, cells: &mut Self::Cells);
}

/// What [`Schema::visit`] calls for each cell.
pub type Visitor<'a> = dyn FnMut(&dyn Cell) -> Result<(), Error> + 'a;

/// The lifetimes of a session: a schema's wishes, or the layer's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// How long a session may be idle.
    pub ttl: Option<Duration>,
    /// How long it may live at all.
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
    default: fn() -> T,
    decode: fn(&[u8]) -> Result<T, serde_json::Error>,
    encode: fn(&T, &mut Vec<u8>) -> Result<(), EncodeError>,
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

/// How a field merges.
#[derive(Debug)]
enum Rule<T> {
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
        Self {
            name,
            aliases: &[],
            ttl: None,
            sliding: false,
            flash: false,
            follows: false,
            default,
            decode: decode::<T>,
            encode: canonical::encode::<T>,
            rule: Rule::By(merge::later::<T>),
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

    /// Used up by being read.
    #[must_use]
    pub const fn flash(self) -> Self {
        Self {
            flash: true,
            rule: Rule::By(merge::flash::<T>),
            ..self
        }
    }

    /// How the field merges. It follows the user.
    #[must_use]
    pub const fn merge(self, rule: fn(Sides<T>) -> Option<T>) -> Self {
        Self {
            rule: Rule::By(rule),
            follows: true,
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

    /// Another way to read stored bytes, which knows the older type.
    #[must_use]
    pub const fn decode(self, decode: fn(&[u8]) -> Result<T, serde_json::Error>) -> Self {
        Self { decode, ..self }
    }
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(payload)
}

/// Reads a value as its type, or failing that as the older type it once had. The error is the first one's.
///
/// # Errors
///
/// If it is neither.
pub fn decode_or_upgrade<T: DeserializeOwned, Old: DeserializeOwned>(
    payload: &[u8],
    upgrade: impl FnOnce(Old) -> T,
) -> Result<T, serde_json::Error> {
    decode(payload).or_else(|error| decode(payload).map(upgrade).map_err(|_| error))
}

impl<T> Row<T> {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_flash(&self) -> bool {
        self.flash
    }

    /// The lifetime that using the field starts anew, if it slides.
    pub(crate) fn slides(&self) -> Option<Duration> {
        self.ttl.filter(|_| self.sliding)
    }

    /// When the field lapses if it is set at `now`.
    pub(crate) fn expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.ttl.map(|ttl| now + ttl)
    }

    pub(crate) fn default(&self) -> T {
        (self.default)()
    }

    pub(crate) fn decode_payload(&self, payload: &[u8]) -> Result<T, serde_json::Error> {
        (self.decode)(payload)
    }

    pub(crate) fn encode_value(&self, value: &T) -> Result<Bytes, EncodeError> {
        let mut payload = Vec::new();
        (self.encode)(value, &mut payload)?;
        Ok(payload.into_boxed_slice().into()) // else `Bytes` keeps a second allocation, for the spare room
    }

    pub(crate) fn slot(&self, payload: Bytes, expires: Option<Timestamp>) -> Arc<Slot> {
        let signature = if self.flash {
            Signature::unique(&payload, rand::random())
        } else {
            Signature::of(&payload)
        };
        Arc::new(Slot::signed(
            FieldName::fixed(self.name),
            payload,
            expires,
            signature,
        ))
    }
}

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

/// A [`Row`] of whatever type.
pub(crate) trait AnyRow: Send + Sync {
    /// The stored name.
    fn name(&self) -> &'static str;

    /// Older stored names.
    fn aliases(&self) -> &'static [&'static str];

    /// Whether the field follows the user from device to device.
    fn follows(&self) -> bool;

    /// Whether it is the field's name, or an older one.
    fn knows(&self, name: &str) -> bool {
        self.name() == name || self.aliases().contains(&name)
    }

    /// What becomes of a value that both sides changed, as a slot that does not expire.
    ///
    /// # Errors
    ///
    /// If the rule is to refuse, or one side has no place in the other's type.
    fn merge(&self, sides: Sides<&Slot>) -> Result<Option<Arc<Slot>>, MergeFault>;
}

/// The rows of a schema.
pub(crate) type Rows = Vec<&'static dyn AnyRow>;

/// The row that knows a slot of that name, be it an older one.
pub(crate) fn row_of(rows: &Rows, name: &str) -> Option<&'static dyn AnyRow> {
    rows.iter().find(|row| row.knows(name)).copied()
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

    fn merge(&self, sides: Sides<&Slot>) -> Result<Option<Arc<Slot>>, MergeFault> {
        let Rule::By(rule) = self.rule else {
            return Err(MergeFault::Rejected);
        };
        let read = |side: &Slot| self.decode_payload(side.payload());
        let sides = Sides {
            // A base that cannot be read was served as absent, too.
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
        let Some(merged) = rule(sides) else {
            return Ok(None);
        };
        let payload = self.encode_value(&merged).map_err(MergeFault::Encode)?;
        Ok(Some(self.slot(payload, None)))
    }
}

/// A cell, as the runtime sees it.
pub trait Cell {
    /// The stored name of its field.
    fn name(&self) -> &'static str;

    /// Whether its field has a value, and when that lapses.
    fn facts(&self) -> (bool, Option<Timestamp>);

    /// What the handler did to it, if that comes to a change.
    ///
    /// # Errors
    ///
    /// If its value has no JSON form.
    fn harvest(&self, now: Timestamp) -> Result<Option<Harvest>, Error>;
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

/// What a handler did to one cell.
#[derive(Clone)]
pub struct Harvest {
    pub(crate) row: &'static dyn AnyRow,
    /// The slot the cell was opened on.
    pub(crate) base: Option<Arc<Slot>>,
    /// What is to be in its place; `None` takes it out.
    pub(crate) ours: Option<Arc<Slot>>,
    pub(crate) deed: Deed,
}

/// How what a handler did to a cell is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
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
}

impl fmt::Debug for Harvest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row,
            base,
            ours,
            deed,
        } = self;
        f.debug_struct("Harvest")
            .field("row", &row.name())
            .field("base", base)
            .field("ours", ours)
            .field("deed", deed)
            .finish()
    }
}

/// Hands each cell its slot, in one pass over a record: the browser's session, and where somebody is logged in, for
/// the fields that follow the user, the user's.
///
/// Rows come sorted by stored name, as the macro sorts them, and so do slots.
#[derive(Debug)]
pub struct Opener<'a> {
    session: Cursor<'a>,
    account: Option<Cursor<'a>>,
    pub(crate) now: Timestamp,
    pub(crate) request: &'a Arc<Request>,
}

impl<'a> Opener<'a> {
    pub(crate) fn new(
        session: &'a [Arc<Slot>],
        account: Option<&'a [Arc<Slot>]>,
        now: Timestamp,
        request: &'a Arc<Request>,
    ) -> Self {
        Self {
            session: Cursor::over(session),
            account: account.map(Cursor::over),
            now,
            request,
        }
    }

    /// The slot of `row`, under its name or an older one, if it is there for a reader.
    pub(crate) fn slot<T>(&mut self, row: &Row<T>) -> Option<Arc<Slot>> {
        let cursor = match &mut self.account {
            Some(account) if row.follows => account,
            _ => &mut self.session,
        };
        let found = cursor
            .advance(row.name)
            .or_else(|| cursor.by_alias(row.aliases))?;
        found.is_live(self.now).then(|| Arc::clone(found))
    }
}

/// Goes through slots once.
#[derive(Debug)]
struct Cursor<'a> {
    slots: &'a [Arc<Slot>],
    next: usize,
}

impl<'a> Cursor<'a> {
    fn over(slots: &'a [Arc<Slot>]) -> Self {
        Self { slots, next: 0 }
    }

    fn advance(&mut self, name: &str) -> Option<&'a Arc<Slot>> {
        while let Some(slot) = self.slots.get(self.next) {
            match slot.name().as_str().cmp(name) {
                std::cmp::Ordering::Less => self.next += 1,
                std::cmp::Ordering::Equal => return Some(slot),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    fn by_alias(&self, aliases: &[&str]) -> Option<&'a Arc<Slot>> {
        aliases.iter().find_map(|alias| {
            let at = self
                .slots
                .binary_search_by(|slot| slot.name().as_str().cmp(alias))
                .ok()?;
            self.slots.get(at)
        })
    }
}

/// Rows of the session's own facts.
pub(crate) mod facts {
    use std::collections::BTreeMap;

    use super::{AnyRow, Arc, MergeFault, Row, Sides, Slot};

    /// For slots of other names, which are carried as they are: what is stored by now stays.
    pub(crate) struct Raw;

    impl AnyRow for Raw {
        fn name(&self) -> &'static str {
            "@"
        }

        fn aliases(&self) -> &'static [&'static str] {
            &[]
        }

        fn follows(&self) -> bool {
            false
        }

        fn merge(&self, sides: Sides<&Slot>) -> Result<Option<Arc<Slot>>, MergeFault> {
            Ok(sides.theirs.cloned().map(Arc::new))
        }
    }

    /// When the session was created, in milliseconds since the Unix epoch.
    pub(crate) static CREATED: Row<i64> = Row::new("@created", || 0);
    /// The lifetime this one session was given, in milliseconds.
    pub(crate) static TTL: Row<u64> = Row::new("@ttl", || 0);
    /// The address it was created from, or logged in from.
    pub(crate) static ADDRESS: Row<String> = Row::new("@address", String::new);
    /// The user agent that created it, or logged in.
    pub(crate) static USER_AGENT: Row<String> = Row::new("@user_agent", String::new);
    /// It is bound to neither any more.
    pub(crate) static UNBOUND: Row<bool> = Row::new("@unbound", || false);
    /// What a user's session is called in lists of them; it survives rotation.
    pub(crate) static DEVICE: Row<String> = Row::new("@device", String::new);
    /// What the user calls it.
    pub(crate) static LABEL: Row<String> = Row::new("@label", String::new);
    /// The user who is logged in.
    pub(crate) static USER: Row<String> = Row::new("@user", String::new);
    /// When that user logged in, in milliseconds since the Unix epoch.
    pub(crate) static AUTHENTICATED: Row<i64> = Row::new("@authenticated", || 0);
    /// In a user's record: see `commit::epoch`.
    pub(crate) static EPOCH: Row<String> = Row::new("@epoch", String::new);
    /// In a user's record: devices that are about to log in, and since when, while their number is limited; those
    /// that have done so, with a zero, until the next comes.
    pub(crate) static SEATS: Row<BTreeMap<String, i64>> = Row::new("@seats", BTreeMap::new);
    /// The key it was moved from, until its own is first presented.
    pub(crate) static MOVED_FROM: Row<String> = Row::new("@moved_from", String::new);
}
