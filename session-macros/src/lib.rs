//! The derive macro of session-runtime. Its attributes are listed under [`Session`](macro@Session).

mod attr;
mod check;
mod duration;
mod error;
mod expand;
mod keys;
mod list;
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
/// | `#[session(merge = rule)]` | the rule of each field that names none and is no flash |
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
/// | `#[merge(rule)]` | how it merges. Without it, and without one on the struct, the later writer wins |
/// | `#[session(rename = "name")]` | its stored name. Without it, the field's own |
/// | `#[session(alias = "older")]` | an older stored name, which still reads. Can be repeated; is under the struct's prefix, too |
/// | `#[session(default = expression)]` | its value while it is absent, in place of `Default` |
/// | `#[session(upgrade(from = Old, with = function))]` | reads a value that was stored as an older type, through `fn(Old) -> T` |
///
/// Several keys fit in one `#[session(…)]`. Stored names have at most 100 bytes, and neither `.` nor `@`.
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
/// | `append` | sequences | both additions, in order |
/// | `union` | sets, and sequences | both additions, without either's removals |
/// | `max`, `min` | types that implement `Ord` | the greatest, the least |
/// | `deep` | maps, and types that implement `Merge` | key by key |
/// | `reject` | any type | the later request fails with a conflict, and writes nothing |
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
#[proc_macro_derive(Session, attributes(session, expire, flash, merge))]
pub fn session(input: TokenStream) -> TokenStream {
    derive(&parse_macro_input!(input as DeriveInput)).into()
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
