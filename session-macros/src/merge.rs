//! `#[derive(Merge)]`: a struct that merges field by field.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, FieldsNamed, Generics, Index, Result, Type,
    parse_quote,
};

use crate::attr::{self, Given};
use crate::error::Errors;
use crate::expand;
use crate::keys;
use crate::value::Rule;

/// A field of the struct, and the rule that it names.
struct Part<'a> {
    ident: Ident,
    attrs: &'a [Attribute],
    ty: &'a Type,
    rule: Option<Given<Rule>>,
}

/// Read, check, expand.
pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let krate = attr::crate_of_parts(&input.attrs, &mut errors);
    let krate = expand::crate_at(krate.as_ref());
    errors.keep(no_parameters(input));
    let named = errors.keep(named_fields(input));
    let fields = named.into_iter().flat_map(|fields| &fields.named);
    let parts: Vec<_> = fields
        .filter_map(|field| Part::read(field, &mut errors))
        .collect();
    match errors.report() {
        None => expansion(input, &parts, &krate),
        Some(faults) => skeleton(input, &faults, &krate),
    }
}

impl<'a> Part<'a> {
    fn read(field: &'a syn::Field, errors: &mut Errors) -> Option<Self> {
        let ident = field.ident.as_ref()?;
        let mut faults = Errors::default();
        let rule = attr::rule_of_part(&field.attrs, &mut faults);
        errors.of_field(ident, faults);
        Some(Self {
            ident: expand::own(ident),
            attrs: &field.attrs,
            ty: &field.ty,
            rule,
        })
    }
}

/// Refuses parameters: whether the values of a type that is not known here are equal, or merge, nobody can say.
fn no_parameters(input: &DeriveInput) -> Result<()> {
    let (name, params) = (&input.ident, &input.generics.params);
    if params.is_empty() {
        return Ok(());
    }
    let fault = format!(
        "`Merge` is derived for one type, without type parameters or lifetimes: implement it for `{name}` by hand"
    );
    Err(Error::new_spanned(params, fault))
}

/// The fields, if it is a struct that has named ones.
fn named_fields(input: &DeriveInput) -> Result<&FieldsNamed> {
    let name = &input.ident;
    let instead = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(named) => return Ok(named),
            Fields::Unnamed(_) => format!(
                "parts merge under their names: name the fields of `{name}`, or implement `Merge` for it by hand"
            ),
            Fields::Unit => format!("a struct without fields is written `struct {name} {{}}`"),
        },
        Data::Enum(_) | Data::Union(_) => format!(
            "only a struct has parts to merge: write a rule for the whole value above the field that holds `{name}`, \
             like `#[merge(user)]`, or implement `Merge` for it by hand"
        ),
    };
    Err(Error::new_spanned(name, instead))
}

/// All of it:
///
/// ```text
/// const _: () = {
///     use ::session_runtime::private as __session;
///     impl __session::Merge for Line {
///         fn merge(__sides: __session::Sides<Self>) -> Option<Self> {
///             __session::field_by_field(__sides, |__base, __ours, __theirs, __occasion| {
///                 let __base = match __base {
///                     Some(__base) => (Some(__base.sku), Some(__base.quantity),),
///                     None => (None, None,),
///                 };
///                 Some(Self {
///                     sku: __session::part::<String>(…)?,
///                     quantity: __session::part::<u32>(…)?,
///                 })
///             })
///         }
///     }
/// };
/// ```
fn expansion(input: &DeriveInput, parts: &[Part<'_>], krate: &TokenStream) -> TokenStream {
    let option = quote! { __session::core::option::Option };
    let idents = parts.iter().map(|part| &part.ident);
    let absent = parts.iter().map(|_| quote! { #option::None });
    let merged = parts.iter().enumerate().map(|(at, part)| merged(at, part));
    let body = quote! {
        __session::field_by_field(__sides, |__base, __ours, __theirs, __occasion| {
            let __base = match __base {
                #option::Some(__base) => (#(#option::Some(__base.#idents),)*),
                #option::None => (#(#absent,)*),
            };
            #option::Some(Self { #(#merged,)* })
        })
    };
    implementation(input, &input.generics, &body, krate)
}

/// `sku: __session::part::<String>(__session::rules::later::<String>, __base.0, __ours.sku, __theirs.sku, __occasion)?`
fn merged(at: usize, part: &Part<'_>) -> TokenStream {
    let Part { ident, ty, .. } = part;
    let (base, allowed) = (Index::from(at), expand::allowed(part.attrs));
    let rule = part.rule.as_ref();
    let rule = rule.and_then(|rule| expand::function(&rule.value, ty));
    let rule = rule.unwrap_or_else(|| expand::named(keys::LATER, ty));
    quote! {
        #(#allowed)* #ident: __session::part::<#ty>(
            #rule, __base.#base, __ours.#ident, __theirs.#ident, __occasion
        )?
    }
}

/// Expands a faulty struct: to the faults, and an implementation that is never run.
fn skeleton(input: &DeriveInput, faults: &TokenStream, krate: &TokenStream) -> TokenStream {
    let mut generics = input.generics.clone();
    if !generics.params.is_empty() {
        // What the trait asks of its types cannot be known of a type with parameters.
        let bounds = &mut generics.make_where_clause().predicates;
        bounds.push(parse_quote!(Self: __session::core::cmp::PartialEq));
    }
    let implementation = implementation(input, &generics, &quote! { loop {} }, krate);
    quote! { #faults #implementation }
}

fn implementation(
    input: &DeriveInput,
    generics: &Generics,
    body: &TokenStream,
    krate: &TokenStream,
) -> TokenStream {
    let (name, allowed) = (expand::own(&input.ident), expand::allowed(&input.attrs));
    let (parameters, arguments, bounds) = generics.split_for_impl();
    quote! {
        #(#allowed)*
        const _: () = {
            use #krate::private as __session;
            #[automatically_derived]
            impl #parameters __session::Merge for #name #arguments #bounds {
                fn merge(
                    __sides: __session::Sides<Self>,
                ) -> __session::core::option::Option<Self> {
                    #body
                }
            }
        };
    }
}
