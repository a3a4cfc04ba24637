//! Canonical JSON: equal values give equal bytes.
//!
//! It is `serde_json`'s compact form with two differences. The entries of a map are sorted by key, so that
//! the seed of a `HashMap` does not show, unless the field is said to be ordered; struct fields keep their order and cost nothing extra. And NaN and
//! the infinities are errors, where `serde_json` writes `null`; so is what it could not read back, since it is nested too
//! deep.

use std::fmt::Display;
use std::ops::Range;

use serde::ser::{self, Serialize};

use crate::error::EncodeError;

/// Appends the canonical JSON of `value` to `out`.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    value.serialize(Canonical::new(out, Form::SORTED))
}

/// The same for a value that stands within brackets.
fn nested<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>, form: Form) -> Encoded {
    value.serialize(Canonical { out, form })
}

/// Returns `true` if both say the same but for the order of lists and maps, which a set of another seed has.
pub(crate) fn same_but_for_order(one: &[u8], other: &[u8]) -> bool {
    let sorted = |json| serde_json::from_slice(json).map(sorted);
    one == other || matches!((sorted(one), sorted(other)), (Ok(one), Ok(other)) if one == other)
}

/// The value with its lists sorted; of maps the order does not count.
fn sorted(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;

    match value {
        Value::Array(items) => {
            let mut items: Vec<_> = items.into_iter().map(sorted).collect();
            items.sort_by_cached_key(ToString::to_string);
            Value::Array(items)
        }
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| (key, sorted(value)));
            Value::Object(
                entries
                    .collect::<std::collections::BTreeMap<_, _>>()
                    .into_iter()
                    .collect(),
            )
        }
        scalar => scalar,
    }
}

/// The form that a value is written in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// The entries of maps stay in the order that they come in.
    pub(crate) ordered: bool,
    /// `Some` is written, too, so that `Some(None)` is not `None`. Nobody reads it back.
    pub(crate) shows_some: bool,
    /// How many brackets are open.
    pub(crate) depth: usize,
}

impl Form {
    /// Canonical.
    pub(crate) const SORTED: Self = Self {
        ordered: false,
        shows_some: false,
        depth: 0,
    };
}

/// How many brackets `serde_json` reads within each other.
const DEEPEST: usize = 127;

/// Writes brackets that open, and returns the form of what stands within them.
fn open(out: &mut Vec<u8>, brackets: &str, form: Form) -> Result<Form, EncodeError> {
    let depth = form.depth + brackets.len();
    if depth > DEEPEST {
        let fault = format!("it is nested deeper than {DEEPEST} levels: it could not be read back");
        return Err(EncodeError(fault.into()));
    }
    out.extend_from_slice(brackets.as_bytes());
    Ok(Form { depth, ..form })
}

type Encoded = Result<(), EncodeError>;

impl ser::Error for EncodeError {
    /// Says nothing of the message, which may quote the value.
    fn custom<T: Display>(_: T) -> Self {
        Self("the value's own `Serialize` refuses it".into())
    }
}

impl From<serde_json::Error> for EncodeError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string().into())
    }
}

/// A [`Serializer`](ser::Serializer) that appends canonical JSON.
#[derive(Debug)]
pub struct Canonical<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
}

/// What `serde_json` calls a number or raw value that carries its own text, when one of its features that
/// keep text is on.
const OWN_TEXT: [&str; 2] = [
    "$serde_json::private::Number",
    "$serde_json::private::RawValue",
];

impl<'a> Canonical<'a> {
    /// Appends to `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>, form: Form) -> Self {
        Self { out, form }
    }

    fn scalar<T: Serialize + ?Sized>(self, value: &T) -> Encoded {
        Ok(serde_json::to_writer(self.out, value)?)
    }

    fn float<T: Serialize>(self, value: T, finite: bool) -> Encoded {
        if !finite {
            return Err(EncodeError("NaN and infinities have no JSON form".into()));
        }
        self.scalar(&value)
    }
}

/// Writes text in quotes. Most needs no escapes, and looking for them in pieces is many times faster than byte by byte.
fn write_text(text: &str, out: &mut Vec<u8>) -> Encoded {
    let needs_escape = |byte: &u8| matches!(byte, 0..=0x1f | b'"' | b'\\');
    let is_plain = |piece: &[u8]| {
        piece
            .iter()
            .fold(true, |plain, byte| plain & !needs_escape(byte))
    };
    if !text.as_bytes().chunks(64).all(is_plain) {
        return Ok(serde_json::to_writer(out, text)?);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Writes `{"variant":`, and returns the form of what comes after it.
fn open_variant(out: &mut Vec<u8>, variant: &str, form: Form) -> Result<Form, EncodeError> {
    let form = open(out, "{", form)?;
    write_text(variant, out)?;
    out.push(b':');
    Ok(form)
}

macro_rules! scalars {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Encoded {
            self.scalar(&value)
        })*
    };
}

impl<'a> ser::Serializer for Canonical<'a> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = Map<'a>;
    type SerializeStruct = Struct<'a>;
    type SerializeStructVariant = Struct<'a>;

    scalars! {
        serialize_bool: bool, serialize_char: char, serialize_bytes: &[u8],
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
    }

    fn serialize_str(self, text: &str) -> Encoded {
        write_text(text, self.out)
    }

    fn serialize_f32(self, value: f32) -> Encoded {
        self.float(value, value.is_finite())
    }

    fn serialize_f64(self, value: f64) -> Encoded {
        self.float(value, value.is_finite())
    }

    fn serialize_none(self) -> Encoded {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Encoded {
        if self.form.shows_some {
            self.out.extend_from_slice(b"{\"Some\":");
            nested(value, self.out, self.form)?;
            self.out.push(b'}');
            return Ok(());
        }
        value.serialize(self)
    }

    fn serialize_unit(self) -> Encoded {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Encoded {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Encoded {
        write_text(variant, self.out)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Encoded {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Encoded {
        let form = open_variant(self.out, variant, self.form)?;
        nested(value, self.out, form)?;
        self.out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, EncodeError> {
        List::open(self.out, "]", self.form)
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'a>, EncodeError> {
        List::open(self.out, "]", self.form)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'a>, EncodeError> {
        List::open(self.out, "]", self.form)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<List<'a>, EncodeError> {
        let form = open_variant(self.out, variant, self.form)?;
        List::open(self.out, "]}", form)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map<'a>, EncodeError> {
        Map::open(self.out, self.form)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Struct<'a>, EncodeError> {
        if OWN_TEXT.contains(&name) {
            return Ok(Struct::of_own_text(self.out));
        }
        Struct::open(self.out, "}", self.form)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Struct<'a>, EncodeError> {
        let form = open_variant(self.out, variant, self.form)?;
        Struct::open(self.out, "}}", form)
    }
}

/// A JSON array in the making.
#[derive(Debug)]
pub struct List<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
    first: bool,
    close: &'static str,
}

impl<'a> List<'a> {
    fn open(out: &'a mut Vec<u8>, close: &'static str, form: Form) -> Result<Self, EncodeError> {
        Ok(Self {
            form: open(out, "[", form)?,
            out,
            first: true,
            close,
        })
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        nested(value, self.out, self.form)
    }

    fn close(self) {
        self.out.extend_from_slice(self.close.as_bytes());
    }
}

macro_rules! list {
    ($($part:ident: $method:ident),* $(,)?) => {
        $(impl ser::$part for List<'_> {
            type Ok = ();
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
                self.item(value)
            }

            fn end(self) -> Encoded {
                self.close();
                Ok(())
            }
        })*
    };
}

list! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

/// A JSON object in the making, of a struct: fields in their order.
#[derive(Debug)]
pub struct Struct<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
    first: bool,
    close: &'static str,
    /// The one field is the text of the whole, to be written as it is.
    own_text: bool,
}

impl<'a> Struct<'a> {
    fn open(out: &'a mut Vec<u8>, close: &'static str, form: Form) -> Result<Self, EncodeError> {
        Ok(Self {
            form: open(out, "{", form)?,
            out,
            first: true,
            close,
            own_text: false,
        })
    }

    fn of_own_text(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            form: Form::SORTED,
            first: true,
            close: "",
            own_text: true,
        }
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Encoded {
        if self.own_text {
            return self.text(value);
        }
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        write_text(name, self.out)?;
        self.out.push(b':');
        nested(value, self.out, self.form)
    }

    fn text<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        let quoted = serde_json::to_vec(value)?;
        let text: String = serde_json::from_slice(&quoted)?;
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn close(self) {
        self.out.extend_from_slice(self.close.as_bytes());
    }
}

macro_rules! fields {
    ($($part:ident),*) => {
        $(impl ser::$part for Struct<'_> {
            type Ok = ();
            type Error = EncodeError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Encoded {
                self.field(name, value)
            }

            fn end(self) -> Encoded {
                self.close();
                Ok(())
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

/// A JSON object in the making, of a map. Entries are written as they come; if they came out of order, the
/// bytes are put in order at the end.
#[derive(Debug)]
pub struct Map<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
    /// Where the first entry begins.
    start: usize,
    entries: Vec<Entry>,
    sorted: bool,
}

#[derive(Debug)]
struct Entry {
    key: Range<usize>,
    end: usize,
}

impl<'a> Map<'a> {
    fn open(out: &'a mut Vec<u8>, form: Form) -> Result<Self, EncodeError> {
        Ok(Self {
            form: open(out, "{", form)?,
            start: out.len(),
            out,
            entries: Vec::new(),
            sorted: true,
        })
    }

    fn in_order(mut self) -> Self {
        if self.sorted || self.form.ordered {
            return self;
        }
        let written = self.out.split_off(self.start);
        let text = |range: Range<usize>| &written[range.start - self.start..range.end - self.start];
        self.entries
            .sort_by(|a, b| text(a.key.clone()).cmp(text(b.key.clone())));
        for (i, entry) in self.entries.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(text(entry.key.start..entry.end));
        }
        self
    }
}

impl ser::SerializeMap for Map<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Encoded {
        if !self.entries.is_empty() {
            self.out.push(b',');
        }
        let start = self.out.len();
        write_key(key, self.out)?;
        let key = start..self.out.len();
        self.sorted &= self
            .entries
            .last()
            .is_none_or(|last| self.out[last.key.clone()] <= self.out[key.clone()]);
        self.entries.push(Entry { end: key.end, key });
        self.out.push(b':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        nested(value, self.out, self.form)?;
        if let Some(entry) = self.entries.last_mut() {
            entry.end = self.out.len();
        }
        Ok(())
    }

    fn end(self) -> Encoded {
        self.in_order().out.push(b'}');
        Ok(())
    }
}

/// Writes a map's key: text as it is, numbers and booleans in quotes, as `serde_json` reads them back.
fn write_key<T: Serialize + ?Sized>(key: &T, out: &mut Vec<u8>) -> Encoded {
    let start = out.len();
    encode(key, out)?;
    match out.get(start) {
        Some(b'"') => Ok(()),
        Some(b'0'..=b'9' | b'-' | b't' | b'f') => {
            out.insert(start, b'"');
            out.push(b'"');
            Ok(())
        }
        _ => Err(EncodeError(
            "the keys of a map must be text, numbers or booleans".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::encode;

    fn text<T: Serialize>(value: &T) -> String {
        let mut out = Vec::new();
        encode(value, &mut out).expect("it has a JSON form");
        String::from_utf8(out).expect("JSON is text")
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Shape {
        Dot,
        Circle(f64),
        Line(i8, i8),
        Box { width: u64, depth: Option<u64> },
    }

    #[derive(Serialize)]
    struct Order {
        zebra: u8,
        apple: BTreeMap<u32, bool>,
        #[serde(flatten)]
        rest: HashMap<String, u8>,
    }

    #[test]
    fn every_kind_of_value_reads_as_serde_json_writes_it() {
        let shapes = vec![
            Shape::Dot,
            Shape::Circle(0.5),
            Shape::Line(-1, 1),
            Shape::Box {
                width: u64::MAX,
                depth: None,
            },
        ];
        assert_eq!(text(&shapes), serde_json::to_string(&shapes).unwrap());
        let mixed = (1_i128, 'ä', "\"\u{1}", b"ab", (), Some(true), f32::MIN);
        assert_eq!(text(&mixed), serde_json::to_string(&mixed).unwrap());
    }

    #[test]
    fn map_keys_are_sorted_as_text_and_read_back() {
        let numbers = BTreeMap::from([(2_u32, "b"), (10, "j")]);
        assert_eq!(text(&numbers), r#"{"10":"j","2":"b"}"#);
        let booleans = BTreeMap::from([(true, 1), (false, 0)]);
        let back: BTreeMap<bool, u8> = serde_json::from_str(&text(&booleans)).unwrap();
        assert_eq!(back, booleans);
    }

    #[test]
    fn struct_fields_keep_their_order() {
        #[derive(Serialize)]
        struct Plain {
            zebra: u8,
            apple: u8,
        }
        assert_eq!(
            text(&Plain { zebra: 1, apple: 2 }),
            r#"{"zebra":1,"apple":2}"#
        );
        let order = Order {
            zebra: 1,
            apple: BTreeMap::new(),
            rest: HashMap::from([("b".into(), 2)]),
        };
        assert_eq!(text(&order), r#"{"apple":{},"b":2,"zebra":1}"#);
    }

    #[test]
    fn nan_infinities_and_odd_keys_are_errors() {
        let encodes = |value: &dyn Fn(&mut Vec<u8>) -> bool| value(&mut Vec::new());
        assert!(!encodes(&|out| encode(&f64::NAN, out).is_ok()));
        assert!(!encodes(&|out| encode(&[f32::INFINITY], out).is_ok()));
        assert!(!encodes(
            &|out| encode(&BTreeMap::from([((1, 2), 3)]), out).is_ok()
        ));
        assert!(!encodes(&|out| encode(
            &BTreeMap::from([(None::<u8>, 3)]),
            out
        )
        .is_ok()));
    }

    #[test]
    fn what_is_nested_deeper_than_can_be_read_back_is_an_error() {
        #[derive(Serialize, Deserialize)]
        enum Step {
            End,
            List(Vec<Self>),
            One(Box<Self>),
            Two(Box<Self>, u8),
            Named { next: Box<Self> },
            Map(BTreeMap<u8, Self>),
            Option(Option<Box<Self>>),
        }
        type Wrap = fn(Step) -> Step;
        let wraps: [(Wrap, usize); 6] = [
            (|step| Step::List(vec![step]), 2),
            (|step| Step::One(step.into()), 1),
            (|step| Step::Two(step.into(), 0), 2),
            (|step| Step::Named { next: step.into() }, 2),
            (|step| Step::Map(BTreeMap::from([(1, step)])), 2),
            (|step| Step::Option(Some(step.into())), 1),
        ];
        for (at, (wrap, levels)) in wraps.into_iter().enumerate() {
            let deep = |times| (0..times).fold(Step::End, |step, _| wrap(step));
            let mut out = Vec::new();
            encode(&deep(127 / levels), &mut out).expect("that deep it can be read back");
            serde_json::from_slice::<Step>(&out).unwrap_or_else(|_| panic!("{at}"));
            let (deeper, mut plain) = (deep(127 / levels + 1), Vec::new());
            assert!(encode(&deeper, &mut out).is_err(), "{at}");
            serde_json::to_writer(&mut plain, &deeper).unwrap();
            assert!(serde_json::from_slice::<Step>(&plain).is_err(), "{at}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|x| json!(x)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_equal(value in values()) {
            let back: Value = serde_json::from_str(&text(&value)).unwrap();
            prop_assert_eq!(text(&back), text(&value));
        }

        #[test]
        fn text_of_any_length_reads_as_serde_json_writes_it(plain in "[a-zä]{0,200}", odd in ".{0,3}", rest in ".*") {
            for value in [format!("{plain}{odd}"), format!("{odd}{rest}")] {
                prop_assert_eq!(text(&value), serde_json::to_string(&value).unwrap());
            }
        }

        #[test]
        fn a_hash_map_writes_the_same_bytes_whatever_its_seed(
            map in prop::collection::btree_map(".*", any::<i32>(), 0..20)
        ) {
            let one: HashMap<_, _> = map.clone().into_iter().collect();
            let other: HashMap<_, _> = map.into_iter().rev().collect();
            prop_assert_eq!(text(&one), text(&other));
        }
    }
}
