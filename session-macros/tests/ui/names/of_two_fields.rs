use session_runtime::Session;

#[derive(Session)]
struct Shop {
    cart: u32,
    #[session(rename = "cart")]
    basket: u32,
}

fn main() {}
