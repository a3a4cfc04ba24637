//! The inside of an attribute.

use std::fmt::Display;

use proc_macro2::{Ident, TokenTree};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Attribute, Error, Meta, Result, Token};

use crate::error::Errors;
use crate::keys::Place;
use crate::value;

/// Reads the inside of `#[name(…)]`, all of it; `expected` says what that is.
pub(crate) fn arguments<T>(
    attr: &Attribute,
    expected: impl Display,
    read: impl FnOnce(ParseStream<'_>) -> Result<T>,
) -> Result<T> {
    match &attr.meta {
        Meta::List(list) if !list.tokens.is_empty() => list.parse_args_with(read),
        _ => Err(Error::new_spanned(
            attr.path(),
            format!("expected {expected}"),
        )),
    }
}

/// Hands each key inside of `#[session(…)]` to `set`.
pub(crate) fn keys(
    attr: &Attribute,
    place: &Place,
    set: impl FnMut(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    let expected = format!("`#[session(key = value)]`\n{}", place.list());
    arguments(attr, expected, |input| each_key(input, place, set))
}

/// Hands each key inside of `#[serde(…)]` to `refuse`.
pub(crate) fn serde_keys(attr: &Attribute, refuse: impl Fn(&Ident) -> Result<()>) -> Result<()> {
    attr.parse_args_with(|input: ParseStream<'_>| {
        let mut errors = Errors::default();
        while let Ok(key) = input.call(Ident::parse_any) {
            errors.keep(refuse(&key));
            skip_value(input)?;
            input.parse::<Option<Token![,]>>()?;
        }
        errors.into_result()
    })
}

/// Hands each key of a list to `set`, which reads its value; after a fault it goes on with the next.
pub(crate) fn each_key(
    input: ParseStream<'_>,
    place: &Place,
    mut set: impl FnMut(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    let mut errors = Errors::default();
    while !input.is_empty() {
        if errors.keep(one_key(input, place, &mut set)).is_none() {
            skip_value(input)?;
        }
        input.parse::<Option<Token![,]>>()?;
    }
    errors.into_result()
}

fn one_key(
    input: ParseStream<'_>,
    place: &Place,
    set: impl FnOnce(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    let key = input.call(Ident::parse_any);
    let key = key.map_err(|error| Error::new(error.span(), place.expected()))?;
    set(&key, input)?;
    if value::ends(input) {
        return Ok(());
    }
    Err(input.error(format!("expected `,` after the value of `{key}`")))
}

fn skip_value(input: ParseStream<'_>) -> Result<()> {
    while !value::ends(input) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}
