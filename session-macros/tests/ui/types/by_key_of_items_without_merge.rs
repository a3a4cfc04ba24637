use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(by_key = sku)]
    cart: Vec<Line>,
}

#[derive(PartialEq, serde::Serialize, serde::Deserialize)]
struct Line {
    sku: String,
    quantity: u32,
}

fn main() {}
