//! The derive macros of session-runtime: [`Session`](macro@Session), which lists the attributes and rules, and
//! [`Merge`](macro@Merge) for what is in its fields.

mod attr;
mod check;
mod duration;
mod error;
mod expand;
mod keys;
mod list;
mod merge;
mod model;
mod skeleton;
mod value;

#[cfg(test)]
mod tests;

use error::Errors;
use model::Schema;
use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Turns a struct with named fields into a typed session.
///
/// For `struct Shop` it makes `struct ShopSession`, which has the same fields, each in a cell: `Field<T>`, or
/// `Flash<T>` if it is a `#[flash]`. Visibility and docs carry over. A handler takes `Session<Shop>`, which
/// derefs to the cells.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use session_runtime::Session;
///
/// #[derive(Session)]
/// #[session(ttl = "2h")]
/// struct Shop {
///     #[merge(sum)]
///     cart: BTreeMap<String, u32>,
///     #[expire("15m")]
///     checkout: Option<String>,
///     #[flash]
///     notice: Option<String>,
/// }
///
/// async fn add(mut session: Session<Shop>) -> usize {
///     *session.cart.get_mut().entry("apple".to_owned()).or_default() += 1;
///     session.notice.set("Added to your cart.".to_owned());
///     session.cart.get().len()
/// }
/// # let _ = add;
/// ```
///
/// A field's type implements `Serialize`, `Deserialize`, `Default`, `Send` and `Sync`, and owns what it holds.
///
/// # On the struct
///
/// | attribute | meaning |
/// |---|---|
/// | `#[session(ttl = "2h")]` | how long a session may be idle. Without it, the layer's setting |
/// | `#[session(absolute = "30d")]` | how long it may live at all, however much it is used. Without it, the layer's setting |
/// | `#[session(prefix = "auth")]` | stores the fields as `auth.name`, so that several structs share one session. Another prefix is another set of fields |
/// | `#[session(merge = rule)]` | the rule of each field that names none and is neither a flash nor a guest's; any but `by_key` and `with` |
/// | `#[session(cells = Name)]` | what the struct of cells is called, where the app has a `ShopSession` of its own |
/// | `#[session(crate = path)]` | where this crate is found, if not as `::session_runtime`: under another name, or in a crate of yours that re-exports it |
///
/// Of several structs in one session, the longest lifetime counts.
///
/// # On a field
///
/// | attribute | meaning |
/// |---|---|
/// | `#[expire("15m")]` | gone that long after it was set, though the session lives on. Reading does not extend it |
/// | `#[expire("15m", sliding)]` | the same, extended whenever it is used |
/// | `#[flash]` | used up by being read |
/// | `#[merge(rule)]` | follows the user (`reject` does not), and this is how it merges. Without it, and without one on the struct, the later writer wins |
/// | `#[merge(rule, browser)]` | how it merges between requests; it stays with the browser. The one form for a `#[flash]`: `#[merge(append, browser)]` keeps two notices that are set at once |
/// | `#[session(rename = "name")]` | its stored name. Without it, the field's own |
/// | `#[session(alias = "older")]` | an older stored name, which still reads. Can be repeated; is under the struct's prefix, too |
/// | `#[session(default = expression)]` | its value while it is absent, in place of `Default` |
/// | `#[session(guest)]` | a guest's alone, gone at a login: for a token or a flag that somebody may have planted in the session before. Nothing that is stored under its name without `guest` is read |
/// | `#[session(upgrade(from = Old, with = function))]` | reads a value that was stored as an older type, through `fn(Old) -> T`; it is asked for what does not read as `T`. Where both read it, give the field another name |
/// | `#[session(ordered)]` | its maps are stored in the order that they have, and a change of order is a change: for an `IndexMap`, or JSON with `serde_json`'s `preserve_order`. Without it maps are sorted by key, so that the order in which a `HashMap` happens to be is no change |
/// | `#[session(with = module)]` | how it is stored: by the module's `serialize` and `deserialize`, as serde's `with`. The type needs neither trait. For bytes: `session_runtime::base64` |
///
/// Several keys fit in one `#[session(…)]`. An attribute of serde's would do nothing, and is an error: a session is stored
/// field by field. Stored names have at most 100 bytes, and neither `.` nor `@`.
///
/// ```
/// use session_runtime::Session;
///
/// #[derive(Session)]
/// #[session(prefix = "list", absolute = "30d")]
/// struct List {
///     #[session(rename = "size", alias = "page_size", default = 20)]
///     rows: u32,
///     #[session(upgrade(from = u32, with = by_number))]
///     sorted_by: String, // was the number of a column until version 2
///     #[expire("1h 30m", sliding)]
///     filter: Option<String>,
/// }
///
/// fn by_number(column: u32) -> String {
///     format!("column {column}")
/// }
/// ```
///
/// # Rules
///
/// | rule | for | what becomes of two changes |
/// |---|---|---|
/// | `user` | any type | at login the account's value, else the guest's; between requests the later writer's |
/// | `guest` | any type | at login the guest's value, else the account's; between requests the later writer's |
/// | `sum` | integers, and maps of them | both differences count |
/// | `append` | sequences | what was there and both additions, in order. What one side removes comes back if the other has changed the list, too |
/// | `union` | sets, and sequences | both additions; what either side removes is gone |
/// | `max`, `min` | types that implement `Ord` | the greatest, the least |
/// | `deep` | maps, JSON, types that [derive `Merge`](macro@Merge), and each in an `Option` | key by key, field by field |
/// | `by_key = field` | a `Vec` of such types | items whose `field` is equal merge, as their type says |
/// | `left_precedent`, `right_precedent`, `storage_precedent`, `retainment_precedent` | `serde_json::Value` | below |
/// | `reject` | any type | the later request fails with a conflict, and writes nothing; the field stays with the browser |
/// | `with = function` | any type | what `fn(Sides<T>) -> T` makes of them |
///
/// ```
/// use session_runtime::{Session, Sides};
///
/// #[derive(Session)]
/// #[session(merge = user)]
/// struct Search {
///     language: String,
///     #[merge(max)]
///     best_score: u32,
///     #[merge(with = longest)]
///     query: String,
/// }
///
/// fn longest(sides: Sides<String>) -> String {
///     let (ours, theirs) = (sides.ours.unwrap_or_default(), sides.theirs.unwrap_or_default());
///     if ours.len() > theirs.len() { ours } else { theirs }
/// }
/// ```
///
/// The later writer of two requests is the one whose change is written later.
///
/// With `by_key`, the account's lines (or those stored by now) come first, in their order, and then what the
/// other side has added, in its own. A line that one side removed is gone, unless the other has changed it. If a key is there
/// twice, each side's first goes with the other's first, the second with the second. The field can be one of an item's field,
/// `by_key = product.sku`, or have a number, `by_key = 0`.
///
/// The four rules for JSON differ at login alone: between requests they are `deep`. Two objects merge key by
/// key, to any depth, and two arrays are joined. Of other pairs, where the account has a *left* value and the
/// guest a *right* one,
///
/// | rule | keeps |
/// |---|---|
/// | `left_precedent` | the left; what is right is added if the left is an array |
/// | `right_precedent` | the right; what is left goes before it if the right is an array |
/// | `storage_precedent` | the one that can hold more, an object before an array before a scalar; an array takes a scalar in; of two scalars the left |
/// | `retainment_precedent` | both: in an object if either is one, with items under their own text; else in an array |
///
/// # Deploys
///
/// While a new version of the app replaces an older one, both read and write. So a field is renamed in two deploys: the
/// first knows the newer name, and writes the older; the second the other way round. A type is changed the same way: the
/// first reads both forms, and writes the older.
///
/// ```
/// # use session_runtime::Session;
/// # #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// # struct Price { cents: u32 }
/// # fn of_cents(cents: u32) -> Price { Price { cents } }
/// # mod older_form {
/// #     use serde::{Deserialize, Deserializer, Serialize, Serializer};
/// #     use super::{Price, of_cents};
/// #     #[derive(Deserialize)]
/// #     #[serde(untagged)]
/// #     enum Form { Older(u32), Newer(Price) }
/// #     pub fn serialize<S: Serializer>(price: &Price, to: S) -> Result<S::Ok, S::Error> { price.cents.serialize(to) }
/// #     pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Price, D::Error> {
/// #         Ok(match Form::deserialize(from)? { Form::Older(cents) => of_cents(cents), Form::Newer(price) => price })
/// #     }
/// # }
/// mod running {
/// #   use super::*;
///     #[derive(Session)]
///     struct Shop {
///         colour: String,
///         price: u32,
///     }
/// }
///
/// mod first_deploy {
/// #   use super::*;
///     #[derive(Session)]
///     struct Shop {
///         #[session(rename = "colour", alias = "color")]
///         color: String,
///         #[session(with = older_form)] // `deserialize` reads both, `serialize` writes a number
///         price: Price,
///     }
/// }
///
/// mod second_deploy {
/// #   use super::*;
///     #[derive(Session)]
///     struct Shop {
///         #[session(alias = "colour")]
///         color: String,
///         #[session(upgrade(from = u32, with = of_cents))]
///         price: Price,
///     }
/// }
/// # fn main() {}
/// ```
///
/// With one deploy alone, the older version would not see what the newer has written under the new name or as the new
/// type, and what it writes itself would be older than that and stand beside it.
///
/// # Durations
///
/// Whole numbers with their units, longest first or not: `"90s"`, `"15m"`, `"2h 30m"`, `"7 days"`, `"500ms"`.
///
/// | unit | written |
/// |---|---|
/// | milliseconds | `ms`, `millis`, `millisecond`, `milliseconds` |
/// | seconds | `s`, `sec`, `secs`, `second`, `seconds` |
/// | minutes | `m`, `min`, `mins`, `minute`, `minutes` |
/// | hours | `h`, `hr`, `hrs`, `hour`, `hours` |
/// | days | `d`, `day`, `days` |
/// | weeks | `w`, `week`, `weeks` |
///
/// At least a millisecond, at most a hundred years.
#[proc_macro_derive(Session, attributes(session, expire, flash, merge, serde))]
pub fn session(input: TokenStream) -> TokenStream {
    derive(&parse_macro_input!(input as DeriveInput)).into()
}

/// Merges a struct with named fields, each field by a rule of its own.
///
/// It is for the values *in* a session's fields, and implements the trait `session_runtime::Merge`, which the
/// rules `deep` and `by_key` ask for.
///
/// ```
/// use session_runtime::{Merge, Session};
///
/// #[derive(Session)]
/// struct Shop {
///     #[merge(by_key = sku)]
///     cart: Vec<Line>,
/// }
///
/// #[derive(Merge, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Line {
///     sku: String,
///     #[merge(sum)]
///     quantity: u32,
///     #[merge(max)]
///     added_at: u64,
/// }
/// ```
///
/// The rules are those of [`Session`](macro@Session#rules), but for `reject`, which is for a whole field of the session. A field
/// without a rule is the later writer's, and at login the guest's. If only one side has changed a field, no rule is
/// asked: its value stands.
///
/// If one side removed the whole value and the other has changed it, the change stands, whichever came first: what is
/// there in vain can be removed again, what is gone is gone. If a rule leaves nothing of one field (as the
/// `Merge` of an app can), nothing is left of the whole.
///
/// Fields implement `PartialEq`, and so does the struct. `#[merge(crate = path)]` above it says where this crate is found.
#[proc_macro_derive(Merge, attributes(merge, session, expire, flash))]
pub fn merge(input: TokenStream) -> TokenStream {
    merge::derive(&parse_macro_input!(input as DeriveInput)).into()
}

/// Parse, model, check, expand.
fn derive(input: &DeriveInput) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let schema = Schema::read(input, &mut errors);
    check::all(&schema, &mut errors);
    match errors.report() {
        None => expand::schema(&schema),
        Some(faults) => skeleton::schema(&schema, &faults),
    }
}
