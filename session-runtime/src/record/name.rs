//! The names of slots.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ptr;

use super::short::Short;

/// The name of a slot.
///
/// Names that begin with `@` are the library's own; no field of an app can have such a name.
///
/// ```
/// use session_runtime::store::FieldName;
/// assert_eq!(FieldName::from("cart").as_str(), "cart");
/// ```
#[derive(Clone)]
pub struct FieldName(Name);

#[derive(Clone)]
enum Name {
    Fixed(&'static str),
    /// The name in the field's row: whoever has that very row has written it, in this process.
    OfRow(&'static &'static str),
    /// Text that fits in here. A record that is loaded has a name for each slot, and none takes room of its own.
    Short(Short<SHORT>),
    Long(Box<str>),
}

/// The most bytes of a name for which the room of a `Box<str>` is enough.
const SHORT: usize = 22;

impl FieldName {
    /// Makes a name that is known at compile time.
    pub const fn fixed(name: &'static str) -> Self {
        Self(Name::Fixed(name))
    }

    /// Makes the name that stands in a row.
    pub(crate) const fn of_row(name: &'static &'static str) -> Self {
        Self(Name::OfRow(name))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Fixed(name) => name,
            Name::OfRow(name) => name,
            // It was made of text.
            Name::Short(_) => str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Name::Long(name) => name,
        }
    }

    /// Returns the same as bytes. These sort as the text does.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Name::Fixed(name) => name.as_bytes(),
            Name::OfRow(name) => name.as_bytes(),
            Name::Short(text) => text,
            Name::Long(name) => name.as_bytes(),
        }
    }

    /// Returns `true` if it was made of the name in that very row.
    pub(crate) fn is_of_row(&self, name: &'static &'static str) -> bool {
        matches!(self.0, Name::OfRow(own) if ptr::eq(own, name))
    }

    /// Compares the name with another. Mostly it is the very same text.
    pub(crate) fn compare(&self, name: &str) -> Ordering {
        let (own, name) = (self.as_bytes(), name.as_bytes());
        if ptr::eq(own, name) {
            Ordering::Equal
        } else {
            own.cmp(name)
        }
    }
}

impl PartialEq for FieldName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for FieldName {}

impl PartialOrd for FieldName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FieldName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for FieldName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl From<&str> for FieldName {
    fn from(name: &str) -> Self {
        let short = Short::of(name.as_bytes());
        Self(short.map_or_else(|| Name::Long(name.into()), Name::Short))
    }
}

impl From<String> for FieldName {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
