//! What a faulty struct expands to, so that its faults are the only errors in the file.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{Generics, parse_quote};

use crate::expand;
use crate::model::{Field, Schema};

/// The faults; the cells as far as they were understood; an implementation that is never run:
///
/// ```text
/// ::core::compile_error! { "…" }
/// struct ShopSession { … }
/// const _: () = {
///     use ::session_runtime::private as __session;
///     impl __session::Schema for Shop {
///         fn open(_: &mut __session::Opener<'_>) -> Self::Cells { loop {} }
///         …
///     }
/// };
/// ```
pub(crate) fn schema(schema: &Schema<'_>, faults: &TokenStream) -> TokenStream {
    if schema.fields.is_empty() && !schema.input.generics.params.is_empty() {
        return faults.clone(); // its cells would have parameters that nothing uses
    }
    let generics = generics(schema);
    let cells = expand::cells(schema, &generics);
    let implementation = implementation(schema, generics);
    let krate = expand::krate(schema);
    quote! {
        #faults
        #cells

        const _: () = {
            use #krate::private as __session;
            #implementation
        };
    }
}

fn implementation(schema: &Schema<'_>, generics: Generics) -> TokenStream {
    let (name, cells) = (&schema.input.ident, expand::cells_ident(schema));
    let generics = shared_between_threads(name, &cells, generics);
    let (parameters, arguments, bounds) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #parameters __session::Schema for #name #arguments #bounds {
            type Cells = #cells #arguments;
            const LIFETIME: __session::Lifetime = __session::Lifetime::from_millis(
                __session::core::option::Option::None,
                __session::core::option::Option::None,
            );
            const READING_COUNTS: __session::core::primitive::bool = false;
            const ROWS: &'static [__session::RowOf] = &[];
            fn open(_: &mut __session::Opener<'_>) -> Self::Cells {
                loop {}
            }
            fn visit(
                _: &Self::Cells,
                _: &mut __session::Visitor<'_>,
            ) -> __session::core::result::Result<(), __session::Error> {
                loop {}
            }
            fn assign(self, _: &mut Self::Cells) {
                loop {}
            }
        }
    }
}

/// The struct's parameters. They are a fault, but as long as it has them, so have its fields' types.
fn generics(schema: &Schema<'_>) -> Generics {
    let mut generics = schema.input.generics.clone();
    if !generics.params.is_empty() {
        let bounds = &mut generics.make_where_clause().predicates;
        for Field { ty, .. } in &schema.fields {
            bounds.push(parse_quote!(#ty: 'static));
        }
    }
    generics
}

/// Adds what the trait asks of its types, which cannot be known of a type with parameters.
fn shared_between_threads(name: &Ident, cells: &Ident, mut generics: Generics) -> Generics {
    if !generics.params.is_empty() {
        let arguments = generics.split_for_impl().1.to_token_stream();
        let bounds = &mut generics.make_where_clause().predicates;
        for ty in [name, cells] {
            bounds.push(parse_quote! {
                #ty #arguments: __session::core::marker::Send + __session::core::marker::Sync + 'static
            });
        }
    }
    generics
}
