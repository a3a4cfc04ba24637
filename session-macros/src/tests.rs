//! Expansions as files under `snapshots/`.
//!
//! After a change, run with `INSTA_UPDATE=always` and read the difference.

use insta::assert_snapshot;
use proc_macro2::TokenStream;
use quote::quote;
use syn::DeriveInput;

fn expand(input: TokenStream) -> String {
    expand_by(crate::derive, input)
}

fn expand_merge(input: TokenStream) -> String {
    expand_by(crate::merge::derive, input)
}

fn expand_by(derive: fn(&DeriveInput) -> TokenStream, input: TokenStream) -> String {
    let input = syn::parse2(input).expect("the input is a struct");
    let expansion = derive(&input);
    prettyplease::unparse(&syn::parse2(expansion).expect("the expansion is Rust"))
}

#[test]
fn a_rule_and_a_flash() {
    assert_snapshot!(expand(quote! {
        struct Shop {
            #[merge(sum)]
            cart: BTreeMap<String, u32>,
            #[flash]
            notice: Option<String>,
        }
    }));
}

#[test]
fn every_option() {
    assert_snapshot!(expand(quote! {
        #[session(ttl = "2h", absolute = "30d", prefix = "shop", merge = user)]
        struct Shop {
            currency: Option<Currency>,
            #[merge(reject)]
            order: Option<u64>,
            #[merge(with = rules::longest)]
            query: String,
            #[merge(by_key = product.sku)]
            lines: Vec<Line>,
            #[expire("15m")]
            checkout: Option<Checkout>,
            #[expire("1h 30m", sliding)]
            draft: String,
            #[flash]
            notice: Option<String>,
            #[session(rename = "page-size", alias = "page", alias = "size", default = 20)]
            page_size: u32,
            #[session(default = HashMap::<Sku, u8>::new(), upgrade(from = Vec<Sku>, with = counted))]
            ratings: HashMap<Sku, u8>,
            #[session(with = session_runtime::base64, ordered)]
            picture: Vec<u8>,
        }
    }));
}

#[test]
fn docs_and_visibility_carry_over() {
    assert_snapshot!(expand(quote! {
        /// What is known of a visitor.
        #[derive(Clone)]
        pub(crate) struct Visitor {
            /// How often they came.
            #[doc(alias = "count")]
            pub visits: u32,
            #[deprecated = "nobody asks"]
            pub(super) r#type: String,
        }
    }));
}

#[test]
fn what_docs_link_to_as_self_is_the_struct_that_they_are_of() {
    let expansion = expand(quote! {
        /// [`Self::total`], [its total](Self::total), [`Self`], [Self::total], and [that][total].
        ///
        /// [total]: Self::total
        pub struct Shop {
            /// See [`Self::total`]; Self::total is no link.
            pub cart: u32,
        }
    });
    for link in [
        "[`Shop::total`], [its total](Shop::total), [`Shop`], [Shop::total], and",
        "[total]: Shop::total",
        "See [`Shop::total`]; Self::total is",
    ] {
        assert!(expansion.contains(link), "{expansion}");
    }
}

#[test]
fn the_crate_and_the_cells_are_where_and_what_the_app_says() {
    let session = expand(quote! {
        #[session(crate = house::sessions, cells = VisitorCells, merge = sum)]
        struct Visitor {
            visits: u32,
            #[merge(with = longest)]
            query: String,
            #[session(with = module, upgrade(from = u8, with = widen))]
            size: u32,
        }
    });
    let part = expand_merge(quote! {
        #[merge(crate = ::house::sessions)]
        struct Line {
            #[merge(by_key = sku)]
            extras: Vec<Extra>,
            sku: String,
        }
    });
    let faulty = expand(quote! {
        #[session(crate = crate::house, cells = VisitorCells)]
        struct Visitor {
            #[merge(smu)]
            visits: u32,
        }
    });
    for expansion in [&session, &part, &faulty] {
        assert!(!expansion.contains("session_runtime"), "{expansion}");
    }
    assert!(session.contains("use house::sessions::private as __session;"));
    assert!(session.contains("visits: house::sessions::Field<u32>"));
    for expansion in [&session, &faulty] {
        assert!(expansion.contains("struct VisitorCells"));
        assert!(!expansion.contains("VisitorSession"));
    }
    assert!(part.contains("use ::house::sessions::private as __session;"));
}

#[test]
fn cells_open_in_the_order_of_their_stored_names() {
    let expansion = expand(quote! {
        struct Shop {
            #[session(rename = "Z")]
            a: u32,
            b: u32,
            #[session(rename = "a")]
            c: u32,
            é: u32,
            b1: u32,
        }
    });
    let rows = expansion
        .lines()
        .filter_map(|line| line.split_once("open(__slots, &__row_"));
    let order: Vec<_> = rows.map(|(_, row)| row.trim_end_matches("),")).collect();
    assert_eq!(order, ["a", "c", "b", "b1", "é"]);
}

#[test]
fn no_fields() {
    assert_snapshot!(expand(quote! {
        struct Nothing {}
    }));
}

#[test]
fn a_faulty_struct_expands_to_a_skeleton() {
    assert_snapshot!(expand(quote! {
        #[session(tll = "2h")]
        struct Shop {
            #[merge(smu)]
            cart: BTreeMap<String, u32>,
            #[flash]
            notice: Option<String>,
        }
    }));
}

#[test]
fn the_skeleton_of_a_struct_with_parameters_has_them_too() {
    assert_snapshot!(expand(quote! {
        struct Shop<'a, Item: Clone>
        where
            Item: Default,
        {
            cart: Cow<'a, [Item]>,
        }
    }));
}

#[test]
fn parts() {
    assert_snapshot!(expand_merge(quote! {
        struct Line {
            sku: String,
            #[merge(sum)]
            quantity: u32,
            #[merge(with = rules::longest)]
            r#type: String,
            #[merge(by_key = 0)]
            extras: Vec<(Extra, u8)>,
        }
    }));
}

#[test]
fn faulty_parts_expand_to_a_skeleton() {
    assert_snapshot!(expand_merge(quote! {
        #[merge(sum)]
        enum Line<Item> {
            Item(Item),
        }
    }));
}

/// Every sequence of up to `length` of these tokens.
fn token_soups(length: usize) -> Vec<String> {
    const TOKENS: [&str; 15] = [
        ",", "=", "::", "<", ".", "ttl", "with", "by_key", "default", "upgrade", "sum", "\"1h\"",
        "1", "(from =)", "()",
    ];
    let mut soups = vec![String::new()];
    let mut longest = soups.clone();
    for _ in 0..length {
        let longer = |soup: &String| TOKENS.map(|token| format!("{soup} {token}"));
        longest = longest.iter().flat_map(longer).collect();
        soups.extend_from_slice(&longest);
    }
    soups
}

#[test]
fn no_attribute_makes_the_macro_panic_or_hang() {
    for soup in token_soups(3) {
        for attribute in ["session", "expire", "flash", "merge", "serde"] {
            let attribute = format!("#[{attribute}({soup})]");
            let shop = format!("{attribute} struct Shop {{ {attribute} cart: u32 }}");
            let input = syn::parse_str(&shop).expect("the input is a struct");
            let _ = crate::derive(&input);
            let _ = crate::merge::derive(&input);
        }
    }
}
