use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[expire(sliding)]
    cart: u32,
    #[expire(sliding, "1h")]
    basket: u32,
}

fn main() {}
