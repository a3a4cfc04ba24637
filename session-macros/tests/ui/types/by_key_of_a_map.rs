use session_runtime::{Merge, Session};
use std::collections::BTreeMap;

#[derive(Session)]
struct Shop {
    #[merge(by_key = sku)]
    cart: BTreeMap<String, Line>,
}

#[derive(Merge, PartialEq, serde::Serialize, serde::Deserialize)]
struct Line {
    sku: String,
    quantity: u32,
}

fn main() {}
