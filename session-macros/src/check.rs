//! The rules that hold between options, and what a field's type can be.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Error, Result, Type};

use crate::error::Errors;
use crate::model::{Field, Schema, StoredName};
use crate::value::Duration;

/// The longest stored name in bytes, its prefix included.
const LONGEST_NAME: usize = 100;

const OF_STRUCTS: &[fn(&Schema<'_>) -> Result<()>] = &[no_parameters, idle_within_absolute];

const OF_FIELDS: &[fn(&Schema<'_>, &Field<'_>) -> Result<()>] = &[
    expiry_within_absolute,
    flash_has_no_rule,
    guests_field_stays,
    flash_does_not_slide,
    names_are_short,
    values_are_owned,
    types_are_spelled_out,
];

/// Checks them all.
pub(crate) fn all(schema: &Schema<'_>, errors: &mut Errors) {
    for rule in OF_STRUCTS {
        errors.keep(rule(schema));
    }
    for field in &schema.fields {
        let mut faults = Errors::default();
        for rule in OF_FIELDS {
            faults.keep(rule(schema, field));
        }
        errors.of_field(field.ident, faults);
    }
    names_differ(schema, errors);
}

/// A session is one type: it has neither type parameters nor lifetimes.
fn no_parameters(schema: &Schema<'_>) -> Result<()> {
    let params = &schema.input.generics.params;
    let fault = "a session is one type: it cannot have type parameters or lifetimes";
    reject(!params.is_empty(), params, fault)
}

/// The idle lifetime is no longer than the absolute one.
fn idle_within_absolute(schema: &Schema<'_>) -> Result<()> {
    let Some(ttl) = &schema.options.ttl else {
        return Ok(());
    };
    within_absolute(schema, &ttl.value, "an idle lifetime")
}

/// A field does not outlive the session that it is in.
fn expiry_within_absolute(schema: &Schema<'_>, field: &Field<'_>) -> Result<()> {
    let Some(expire) = &field.options.expire else {
        return Ok(());
    };
    within_absolute(schema, &expire.value.after, "a lifetime")
}

fn within_absolute(schema: &Schema<'_>, lifetime: &Duration, kind: &str) -> Result<()> {
    let Some(absolute) = &schema.options.absolute else {
        return Ok(());
    };
    let too_long = lifetime.millis > absolute.value.millis;
    let (written, limit) = (lifetime.text.value(), absolute.value.text.value());
    let fault =
        format!("{kind} of {written} is too long: the session ends after {limit} (`absolute`)");
    reject(too_long, &lifetime.text, &fault)
}

/// A flash is used up by being read, and does not follow the user.
fn flash_has_no_rule(_: &Schema<'_>, field: &Field<'_>) -> Result<()> {
    let Some(merge) = following(field) else {
        return Ok(());
    };
    let fault = "a flash is used up by being read and does not follow the user: for a rule between requests write `#[merge(…, browser)]`, else remove `#[merge(…)]` or `#[flash]`";
    reject(field.is_flash(), merge, fault)
}

/// A field that is a guest's alone is gone when the guest becomes a user.
fn guests_field_stays(_: &Schema<'_>, field: &Field<'_>) -> Result<()> {
    let Some(merge) = following(field) else {
        return Ok(());
    };
    let fault = "a field of the guest's is gone at a login and does not follow the user: for a rule between requests write `#[merge(…, browser)]`, else remove `#[merge(…)]` or `guest`";
    reject(field.is_guests(), merge, fault)
}

/// The key that has the field follow the user.
fn following<'a>(field: &'a Field<'_>) -> Option<&'a Ident> {
    let merge = field.options.merge.as_ref()?;
    (!field.stays_with_browser()).then_some(&merge.key)
}

/// A flash is used up by the use that would extend it.
fn flash_does_not_slide(_: &Schema<'_>, field: &Field<'_>) -> Result<()> {
    let Some(sliding) = field.sliding() else {
        return Ok(());
    };
    let fault = "a flash is used up by being read, so that there is nothing left to extend: remove `sliding`";
    reject(field.is_flash(), sliding, fault)
}

/// Stores can count on short names.
fn names_are_short(_: &Schema<'_>, field: &Field<'_>) -> Result<()> {
    let Some(long) = field.names().find(|name| name.text.len() > LONGEST_NAME) else {
        return Ok(());
    };
    let length = long.text.len();
    let fault = format!(
        "a stored name has {LONGEST_NAME} bytes at most, its prefix included; this has {length}"
    );
    Err(Error::new(long.span, fault))
}

/// A session owns its values, since they outlive the request.
fn values_are_owned(_: &Schema<'_>, field: &Field<'_>) -> Result<()> {
    let borrowed = matches!(field.ty, Type::Reference(_));
    let fault =
        "a session owns its values: write `String` instead of `&str`, `Vec<T>` instead of `&[T]`";
    reject(borrowed, field.ty, fault)
}

/// The struct of cells repeats the field's type, and `Self` would be another type there.
fn types_are_spelled_out(schema: &Schema<'_>, field: &Field<'_>) -> Result<()> {
    let Some(this) = find_self(field.ty.to_token_stream()) else {
        return Ok(());
    };
    Err(Error::new_spanned(
        this,
        format!("write `{}` instead of `Self`", schema.input.ident),
    ))
}

fn find_self(tokens: TokenStream) -> Option<Ident> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == "Self" => Some(ident),
        TokenTree::Group(group) => find_self(group.stream()),
        _ => None,
    })
}

/// No two fields have a stored name in common, present or older, and no field names one twice.
fn names_differ(schema: &Schema<'_>, errors: &mut Errors) {
    let names = schema
        .fields
        .iter()
        .flat_map(|field| field.names().map(move |name| (field.ident, name)));
    let names: Vec<_> = names.collect();
    for (at, (field, name)) in names.iter().enumerate() {
        let earlier = names[..at]
            .iter()
            .find(|(_, earlier)| earlier.text == name.text);
        if let Some((other, _)) = earlier {
            errors.push(name_taken(field, name, other));
        }
    }
}

fn name_taken(field: &Ident, StoredName { text, span }: &StoredName, other: &Ident) -> Error {
    let fault = if field == other {
        format!(
            "field `{field}`: `{text}` is its stored name already, or an older one: remove this"
        )
    } else {
        format!(
            "field `{field}`: the stored name `{text}` belongs to the field `{other}` already: \
             choose another, `#[session(rename = \"…\")]`"
        )
    };
    Error::new(*span, fault)
}

fn reject(wrong: bool, at: impl ToTokens, fault: &str) -> Result<()> {
    if wrong {
        Err(Error::new_spanned(at, fault))
    } else {
        Ok(())
    }
}
