use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(alias = "cart")]
    basket: u32,
    cart: u32,
}

fn main() {}
