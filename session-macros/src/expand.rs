//! The schema → cells, rows, and the table of them.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{Attribute, ExprPath};

use crate::model::{Field, Schema};
use crate::value::{Duration, Rule};

/// All of it:
///
/// ```text
/// struct ShopSession { … }
///
/// const _: () = {
///     use ::session_runtime::private as __session;
///     static __row_cart: … = …;
///     static __row_notice: … = …;
///     impl __session::Schema for Shop { … }
/// };
/// ```
pub(crate) fn schema(schema: &Schema<'_>) -> TokenStream {
    let cells = cells(schema);
    let rows = schema
        .fields
        .iter()
        .map(|field| row(field, schema.rule_of(field)));
    let implementation = implementation(schema);
    quote! {
        #cells

        #[allow(deprecated, non_upper_case_globals)]
        const _: () = {
            use ::session_runtime::private as __session;
            #(#rows)*
            #implementation
        };
    }
}

/// The struct of cells:
///
/// ```text
/// /// The cells of [`Shop`], …
/// #[derive(::core::fmt::Debug)]
/// struct ShopSession {
///     cart: ::session_runtime::Field<BTreeMap<String, u32>>,
///     notice: ::session_runtime::Flash<Option<String>>,
/// }
/// ```
fn cells(schema: &Schema<'_>) -> TokenStream {
    let (vis, name, cells) = (&schema.input.vis, &schema.input.ident, cells_ident(schema));
    let docs = carried(&schema.input.attrs);
    let summary =
        format!("The cells of [`{name}`], as handlers see them through `Session<{name}>`.");
    let fields = schema.fields.iter().map(cell);
    quote! {
        #[doc = #summary]
        #[doc = ""]
        #(#docs)*
        #[derive(::core::fmt::Debug)]
        #[allow(deprecated)]
        #vis struct #cells {
            #(#fields,)*
        }
    }
}

fn cells_ident(schema: &Schema<'_>) -> Ident {
    format_ident!("{}Session", schema.input.ident)
}

/// The attributes that a generated item has in common with what it is made of.
fn carried(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs
        .iter()
        .filter(|attr| attr.path().is_ident("doc") || attr.path().is_ident("deprecated"))
}

/// `cart: ::session_runtime::Field<BTreeMap<String, u32>>`
fn cell(field: &Field<'_>) -> TokenStream {
    let Field { vis, ident, ty, .. } = field;
    let docs = carried(field.attrs);
    let kind = kind(field);
    quote! { #(#docs)* #vis #ident: ::session_runtime::#kind<#ty> }
}

/// The cell's type, without its path.
fn kind(field: &Field<'_>) -> Ident {
    let name = if field.options.flash.is_some() {
        "Flash"
    } else {
        "Field"
    };
    format_ident!("{name}")
}

/// One row of the table:
///
/// ```text
/// static __row_cart: __session::Row<BTreeMap<String, u32>> =
///     __session::Row::<BTreeMap<String, u32>>::new("cart", <BTreeMap<String, u32> as __session::core::default::Default>::default)
///         .merge(__session::rules::sum::<BTreeMap<String, u32>>);
/// ```
fn row(field: &Field<'_>, rule: Option<&Rule>) -> TokenStream {
    let (row, ty, name) = (row_ident(field), field.ty, &field.name.text);
    let default = default(field);
    let steps = [
        aliases(field),
        expire(field),
        flash(field),
        merge(field, rule),
        upgrade(field),
    ];
    let steps = steps.into_iter().flatten();
    quote! {
        static #row: __session::Row<#ty> = __session::Row::<#ty>::new(#name, #default)#(.#steps)*;
    }
}

fn row_ident(field: &Field<'_>) -> Ident {
    format_ident!("__row_{}", field.ident.unraw())
}

/// `<Option<String> as Default>::default`, or `|| -> Option<String> { expression }`
fn default(field: &Field<'_>) -> TokenStream {
    let ty = field.ty;
    match &field.options.default {
        Some(default) => {
            let expression = &default.value;
            quote! { || -> #ty { #expression } }
        }
        None => quote! { <#ty as __session::core::default::Default>::default },
    }
}

/// `aliases(&["basket"])`
fn aliases(field: &Field<'_>) -> Option<TokenStream> {
    let aliases = field.aliases.iter().map(|alias| &alias.text);
    (!field.aliases.is_empty()).then(|| quote! { aliases(&[#(#aliases),*]) })
}

/// `expire(3600000u64, false)`
fn expire(field: &Field<'_>) -> Option<TokenStream> {
    let expire = &field.options.expire.as_ref()?.value;
    let (millis, sliding) = (expire.after.millis, expire.sliding.is_some());
    Some(quote! { expire(#millis, #sliding) })
}

/// `flash()`
fn flash(field: &Field<'_>) -> Option<TokenStream> {
    field.options.flash.as_ref().map(|_| quote! { flash() })
}

/// `merge(__session::rules::sum::<BTreeMap<String, u32>>)`
fn merge(field: &Field<'_>, rule: Option<&Rule>) -> Option<TokenStream> {
    let ty = field.ty;
    Some(match rule? {
        Rule::Named(rule) => {
            // The rule's own span would have the compiler blame the rule for a type that it does not fit.
            let rule = Ident::new(&rule.to_string(), proc_macro2::Span::call_site());
            quote! { merge(__session::rules::#rule::<#ty>) }
        }
        Rule::Reject => quote! { reject() },
        Rule::With(path) => merge_with(field, path),
    })
}

/// `merge({ const __RULE: fn(Sides<String>) -> String = longest; |sides| Some(__RULE(sides)) })`
fn merge_with(field: &Field<'_>, path: &ExprPath) -> TokenStream {
    let ty = field.ty;
    let sides = quote! { ::session_runtime::Sides<#ty> };
    quote! {
        merge({
            const __RULE: fn(#sides) -> #ty = #path;
            |sides| __session::core::option::Option::Some(__RULE(sides))
        })
    }
}

/// `decode({ const __UPGRADE: fn(Old) -> New = path; |payload| decode_or_upgrade(payload, __UPGRADE) })`
fn upgrade(field: &Field<'_>) -> Option<TokenStream> {
    let upgrade = &field.options.upgrade.as_ref()?.value;
    let (ty, from, with) = (field.ty, &upgrade.from, &upgrade.with);
    Some(quote! {
        decode({
            const __UPGRADE: fn(#from) -> #ty = #with;
            |payload| __session::decode_or_upgrade::<#ty, #from>(payload, __UPGRADE)
        })
    })
}

/// The table:
///
/// ```text
/// impl __session::Schema for Shop {
///     type Cells = ShopSession;
///     const LIFETIME: __session::Lifetime = __session::Lifetime::from_millis(None, None);
///     const READING_COUNTS: bool = true;
///     fn open(…) -> ShopSession { … }
///     fn visit(…) -> Result<(), Error> { … }
///     fn assign(self, …) { … }
/// }
/// ```
fn implementation(schema: &Schema<'_>) -> TokenStream {
    let (name, cells) = (&schema.input.ident, cells_ident(schema));
    let lifetime = lifetime(schema);
    let reading_counts = schema.fields.iter().any(reading_counts);
    let (open, visit, assign) = (open(schema), visit(schema), assign(schema));
    quote! {
        #[automatically_derived]
        impl __session::Schema for #name {
            type Cells = #cells;
            const LIFETIME: __session::Lifetime = #lifetime;
            const READING_COUNTS: bool = #reading_counts;
            #open
            #visit
            #assign
        }
    }
}

/// `__session::Lifetime::from_millis(Some(7200000u64), None)`
fn lifetime(schema: &Schema<'_>) -> TokenStream {
    let millis = |duration: &Duration| duration.millis;
    let ttl = option(schema.options.ttl.as_ref().map(|ttl| millis(&ttl.value)));
    let absolute = option(
        schema
            .options
            .absolute
            .as_ref()
            .map(|absolute| millis(&absolute.value)),
    );
    quote! { __session::Lifetime::from_millis(#ttl, #absolute) }
}

fn option(millis: Option<u64>) -> TokenStream {
    match millis {
        Some(millis) => quote! { __session::core::option::Option::Some(#millis) },
        None => quote! { __session::core::option::Option::None },
    }
}

fn reading_counts(field: &Field<'_>) -> bool {
    let slides = field
        .options
        .expire
        .as_ref()
        .is_some_and(|expire| expire.value.sliding.is_some());
    slides || field.options.flash.is_some()
}

/// The cells, in the order of their stored names, which is the order of a record's slots:
///
/// ```text
/// fn open(slots: &mut __session::Opener<'_>) -> ShopSession {
///     ShopSession {
///         cart: __session::Field::open(slots, &__row_cart),
///         notice: __session::Flash::open(slots, &__row_notice),
///     }
/// }
/// ```
fn open(schema: &Schema<'_>) -> TokenStream {
    let cells = cells_ident(schema);
    let mut fields: Vec<_> = schema.fields.iter().collect();
    fields.sort_by_key(|field| &field.name.text);
    let fields = fields.into_iter().map(|field| {
        let (ident, kind, row) = (field.ident, kind(field), row_ident(field));
        quote! { #ident: __session::#kind::open(slots, &#row) }
    });
    quote! {
        fn open(slots: &mut __session::Opener<'_>) -> #cells {
            #cells { #(#fields,)* }
        }
    }
}

/// ```text
/// fn visit(cells: &ShopSession, visit: &mut __session::Visitor<'_>) -> Result<(), Error> {
///     visit(&cells.cart)?;
///     visit(&cells.notice)?;
///     Ok(())
/// }
/// ```
fn visit(schema: &Schema<'_>) -> TokenStream {
    let cells = cells_ident(schema);
    let idents = schema.fields.iter().map(|field| field.ident);
    quote! {
        fn visit(
            cells: &#cells,
            visit: &mut __session::Visitor<'_>,
        ) -> __session::core::result::Result<(), __session::Error> {
            #(visit(&cells.#idents)?;)*
            __session::core::result::Result::Ok(())
        }
    }
}

/// ```text
/// fn assign(self, cells: &mut ShopSession) {
///     __session::Field::set(&mut cells.cart, self.cart);
///     __session::Flash::set(&mut cells.notice, self.notice);
/// }
/// ```
fn assign(schema: &Schema<'_>) -> TokenStream {
    let cells = cells_ident(schema);
    let fields = schema.fields.iter().map(|field| {
        let (ident, kind) = (field.ident, kind(field));
        quote! { __session::#kind::set(&mut cells.#ident, self.#ident); }
    });
    quote! {
        fn assign(self, cells: &mut #cells) {
            #(#fields)*
        }
    }
}

/// What a faulty struct expands to: its faults, and what the rest of the file needs so as not to bury them.
pub(crate) fn skeleton(schema: &Schema<'_>, report: &TokenStream) -> TokenStream {
    let cells = cells(schema);
    quote! { #report #cells }
}
