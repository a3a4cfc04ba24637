use session_runtime::Session;
use std::collections::BTreeMap;

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    name: String,
    #[merge(sum)]
    prices: BTreeMap<String, f64>,
}

fn main() {}
