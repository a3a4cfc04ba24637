//! The derive macro of session-runtime.

mod attr;
mod check;
mod duration;
mod error;
mod expand;
mod keys;
mod model;
mod value;

use error::Errors;
use model::Schema;
use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Turns a struct into a typed session.
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
        Some(report) => expand::skeleton(&schema, &report),
    }
}
