//! Tokens → options, each with the key that gave it.

use proc_macro2::{Ident, TokenStream};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Attribute, Error, ExprPath, LitStr, Meta, Path, Result, Token, Type, parenthesized};

use crate::error::Errors;
use crate::keys::{
    self, IN_UPGRADE, ON_FIELD, ON_PART, ON_STRUCT, Place, RULES, RULES_OF_PART, usage,
};
use crate::list;
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
    pub(crate) cells: Option<Given<Ident>>,
    pub(crate) krate: Option<Given<Path>>,
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
    /// The flag that says that the field stays with the browser, though it has a rule.
    pub(crate) browser: Option<Ident>,
    pub(crate) guest: Option<Given<()>>,
    pub(crate) ordered: Option<Given<()>>,
    pub(crate) with: Option<Given<Path>>,
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
            keys::SESSION => list::keys(attr, &ON_STRUCT, |key, input| self.set(key, input)),
            keys::MERGE => Err(Error::new_spanned(name, keys::MERGE_ON_STRUCT)),
            keys::EXPIRE | keys::FLASH => Err(ON_STRUCT.unknown(name)),
            keys::SERDE => serde(attr, true),
            _ => Ok(()),
        }
    }

    fn set(&mut self, key: &Ident, input: ParseStream<'_>) -> Result<()> {
        match key.to_string().as_str() {
            keys::TTL => put(&mut self.ttl, key, value::duration(key, input)?),
            keys::ABSOLUTE => put(&mut self.absolute, key, value::duration(key, input)?),
            keys::PREFIX => put(&mut self.prefix, key, value::name(key, input)?),
            keys::MERGE => put(&mut self.merge, key, value::rule_of_struct(key, input)?),
            keys::CELLS => put(&mut self.cells, key, value::ident(key, input)?),
            keys::CRATE => put(&mut self.krate, key, value::krate(key, input)?),
            _ => Err(ON_STRUCT.unknown(key)),
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
            keys::SESSION => list::keys(attr, &ON_FIELD, |key, input| self.set(key, input)),
            keys::EXPIRE => put(&mut self.expire, name, expire(attr, name)?),
            keys::FLASH => put(&mut self.flash, name, ()).and_then(|()| flash(attr, name)),
            keys::MERGE => {
                let (rule, browser) = merge_of_field(attr)?;
                self.browser = browser;
                put(&mut self.merge, name, rule)
            }
            keys::SERDE => serde(attr, false),
            _ => Ok(()),
        }
    }

    fn set(&mut self, key: &Ident, input: ParseStream<'_>) -> Result<()> {
        match key.to_string().as_str() {
            keys::GUEST => put(&mut self.guest, key, ()),
            keys::ORDERED => put(&mut self.ordered, key, ()),
            keys::RENAME => put(&mut self.rename, key, value::name(key, input)?),
            keys::ALIAS => value::name(key, input).map(|alias| self.aliases.push(alias)),
            keys::DEFAULT => put(&mut self.default, key, value::expression(key, input)?),
            keys::UPGRADE => put(&mut self.upgrade, key, upgrade(key, input)?),
            keys::WITH => put(&mut self.with, key, value::module(key, input)?),
            _ => Err(ON_FIELD.unknown(key)),
        }
    }
}

/// The rule that the attributes of a part name.
pub(crate) fn rule_of_part(attrs: &[Attribute], errors: &mut Errors) -> Option<Given<Rule>> {
    let mut rule = None;
    for attr in attrs {
        errors.keep(attribute_of_part(attr, &mut rule));
    }
    rule
}

fn attribute_of_part(attr: &Attribute, rule: &mut Option<Given<Rule>>) -> Result<()> {
    let Some(name) = attr.path().get_ident() else {
        return Ok(());
    };
    match name.to_string().as_str() {
        keys::MERGE => put(rule, name, merge(attr, &RULES_OF_PART)?),
        keys::SESSION | keys::EXPIRE | keys::FLASH => Err(ON_PART.unknown(name)),
        _ => Ok(()),
    }
}

/// Reads where the attributes of a struct of parts say that this crate is found. They say nothing else: what is for a field
/// stands above it.
pub(crate) fn crate_of_parts(attrs: &[Attribute], errors: &mut Errors) -> Option<Given<Path>> {
    let mut krate = None;
    for attr in attrs {
        errors.keep(attribute_of_parts(attr, &mut krate));
    }
    krate
}

fn attribute_of_parts(attr: &Attribute, krate: &mut Option<Given<Path>>) -> Result<()> {
    let Some(name) = attr.path().get_ident() else {
        return Ok(());
    };
    let misplaced = || Error::new_spanned(name, keys::MERGE_ON_PARTS);
    match name.to_string().as_str() {
        keys::MERGE => list::arguments(attr, keys::MERGE_ON_PARTS, |input| {
            let key = input.call(Ident::parse_any).map_err(|_| misplaced())?;
            if key != keys::CRATE {
                input.parse::<TokenStream>()?;
                return Err(misplaced());
            }
            put(krate, &key, value::krate(&key, input)?)
        }),
        keys::SESSION | keys::EXPIRE | keys::FLASH => Err(ON_PART.unknown(name)),
        _ => Ok(()),
    }
}

fn put<T>(option: &mut Option<Given<T>>, key: &Ident, value: T) -> Result<()> {
    if option.is_some() {
        let fault = format!("`{key}` is given twice: keep one");
        return Err(Error::new_spanned(key, fault));
    }
    *option = Some(Given {
        key: key.clone(),
        value,
    });
    Ok(())
}

/// Refuses each key of `#[serde(…)]`, which would do nothing.
fn serde(attr: &Attribute, on_struct: bool) -> Result<()> {
    let Meta::List(_) = &attr.meta else {
        return Ok(());
    };
    list::serde_keys(attr, |key| Err(keys::serde_key(key, on_struct)))
}

/// `#[flash]`.
fn flash(attr: &Attribute, name: &Ident) -> Result<()> {
    if matches!(attr.meta, Meta::Path(_)) {
        return Ok(());
    }
    let fault = "a flash takes no arguments: write `#[flash]`";
    Err(Error::new_spanned(name, fault))
}

/// `#[expire("1h", sliding)]`.
fn expire(attr: &Attribute, name: &Ident) -> Result<Expire> {
    let expected = format!("`{}`", usage(keys::EXPIRE));
    list::arguments(attr, expected, |input| {
        let word = input.fork().call(Ident::parse_any);
        if word.is_ok_and(|word| word == keys::SLIDING) {
            let fault = format!("the lifetime comes first: `{}`", usage(keys::SLIDING));
            return Err(input.error(fault));
        }
        let after = value::duration_text(name, input)?;
        let sliding = sliding(input)?;
        Ok(Expire { after, sliding })
    })
}

/// `, sliding`, or nothing.
fn sliding(input: ParseStream<'_>) -> Result<Option<Ident>> {
    let fault = format!(
        "only `sliding` can follow the lifetime: `{}`",
        usage(keys::SLIDING)
    );
    let comma = input.parse::<Option<Token![,]>>()?;
    let word: Option<Ident> = comma.and_then(|_| input.call(Ident::parse_any).ok());
    match word {
        Some(word) if word != keys::SLIDING => Err(Error::new_spanned(word, fault)),
        _ if !input.is_empty() => Err(input.error(fault)),
        word => Ok(word),
    }
}

/// `#[merge(rule)]`, or `#[merge(rule, browser)]`.
fn merge_of_field(attr: &Attribute) -> Result<(Rule, Option<Ident>)> {
    let expected = format!("`#[merge(rule)]`\n{}", RULES.list());
    list::arguments(attr, expected, |input| {
        let rule = value::rule_before_flag(&RULES, input)?;
        let word = input.parse::<Option<Token![,]>>()?;
        let flag: Option<Ident> = word.and_then(|_| input.call(Ident::parse_any).ok());
        let known = flag.as_ref().is_none_or(|flag| flag == keys::BROWSER);
        if known && input.is_empty() {
            return Ok((rule, flag));
        }
        let fault = format!(
            "a field has one rule, and only `browser` can follow it, which keeps the field with the browser: `{}`",
            usage(keys::BROWSER)
        );
        Err(flag.map_or_else(
            || input.error(&fault),
            |flag| Error::new_spanned(flag, &fault),
        ))
    })
}

/// `#[merge(rule)]`, of a part.
fn merge(attr: &Attribute, place: &Place) -> Result<Rule> {
    let expected = format!("`#[merge(rule)]`\n{}", place.list());
    list::arguments(attr, expected, |input| value::rule(place, input))
}

/// `(from = Old, with = path)`.
fn upgrade(key: &Ident, input: ParseStream<'_>) -> Result<Upgrade> {
    if !input.peek(syn::token::Paren) {
        return Err(value::needs_value(key));
    }
    let inside;
    parenthesized!(inside in input);
    let (mut from, mut with) = (None, None);
    list::each_key(&inside, &IN_UPGRADE, |key, input| {
        match key.to_string().as_str() {
            keys::FROM => put(&mut from, key, value::ty(key, input)?),
            keys::WITH => put(&mut with, key, value::path(key, input)?),
            _ => Err(IN_UPGRADE.unknown(key)),
        }
    })?;
    let (Some(from), Some(with)) = (from, with) else {
        let fault = format!("`upgrade` needs both: `{}`", usage(keys::UPGRADE));
        return Err(Error::new_spanned(key, fault));
    };
    let (from, with) = (from.value, with.value);
    Ok(Upgrade { from, with })
}
