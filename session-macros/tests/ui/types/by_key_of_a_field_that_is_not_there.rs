use session_runtime::{Merge, Session};

#[derive(Session)]
struct Shop {
    #[merge(by_key = skus)]
    cart: Vec<Line>,
}

#[derive(Merge, PartialEq, serde::Serialize, serde::Deserialize)]
struct Line {
    sku: String,
    quantity: u32,
}

fn main() {}
