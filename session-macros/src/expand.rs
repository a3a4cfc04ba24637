//! The schema → cells, rows, and the table of them.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprPath, Generics, Lit, Meta, Path, Type};

use crate::attr::{Given, StructOptions};
use crate::model::{Field, Schema};
use crate::value::{Duration, FieldPath, Rule};

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
    let cells = cells(schema, &schema.input.generics);
    let rows = schema.fields.iter();
    let rows = rows.map(|field| row(field, schema.rule_of(field)));
    let implementation = implementation(schema);
    let (krate, allowed) = (krate(schema), allowed(&schema.input.attrs));
    quote! {
        #cells

        #(#allowed)*
        const _: () = {
            use #krate::private as __session;
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
///
/// Only a faulty struct has `generics`.
pub(crate) fn cells(schema: &Schema<'_>, generics: &Generics) -> TokenStream {
    let (vis, name, cells) = (&schema.input.vis, &schema.input.ident, cells_ident(schema));
    let (docs, allowed) = (
        carried(&schema.input.attrs, name),
        allowed(&schema.input.attrs),
    );
    let summary =
        format!("The cells of [`{name}`], as handlers see them through `Session<{name}>`.\n");
    let bounds = &generics.where_clause;
    let krate = krate(schema);
    let fields = schema.fields.iter().map(|field| cell(field, name, &krate));
    quote! {
        #[doc = #summary]
        #(#docs)*
        #(#allowed)*
        #[derive(::core::fmt::Debug)]
        #vis struct #cells #generics #bounds {
            #(#fields,)*
        }
    }
}

pub(crate) fn cells_ident(schema: &Schema<'_>) -> Ident {
    let name = &schema.input.ident;
    if let Some(cells) = &schema.options.cells {
        return cells.value.clone();
    }
    // Points at the user's name, but is the macro's own: lints and suggestions leave it alone.
    format_ident!("{name}Session", span = blaming(name))
}

/// `::session_runtime`, or where the app says that it is found.
pub(crate) fn krate(schema: &Schema<'_>) -> TokenStream {
    crate_at(schema.options.krate.as_ref())
}

pub(crate) fn crate_at(path: Option<&Given<Path>>) -> TokenStream {
    path.map_or_else(
        || quote! { ::session_runtime },
        |path| path.value.to_token_stream(),
    )
}

/// The lints that the app allows of something: of what is made of it, too. The macro itself allows none, since an app
/// may forbid any.
pub(crate) fn allowed(attrs: &[Attribute]) -> impl Iterator<Item = TokenStream> {
    attrs.iter().filter_map(|attr| {
        let list = attr.meta.require_list().ok()?;
        let lints = &list.tokens;
        let allows = list.path.is_ident("allow") || list.path.is_ident("expect");
        allows.then(|| quote! { #[allow(#lints)] })
    })
}

/// A name of the user's as the macro's own: no lint blames the user for this use of it.
pub(crate) fn own(name: &Ident) -> Ident {
    let mut own = name.clone();
    own.set_span(blaming(name));
    own
}

/// The attributes that a generated item has in common with what it is made of. Where docs link to `Self`, they mean the `owner`.
fn carried(attrs: &[Attribute], owner: &Ident) -> impl Iterator<Item = TokenStream> {
    let carried = |attr: &&Attribute| is_doc(attr) || attr.path().is_ident("deprecated");
    let attrs = attrs.iter().filter(carried);
    attrs.map(move |attr| match doc_text(attr) {
        Some(text) if text.contains("Self") => {
            let text = links_of(&text, &owner.unraw().to_string());
            quote! { #[doc = #text] }
        }
        _ => attr.to_token_stream(),
    })
}

fn doc_text(attr: &Attribute) -> Option<String> {
    if let Meta::NameValue(doc) = &attr.meta
        && let Expr::Lit(literal) = &doc.value
        && let Lit::Str(text) = &literal.lit
    {
        return is_doc(attr).then(|| text.value());
    }
    None
}

/// ``[`Self::total`]`` → ``[`Shop::total`]``
fn links_of(text: &str, owner: &str) -> String {
    let links = [
        "[`Self`", "[`Self::", "[Self]", "[Self::", "](Self)", "](Self::", "]: Self",
    ];
    let links = links.iter().map(|link| (link, link.replace("Self", owner)));
    links.fold(text.to_owned(), |text, (link, of_owner)| {
        text.replace(link, &of_owner)
    })
}

fn is_doc(attr: &Attribute) -> bool {
    attr.path().is_ident("doc")
}

/// `cart: ::session_runtime::Field<BTreeMap<String, u32>>`
fn cell(field: &Field<'_>, owner: &Ident, krate: &TokenStream) -> TokenStream {
    let Field { vis, ident, ty, .. } = field;
    let (carried, kind) = (carried(field.attrs, owner), kind(field));
    let allowed = allowed(field.attrs);
    let undocumented = !field.attrs.iter().any(is_doc);
    let docs = undocumented.then(|| format!("The cell of `{}`.", ident.unraw()));
    let docs = docs.into_iter();
    quote! { #(#[doc = #docs])* #(#carried)* #(#allowed)* #vis #ident: #krate::#kind<#ty> }
}

/// The cell's type, without its path.
fn kind(field: &Field<'_>) -> Ident {
    let name = if field.is_flash() { "Flash" } else { "Field" };
    format_ident!("{name}")
}

/// One row of the table:
///
/// ```text
/// static __row_cart: __session::Row<BTreeMap<String, u32>> =
///     __session::row::<BTreeMap<String, u32>>("cart", <BTreeMap<String, u32> as __session::Absent>::absent)
///         .merge(__session::rules::sum::<BTreeMap<String, u32>>);
/// ```
fn row(field: &Field<'_>, rule: Option<&Rule>) -> TokenStream {
    let (row, ty, name) = (row_ident(field), field.ty, &field.name.text);
    let (default, allowed) = (default(field), allowed(field.attrs));
    let row_of = match &field.options.with {
        None => quote! { row::<#ty>(#name, #default) },
        Some(module) => {
            let (decode, encode) = (decode_with(&module.value), encode_with(&module.value));
            quote! { Row::<#ty>::with(#name, #default, #decode, #encode) }
        }
    };
    let steps = [
        own_default(field),
        stored_by(field),
        aliases(field),
        expire(field),
        flash(field),
        ordered(field),
        merge(field, rule),
        upgrade(field),
    ];
    let steps = steps.into_iter().flatten();
    quote! {
        #(#allowed)*
        static #row: __session::Row<#ty> = __session::#row_of #(.#steps)*;
    }
}

/// `|__payload| __session::decode_with(__payload, |__json| module::deserialize(__json))`
fn decode_with(module: &Path) -> TokenStream {
    quote_spanned! { blaming(module)=>
        |__payload| __session::decode_with(__payload, |__json| #module::deserialize(__json))
    }
}

/// `|__value, __canonical| module::serialize(__value, __canonical)`
fn encode_with(module: &Path) -> TokenStream {
    quote_spanned! { blaming(module)=>
        |__value, __canonical| #module::serialize(__value, __canonical)
    }
}

fn row_ident(field: &Field<'_>) -> Ident {
    format_ident!("__row_{}", field.ident.unraw(), span = Span::call_site())
}

/// `<Option<String> as __session::Absent>::absent`, or `|| -> Option<String> { expression }`
fn default(field: &Field<'_>) -> TokenStream {
    let ty = field.ty;
    let Some(default) = &field.options.default else {
        return quote! { <#ty as __session::Absent>::absent };
    };
    let expression = &default.value;
    quote! { || -> #ty { #expression } }
}

/// `own_default()`, where the app has written one.
fn own_default(field: &Field<'_>) -> Option<TokenStream> {
    let written = field.options.default.as_ref();
    written.map(|_| quote! { own_default() })
}

/// `stored_by("base64")`: what the module is called, however it is found.
fn stored_by(field: &Field<'_>) -> Option<TokenStream> {
    let module = field.options.with.as_ref()?.value.segments.last()?;
    let name = module.ident.unraw().to_string();
    Some(quote! { stored_by(#name) })
}

/// `aliases(&["basket"])`
fn aliases(field: &Field<'_>) -> Option<TokenStream> {
    let aliases = field.aliases.iter().map(|alias| &alias.text);
    (!field.aliases.is_empty()).then(|| quote! { aliases(&[#(#aliases),*]) })
}

/// `expire(3600000u64, false)`
fn expire(field: &Field<'_>) -> Option<TokenStream> {
    let expire = &field.options.expire.as_ref()?.value;
    let (millis, sliding) = (expire.after.millis, field.sliding().is_some());
    Some(quote! { expire(#millis, #sliding) })
}

/// `flash()`
fn flash(field: &Field<'_>) -> Option<TokenStream> {
    field.is_flash().then(|| quote! { flash() })
}

/// `ordered()`
fn ordered(field: &Field<'_>) -> Option<TokenStream> {
    field.options.ordered.as_ref().map(|_| quote! { ordered() })
}

/// `merge(__session::rules::sum::<BTreeMap<String, u32>>)`, `merge_in_browser(…)`, or `reject()`
fn merge(field: &Field<'_>, rule: Option<&Rule>) -> Option<TokenStream> {
    Some(match function(rule?, field.ty) {
        None => quote! { reject() },
        Some(rule) if field.stays_with_browser() => quote! { merge_in_browser(#rule) },
        Some(rule) => quote! { merge(#rule) },
    })
}

/// A rule as `fn(Sides<T>) -> Option<T>`, if it is one.
pub(crate) fn function(rule: &Rule, ty: &Type) -> Option<TokenStream> {
    match rule {
        Rule::Named(name) => Some(named(&name.to_string(), ty)),
        Rule::Reject => None,
        Rule::ByKey(field) => Some(by_key(field, ty)),
        Rule::With(path) => Some(with(path, ty)),
    }
}

/// `__session::rules::sum::<BTreeMap<String, u32>>`
pub(crate) fn named(rule: &str, ty: &Type) -> TokenStream {
    // The rule's own span would have the compiler blame the rule for a type that it does not fit.
    let rule = Ident::new(rule, Span::call_site());
    quote! { __session::rules::#rule::<#ty> }
}

/// `|__sides| __session::rules::Keyed::by_key(__sides, |__item| &__item.sku)`
fn by_key(field: &FieldPath, ty: &Type) -> TokenStream {
    // Has the compiler blame the type, also for what its items lack.
    quote_spanned! { blaming(ty)=>
        |__sides| __session::rules::Keyed::by_key(__sides, |__item| &__item.#field)
    }
}

/// `|__sides| { let __rule: fn(Sides<String>) -> String = longest; Some(__rule(__sides)) }`
fn with(path: &ExprPath, ty: &Type) -> TokenStream {
    // Has the compiler say that the function is to fit the field's type.
    let function = quote_spanned! { blaming(ty)=> fn(__session::Sides<#ty>) -> #ty };
    quote! {
        |__sides| {
            let __rule: #function = #path;
            __session::core::option::Option::Some(__rule(__sides))
        }
    }
}

/// The place of the user's tokens, for the macro's own.
fn blaming(tokens: &impl Spanned) -> Span {
    Span::call_site().located_at(tokens.span())
}

/// `upgrade({ const __UPGRADE: fn(Old) -> New = path; |__payload| upgraded(__payload, __UPGRADE) })`
fn upgrade(field: &Field<'_>) -> Option<TokenStream> {
    let upgrade = &field.options.upgrade.as_ref()?.value;
    let (ty, from, with) = (field.ty, &upgrade.from, &upgrade.with);
    Some(quote! {
        upgrade({
            const __UPGRADE: fn(#from) -> #ty = #with;
            |__payload| __session::upgraded::<#from, #ty>(__payload, __UPGRADE)
        })
    })
}

/// The table:
///
/// ```text
/// impl __session::Schema for Shop {
///     type Cells = ShopSession;
///     const LIFETIME: __session::Lifetime = __session::Lifetime::from_millis(None, None);
///     const READING_COUNTS: __session::core::primitive::bool = false;
///     const ROWS: &'static [__session::RowOf] = &[…];
///     fn open(…) -> ShopSession { … }
///     fn visit(…) -> Result<(), Error> { … }
///     fn assign(self, …) { … }
/// }
/// ```
fn implementation(schema: &Schema<'_>) -> TokenStream {
    let (name, cells) = (own(&schema.input.ident), own(&cells_ident(schema)));
    let lifetime = lifetime(schema);
    let mut fields = schema.fields.iter();
    let reading_counts = fields.any(|field| field.sliding().is_some());
    let (rows, open) = (rows(schema), open(schema));
    let (visit, assign) = (visit(schema), assign(schema));
    quote! {
        #[automatically_derived]
        impl __session::Schema for #name {
            type Cells = #cells;
            const LIFETIME: __session::Lifetime = #lifetime;
            const READING_COUNTS: __session::core::primitive::bool = #reading_counts;
            #rows
            #open
            #visit
            #assign
        }
    }
}

/// `__session::Lifetime::from_millis(Some(7200000u64), None)`
fn lifetime(schema: &Schema<'_>) -> TokenStream {
    let StructOptions { ttl, absolute, .. } = &schema.options;
    let (ttl, absolute) = (millis(ttl.as_ref()), millis(absolute.as_ref()));
    quote! { __session::Lifetime::from_millis(#ttl, #absolute) }
}

/// `Some(7200000u64)`, or `None`
fn millis(lifetime: Option<&Given<Duration>>) -> TokenStream {
    let Some(lifetime) = lifetime else {
        return quote! { __session::core::option::Option::None };
    };
    let millis = lifetime.value.millis;
    quote! { __session::core::option::Option::Some(#millis) }
}

/// `const ROWS: &'static [__session::RowOf] = &[__session::RowOf::new(&__row_cart)];`
fn rows(schema: &Schema<'_>) -> TokenStream {
    let rows = schema.fields.iter().map(row_ident);
    quote! {
        const ROWS: &'static [__session::RowOf] = &[#(__session::RowOf::new(&#rows)),*];
    }
}

/// The cells, in the order of their stored names, which is the order of a record's slots:
///
/// ```text
/// fn open(__slots: &mut __session::Opener<'_>) -> ShopSession {
///     ShopSession {
///         cart: __session::Field::open(__slots, &__row_cart),
///         notice: __session::Flash::open(__slots, &__row_notice),
///     }
/// }
/// ```
fn open(schema: &Schema<'_>) -> TokenStream {
    let cells = own(&cells_ident(schema));
    let mut fields: Vec<_> = schema.fields.iter().collect();
    fields.sort_by_key(|field| &field.name.text);
    let fields = fields.into_iter().map(|field| {
        let (ident, kind, row) = (own(field.ident), kind(field), row_ident(field));
        quote! { #ident: __session::#kind::open(__slots, &#row) }
    });
    quote! {
        fn open(__slots: &mut __session::Opener<'_>) -> #cells {
            #cells { #(#fields,)* }
        }
    }
}

/// ```text
/// fn visit(__cells: &ShopSession, __visit: &mut __session::Visitor<'_>) -> Result<(), Error> {
///     __visit(&__cells.cart)?;
///     __visit(&__cells.notice)?;
///     Ok(())
/// }
/// ```
fn visit(schema: &Schema<'_>) -> TokenStream {
    let cells = own(&cells_ident(schema));
    let idents = schema.fields.iter().map(|field| own(field.ident));
    quote! {
        fn visit(
            __cells: &#cells,
            __visit: &mut __session::Visitor<'_>,
        ) -> __session::core::result::Result<(), __session::Error> {
            #(__visit(&__cells.#idents)?;)*
            __session::core::result::Result::Ok(())
        }
    }
}

/// ```text
/// fn assign(self, __cells: &mut ShopSession) {
///     __session::Field::set(&mut __cells.cart, self.cart);
///     __session::Flash::set(&mut __cells.notice, self.notice);
/// }
/// ```
fn assign(schema: &Schema<'_>) -> TokenStream {
    let cells = own(&cells_ident(schema));
    let fields = schema.fields.iter().map(|field| {
        let (ident, kind) = (own(field.ident), kind(field));
        quote! { __session::#kind::set(&mut __cells.#ident, self.#ident); }
    });
    quote! {
        fn assign(self, __cells: &mut #cells) {
            #(#fields)*
        }
    }
}
