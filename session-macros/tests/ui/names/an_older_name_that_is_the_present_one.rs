use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(alias = "cart")]
    cart: u32,
    #[session(rename = "sack", alias = "bag", alias = "bag")]
    basket: u32,
}

fn main() {}
