//! Tokens → options, each with the key that gave it.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Attribute, Error, ExprPath, LitStr, Meta, Result, Token, Type, parenthesized};

use crate::error::Errors;
use crate::keys::{self, usage};
use crate::value::{self, Duration, Rule};

/// A value, and the key that gave it.
pub(crate) struct Given<T> {
    pub(crate) key: Ident,
    pub(crate) value: T,
}

/// What the attributes of the struct say.
#[derive(Default)]
pub(crate) struct StructOptions {
    pub(crate) ttl: Option<Given<Duration>>,
    pub(crate) absolute: Option<Given<Duration>>,
    pub(crate) prefix: Option<Given<LitStr>>,
    pub(crate) merge: Option<Given<Rule>>,
}

/// What the attributes of a field say.
#[derive(Default)]
pub(crate) struct FieldOptions {
    pub(crate) rename: Option<Given<LitStr>>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) default: Option<Given<TokenStream>>,
    pub(crate) upgrade: Option<Given<Upgrade>>,
    pub(crate) expire: Option<Given<Expire>>,
    pub(crate) flash: Option<Given<()>>,
    pub(crate) merge: Option<Given<Rule>>,
}

/// `upgrade(from = Old, with = path)`.
pub(crate) struct Upgrade {
    pub(crate) from: Type,
    pub(crate) with: ExprPath,
}

/// `#[expire("1h", sliding)]`.
pub(crate) struct Expire {
    pub(crate) after: Duration,
    pub(crate) sliding: Option<Ident>,
}

impl StructOptions {
    pub(crate) fn read(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut options = Self::default();
        for attr in attrs {
            errors.keep(options.attribute(attr));
        }
        options
    }

    fn attribute(&mut self, attr: &Attribute) -> Result<()> {
        let Some(name) = attr.path().get_ident() else {
            return Ok(());
        };
        match name.to_string().as_str() {
            keys::SESSION => attr_keys(attr, name, |key, input| self.set(key, input)),
            keys::MERGE => Err(Error::new_spanned(name, keys::MERGE_ON_STRUCT)),
            keys::EXPIRE | keys::FLASH => Err(keys::ON_STRUCT.unknown(name)),
            _ => Ok(()),
        }
    }

    fn set(&mut self, key: &Ident, input: ParseStream<'_>) -> Result<()> {
        match key.to_string().as_str() {
            keys::TTL => put(&mut self.ttl, key, value::duration(key, input)?),
            keys::ABSOLUTE => put(&mut self.absolute, key, value::duration(key, input)?),
            keys::PREFIX => put(&mut self.prefix, key, value::name(key, input)?),
            keys::MERGE => put(&mut self.merge, key, value::rule_of_struct(key, input)?),
            _ => Err(keys::ON_STRUCT.unknown(key)),
        }
    }
}

impl FieldOptions {
    pub(crate) fn read(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut options = Self::default();
        for attr in attrs {
            errors.keep(options.attribute(attr));
        }
        options
    }

    fn attribute(&mut self, attr: &Attribute) -> Result<()> {
        let Some(name) = attr.path().get_ident() else {
            return Ok(());
        };
        match name.to_string().as_str() {
            keys::SESSION => attr_keys(attr, name, |key, input| self.set(key, input)),
            keys::EXPIRE => put(&mut self.expire, name, expire(attr, name)?),
            keys::FLASH => put(&mut self.flash, name, ()).and_then(|()| no_arguments(attr)),
            keys::MERGE => put(&mut self.merge, name, merge(attr, name)?),
            _ => Ok(()),
        }
    }

    fn set(&mut self, key: &Ident, input: ParseStream<'_>) -> Result<()> {
        match key.to_string().as_str() {
            keys::RENAME => put(&mut self.rename, key, value::name(key, input)?),
            keys::ALIAS => value::name(key, input).map(|alias| self.aliases.push(alias)),
            keys::DEFAULT => put(&mut self.default, key, value::expression(key, input)?),
            keys::UPGRADE => put(&mut self.upgrade, key, upgrade(key, input)?),
            _ => Err(keys::ON_FIELD.unknown(key)),
        }
    }
}

fn put<T>(option: &mut Option<Given<T>>, key: &Ident, value: T) -> Result<()> {
    if option.is_some() {
        return Err(Error::new_spanned(
            key,
            format!("`{key}` is given twice: keep one"),
        ));
    }
    *option = Some(Given {
        key: key.clone(),
        value,
    });
    Ok(())
}

/// `#[flash]`.
fn no_arguments(attr: &Attribute) -> Result<()> {
    match &attr.meta {
        Meta::Path(_) => Ok(()),
        _ => Err(Error::new_spanned(
            &attr.meta,
            "`#[flash]` stands alone: a flash takes no arguments",
        )),
    }
}

/// `#[expire("1h", sliding)]`.
fn expire(attr: &Attribute, name: &Ident) -> Result<Expire> {
    arguments(attr, name, |input| {
        if input.peek(Ident::peek_any) {
            return Err(input.error("the lifetime comes first: `#[expire(\"1h\", sliding)]`"));
        }
        let after = value::duration_text(name, input)?;
        let sliding = input
            .parse::<Option<Token![,]>>()?
            .filter(|_| !input.is_empty());
        let sliding = sliding.map(|_| sliding_flag(input)).transpose()?;
        Ok(Expire { after, sliding })
    })
}

fn sliding_flag(input: ParseStream<'_>) -> Result<Ident> {
    let fault = "only `sliding` can follow the lifetime: `#[expire(\"1h\", sliding)]`";
    let flag = input
        .call(Ident::parse_any)
        .map_err(|error| Error::new(error.span(), fault))?;
    if flag == keys::SLIDING {
        Ok(flag)
    } else {
        Err(Error::new_spanned(flag, fault))
    }
}

/// `#[merge(rule)]`.
fn merge(attr: &Attribute, name: &Ident) -> Result<Rule> {
    arguments(attr, name, value::rule)
}

/// `(from = Old, with = path)`.
fn upgrade(key: &Ident, input: ParseStream<'_>) -> Result<Upgrade> {
    if !input.peek(syn::token::Paren) {
        return Err(value::needs_value(key));
    }
    let inside;
    parenthesized!(inside in input);
    let (mut from, mut with) = (None, None);
    each_key(&inside, |key, input| match key.to_string().as_str() {
        keys::FROM => put(&mut from, key, value::ty(key, input)?),
        keys::WITH => put(&mut with, key, value::path(key, input)?),
        _ => Err(keys::IN_UPGRADE.unknown(key)),
    })?;
    match (from, with) {
        (Some(from), Some(with)) => Ok(Upgrade {
            from: from.value,
            with: with.value,
        }),
        _ => Err(Error::new_spanned(
            key,
            format!("`upgrade` needs both: `{}`", usage(keys::UPGRADE)),
        )),
    }
}

/// The inside of `#[name(…)]`, all of it.
fn arguments<T>(
    attr: &Attribute,
    name: &Ident,
    read: impl FnOnce(ParseStream<'_>) -> Result<T>,
) -> Result<T> {
    let usage = usage(&name.to_string());
    match &attr.meta {
        Meta::List(list) if !list.tokens.is_empty() => list.parse_args_with(read),
        meta => Err(Error::new_spanned(
            meta,
            format!("`{name}` is written `{usage}`"),
        )),
    }
}

/// Hands each `key …` inside of `#[session(…)]` to `set`.
fn attr_keys(
    attr: &Attribute,
    name: &Ident,
    set: impl FnMut(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    arguments(attr, name, |input| each_key(input, set))
}

/// Hands each `key …` of a list to `set`; after a fault it goes on with the next.
fn each_key(
    input: ParseStream<'_>,
    mut set: impl FnMut(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    let mut errors = Errors::default();
    while !input.is_empty() {
        if errors.keep(one_key(input, &mut set)).is_none() {
            skip_value(input)?;
        }
        input.parse::<Option<Token![,]>>()?;
    }
    errors.into_result()
}

fn one_key(
    input: ParseStream<'_>,
    set: impl FnOnce(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    let key = input
        .call(Ident::parse_any)
        .map_err(|error| Error::new(error.span(), "expected `key = value`"))?;
    set(&key, input)?;
    if value::ends(input) {
        Ok(())
    } else {
        Err(input.error("expected `,`"))
    }
}

fn skip_value(input: ParseStream<'_>) -> Result<()> {
    while !value::ends(input) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}
