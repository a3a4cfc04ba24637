use session_runtime::Session;
use std::collections::BTreeMap;

#[derive(Session)]
struct Shop {
    #[merge(append)]
    cart: BTreeMap<String, u32>,
    #[merge(union)]
    basket: BTreeMap<String, u32>,
}

fn main() {}
