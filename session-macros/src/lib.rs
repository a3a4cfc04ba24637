//! The derive macro of session-runtime.

use proc_macro::TokenStream;

/// Turns a struct into a typed session.
#[proc_macro_derive(Session, attributes(session, expire, flash, merge))]
pub fn session(_: TokenStream) -> TokenStream {
    TokenStream::new()
}
