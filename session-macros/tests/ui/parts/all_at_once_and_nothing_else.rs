use session_runtime::{Merge, Session};

#[derive(Session)]
struct Shop {
    #[merge(by_key = sku)]
    cart: Vec<Line>,
    #[merge(deep)]
    gift: Line,
}

#[derive(Default, Merge, PartialEq, serde::Serialize, serde::Deserialize)]
#[merge(user)]
struct Line {
    #[merge(reject)]
    sku: String,
    #[merge(summ)]
    quantity: u32,
    #[flash]
    notice: String,
}

fn main() {}
