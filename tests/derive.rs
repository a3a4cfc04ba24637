//! What the derive accepts, under every lint.

#![deny(missing_docs, warnings, clippy::all, clippy::pedantic)]

use std::collections::{BTreeMap, BTreeSet};

use session_runtime::Session;

/// A shop.
#[derive(Session)]
#[session(ttl = "2h", absolute = "30d")]
struct Shop {
    /// What the visitor is about to buy.
    #[merge(sum)]
    cart: BTreeMap<String, u32>,
    #[merge(union)]
    viewed: BTreeSet<u64>,
    #[expire("15m")]
    checkout: Option<String>,
    #[flash]
    notice: Option<String>,
}

/// Handlers.
async fn add(mut session: Session<Shop>) -> String {
    *session
        .cart
        .get_mut()
        .entry("apple".to_owned())
        .or_default() += 1;
    session.viewed.get_mut().insert(1);
    session.notice.set(Some("Added".to_owned()));
    session.checkout.clear();
    format!("{:?}", session.cart.get())
}

#[test]
fn a_schema_is_a_session() {
    let _ = add;
}
