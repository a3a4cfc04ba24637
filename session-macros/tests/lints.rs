//! What the derives emit, in an app that forbids lints and finds this crate elsewhere.

#![forbid(
    absolute_paths_not_starting_with_crate,
    ambiguous_negative_literals,
    dead_code,
    deprecated,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    ffi_unwind_calls,
    if_let_rescope,
    impl_trait_redundant_captures,
    keyword_idents_2018,
    let_underscore_drop,
    macro_use_extern_crate,
    meta_variable_misuse,
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    mismatched_lifetime_syntaxes,
    non_ascii_idents,
    non_camel_case_types,
    non_local_definitions,
    non_snake_case,
    non_upper_case_globals,
    path_statements,
    private_bounds,
    private_interfaces,
    redundant_imports,
    redundant_lifetimes,
    rust_2021_incompatible_closure_captures,
    single_use_lifetimes,
    tail_expr_drop_order,
    trivial_casts,
    trivial_numeric_casts,
    unit_bindings,
    unnameable_types,
    unreachable_pub,
    unsafe_code,
    unused_braces,
    unused_extern_crates,
    unused_import_braces,
    unused_imports,
    unused_lifetimes,
    unused_macro_rules,
    unused_mut,
    unused_parens,
    unused_qualifications,
    unused_results,
    unused_variables,
    variant_size_differences
)]
#![forbid(warnings)]

/// A crate of the house, which hands this one on.
pub mod house {
    pub use session_runtime as sessions;
}

use house::sessions::{Merge, Session};

/// What is known of a visitor.
#[derive(Debug, Session)]
#[session(crate = house::sessions, cells = VisitorCells, ttl = "1h")]
#[deprecated = "nobody comes"]
pub struct Visitor {
    /// How often they came.
    #[deprecated = "nobody asks"]
    #[merge(sum)]
    pub visits: u32,
    /// What they bought.
    #[deprecated]
    #[merge(by_key = r#type)]
    #[session(with = stored)]
    pub lines: Vec<Line>,
    /// What they are told.
    #[deprecated]
    #[flash]
    pub r#type: Option<String>,
    /// What they look like.
    #[expire("1m", sliding)]
    #[session(with = session_runtime::base64, upgrade(from = String, with = String::into_bytes))]
    pub picture: Vec<u8>,
}

/// The app's own.
#[derive(Clone, Copy, Debug)]
pub struct VisitorSession;

/// What they bought.
#[derive(Debug, Merge, PartialEq)]
#[merge(crate = house::sessions)]
pub struct Line {
    /// What it is.
    pub r#type: String,
    /// How much of it.
    #[deprecated]
    #[merge(sum)]
    pub quantity: u32,
}

/// How that is stored: serde's own derives allow lints. Of no interest here.
mod stored {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Line;

    pub(crate) fn serialize<S: Serializer>(_: &[Line], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Line>, D::Error> {
        <()>::deserialize(from).map(|()| Vec::new())
    }
}

/// Nothing.
#[derive(Clone, Copy, Debug, Merge, PartialEq)]
#[merge(crate = crate::house::sessions)]
pub struct Empty {}

/// Nobody.
#[derive(Clone, Copy, Debug, Session)]
#[session(crate = crate::house::sessions)]
pub struct Nobody {}

#[test]
fn each_is_a_session() {
    fn is_a_session<S: house::sessions::Schema>() -> usize {
        size_of::<S::Cells>()
    }
    assert_eq!(size_of::<VisitorSession>(), 0);
    assert_eq!(is_a_session::<Nobody>(), 0);
}
