//! How the value of a key is written: as text, a duration, a rule, a path, an expression.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{
    AngleBracketedGenericArguments, Error, ExprPath, LitInt, LitStr, Member, Path, Result, Token,
    Type,
};

use crate::duration;
use crate::keys::{self, Place, RULES_OF_STRUCT, usage};

/// A duration, and the text it was written as.
pub(crate) struct Duration {
    pub(crate) millis: u64,
    pub(crate) text: LitStr,
}

/// What `#[merge(…)]` names.
pub(crate) enum Rule {
    /// One of the runtime's functions.
    Named(Ident),
    /// `reject`.
    Reject,
    /// A field of the list's items.
    ByKey(FieldPath),
    /// A function of the app.
    With(ExprPath),
}

/// `sku`, or `product.sku`.
pub(crate) type FieldPath = Punctuated<Member, Token![.]>;

/// `= "text"`.
pub(crate) fn text(key: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    equals(key, input)?;
    input.parse().map_err(expected("text in quotes", key))
}

/// `= "name"`, which is to be part of a stored name.
pub(crate) fn name(key: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    let name = text(key, input)?;
    match name_fault(&name.value()) {
        Some(fault) => Err(Error::new_spanned(name, format!("a stored name {fault}"))),
        None => Ok(name),
    }
}

/// Says what is wrong with a stored name, or a part of one.
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
    if input.peek(LitInt) {
        return Err(unquoted(&input.parse()?));
    }
    let text: LitStr = input
        .parse()
        .map_err(expected("a duration in quotes", key))?;
    let parsed = duration::parse(&text.value());
    let millis = parsed.map_err(|fault| Error::new_spanned(&text, fault))?;
    Ok(Duration { millis, text })
}

fn unquoted(number: &LitInt) -> Error {
    let unit = if number.suffix().is_empty() { "s" } else { "" };
    let fault = format!("a duration is text, with its unit: write `\"{number}{unit}\"`");
    Error::new_spanned(number, fault)
}

/// `rule`, `by_key = field`, or `with = path`.
pub(crate) fn rule(place: &Place, input: ParseStream<'_>) -> Result<Rule> {
    let rule = rule_before_flag(place, input)?;
    if input.is_empty() {
        Ok(rule)
    } else {
        Err(input.error("a field has one rule: `#[merge(sum)]`"))
    }
}

/// The same, with whatever comes after it left to be read.
pub(crate) fn rule_before_flag(place: &Place, input: ParseStream<'_>) -> Result<Rule> {
    let name = rule_name(place, input)?;
    Ok(if name == keys::WITH {
        Rule::With(path(&name, input)?)
    } else if name == keys::BY_KEY {
        Rule::ByKey(field(&name, input)?)
    } else {
        named_rule(name)
    })
}

/// `= rule`.
pub(crate) fn rule_of_struct(key: &Ident, input: ParseStream<'_>) -> Result<Rule> {
    equals(key, input)?;
    rule_name(&RULES_OF_STRUCT, input).map(named_rule)
}

fn rule_name(place: &Place, input: ParseStream<'_>) -> Result<Ident> {
    if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        let fault = format!("a rule is written without quotes: `{}`", text.value());
        return Err(Error::new_spanned(text, fault));
    }
    let rule = input.call(Ident::parse_any);
    let rule = rule.map_err(|error| Error::new(error.span(), place.expected()))?;
    if place.knows(&rule) {
        Ok(rule)
    } else {
        Err(place.unknown(&rule))
    }
}

fn named_rule(name: Ident) -> Rule {
    if name == keys::REJECT {
        Rule::Reject
    } else {
        Rule::Named(name)
    }
}

/// `= field.of.an.item`.
fn field(key: &Ident, input: ParseStream<'_>) -> Result<FieldPath> {
    equals(key, input)?;
    let path = FieldPath::parse_separated_nonempty(input);
    let path = path.and_then(|path| ends(input).then_some(path).ok_or_else(|| input.error(key)));
    path.map_err(expected("the name of a field of the list's items", key))
}

/// `= path::to::function`.
pub(crate) fn path(key: &Ident, input: ParseStream<'_>) -> Result<ExprPath> {
    equals(key, input)?;
    let fault = expected("the path of a function", key);
    input.parse().map_err(fault)
}

/// `= path::to::crate`.
pub(crate) fn krate(key: &Ident, input: ParseStream<'_>) -> Result<Path> {
    equals(key, input)?;
    let path = input.call(Path::parse_mod_style);
    path.map_err(expected("the path of this crate, without quotes", key))
}

/// `= Name`.
pub(crate) fn ident(key: &Ident, input: ParseStream<'_>) -> Result<Ident> {
    equals(key, input)?;
    input
        .parse()
        .map_err(expected("a name, without quotes", key))
}

/// `= path::to::module`.
pub(crate) fn module(key: &Ident, input: ParseStream<'_>) -> Result<Path> {
    if !input.peek(Token![=]) {
        return Err(needs_module(key, key.span()));
    }
    input.parse::<Token![=]>()?;
    let module = input.call(Path::parse_mod_style);
    module.map_err(|error| needs_module(key, error.span()))
}

/// The fault that no module stands where one is to be.
fn needs_module(key: &Ident, at: Span) -> Error {
    let fault = format!("expected the path of a module, without quotes: `{key} = module`");
    Error::new(at, fault)
}

/// `= path::to::Type`.
pub(crate) fn ty(key: &Ident, input: ParseStream<'_>) -> Result<Type> {
    equals(key, input)?;
    input.parse().map_err(expected("a type", key))
}

/// `= expression`, up to the next comma that is not inside of it.
pub(crate) fn expression(key: &Ident, input: ParseStream<'_>) -> Result<TokenStream> {
    equals(key, input)?;
    let mut tokens = TokenStream::new();
    // Where an operand is to come, `<` begins a path, and behind one it compares.
    let mut operand_comes = true;
    while !ends(input) {
        if !operand_comes && input.peek(Token![<<]) {
            input.parse::<Token![<<]>()?.to_tokens(&mut tokens);
            operand_comes = true;
        } else if operand_comes && input.peek(Token![<]) {
            input.parse::<ExprPath>()?.to_tokens(&mut tokens);
            operand_comes = false;
        } else if input.peek(Token![::]) && input.peek3(Token![<]) {
            input
                .parse::<AngleBracketedGenericArguments>()?
                .to_tokens(&mut tokens);
        } else {
            let token: TokenTree = input.parse()?;
            operand_comes = matches!(&token, TokenTree::Punct(punct) if punct.as_char() != '?');
            token.to_tokens(&mut tokens);
        }
    }
    Ok(tokens)
}

/// Returns `true` if a value is at its end.
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

/// The fault that something else stands where `what` is to be.
fn expected(what: &str, key: &Ident) -> impl FnOnce(Error) -> Error {
    let fault = format!("expected {what}: `{}`", written(key));
    move |error| Error::new(error.span(), fault)
}

fn written(key: &Ident) -> &'static str {
    usage(&key.to_string())
}
