//! How the value of a key is written: as text, a duration, a rule, a path, an expression.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{AngleBracketedGenericArguments, Error, ExprPath, Lit, LitStr, Result, Token, Type};

use crate::duration;
use crate::keys::{self, RULES, usage};

/// A duration, and the text it was written as.
pub(crate) struct Duration {
    pub(crate) millis: u64,
    pub(crate) text: LitStr,
}

/// What `#[merge(…)]` names.
#[derive(Clone)]
pub(crate) enum Rule {
    /// One of the runtime's functions.
    Named(Ident),
    /// `reject`.
    Reject,
    /// A function of the app.
    With(ExprPath),
}

/// `= "text"`.
pub(crate) fn text(key: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    equals(key, input)?;
    input.parse().map_err(|error| {
        Error::new(
            error.span(),
            format!("expected text in quotes: `{}`", written(key)),
        )
    })
}

/// `= "name"`, which is to be part of a stored name.
pub(crate) fn name(key: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    let name = text(key, input)?;
    match name_fault(&name.value()) {
        Some(fault) => Err(Error::new_spanned(name, format!("a stored name {fault}"))),
        None => Ok(name),
    }
}

/// What is wrong with a stored name, or a part of one.
fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("cannot be empty")
    } else if name.contains('@') {
        Some("cannot contain `@`: such names are the session's own")
    } else if name.contains('.') {
        Some("cannot contain `.`: the dot stands between a prefix and a name")
    } else if name.contains(char::is_control) {
        Some("cannot contain control characters")
    } else {
        None
    }
}

/// `= "2h"`.
pub(crate) fn duration(key: &Ident, input: ParseStream<'_>) -> Result<Duration> {
    equals(key, input)?;
    duration_text(key, input)
}

/// `"2h"`.
pub(crate) fn duration_text(key: &Ident, input: ParseStream<'_>) -> Result<Duration> {
    let text = match input.parse() {
        Ok(Lit::Str(text)) => text,
        Ok(Lit::Int(number)) => return Err(unquoted(&number)),
        Ok(other) => return Err(Error::new_spanned(other, not_a_duration(key))),
        Err(error) => return Err(Error::new(error.span(), not_a_duration(key))),
    };
    let parsed = duration::parse(&text.value());
    let millis = parsed.map_err(|fault| Error::new_spanned(&text, fault))?;
    Ok(Duration { millis, text })
}

fn unquoted(number: &syn::LitInt) -> Error {
    let unit = if number.suffix().is_empty() { "s" } else { "" };
    Error::new_spanned(
        number,
        format!("a duration is text, with its unit: write `\"{number}{unit}\"`"),
    )
}

fn not_a_duration(key: &Ident) -> String {
    format!("expected a duration in quotes: `{}`", written(key))
}

/// `rule`, or `with = path`.
pub(crate) fn rule(input: ParseStream<'_>) -> Result<Rule> {
    let name = rule_name(input)?;
    let rule = if name == keys::WITH {
        Rule::With(path(&name, input)?)
    } else {
        named_rule(name)
    };
    if input.is_empty() {
        Ok(rule)
    } else {
        Err(input.error("a field has one rule: `#[merge(sum)]`"))
    }
}

/// `= rule`.
pub(crate) fn rule_of_struct(key: &Ident, input: ParseStream<'_>) -> Result<Rule> {
    equals(key, input)?;
    let name = rule_name(input)?;
    if name == keys::WITH {
        return Err(Error::new_spanned(name, keys::WITH_ON_STRUCT));
    }
    Ok(named_rule(name))
}

fn rule_name(input: ParseStream<'_>) -> Result<Ident> {
    if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        return Err(Error::new_spanned(
            &text,
            format!("a rule is written without quotes: `{}`", text.value()),
        ));
    }
    let rule = input.call(Ident::parse_any);
    let rule = rule.map_err(|error| {
        Error::new(
            error.span(),
            format!("expected a rule: one of {}", RULES.list()),
        )
    })?;
    if RULES.knows(&rule) {
        Ok(rule)
    } else {
        Err(RULES.unknown(&rule))
    }
}

fn named_rule(name: Ident) -> Rule {
    if name == keys::REJECT {
        Rule::Reject
    } else {
        Rule::Named(name)
    }
}

/// `= path::to::function`.
pub(crate) fn path(key: &Ident, input: ParseStream<'_>) -> Result<ExprPath> {
    equals(key, input)?;
    input.parse().map_err(|error| {
        Error::new(
            error.span(),
            format!("expected the path of a function: `{}`", written(key)),
        )
    })
}

/// `= path::to::Type`.
pub(crate) fn ty(key: &Ident, input: ParseStream<'_>) -> Result<Type> {
    equals(key, input)?;
    input
        .parse()
        .map_err(|error| Error::new(error.span(), format!("expected a type: `{}`", written(key))))
}

/// `= expression`, up to the next comma that is not inside of it.
pub(crate) fn expression(key: &Ident, input: ParseStream<'_>) -> Result<TokenStream> {
    equals(key, input)?;
    let mut tokens = TokenStream::new();
    while !ends(input) {
        if tokens.is_empty() && input.peek(Token![<]) {
            input.parse::<ExprPath>()?.to_tokens(&mut tokens);
        } else if input.peek(Token![::]) && input.peek3(Token![<]) {
            input
                .parse::<AngleBracketedGenericArguments>()?
                .to_tokens(&mut tokens);
        } else {
            input.parse::<TokenTree>()?.to_tokens(&mut tokens);
        }
    }
    Ok(tokens)
}

/// Whether a value is at its end.
pub(crate) fn ends(input: ParseStream<'_>) -> bool {
    input.is_empty() || input.peek(Token![,])
}

fn equals(key: &Ident, input: ParseStream<'_>) -> Result<()> {
    let given = input.parse::<Option<Token![=]>>()?.is_some() && !ends(input);
    if given { Ok(()) } else { Err(needs_value(key)) }
}

/// The fault that a key stands alone.
pub(crate) fn needs_value(key: &Ident) -> Error {
    Error::new_spanned(key, format!("`{key}` needs a value: `{}`", written(key)))
}

fn written(key: &Ident) -> &'static str {
    usage(&key.to_string())
}
