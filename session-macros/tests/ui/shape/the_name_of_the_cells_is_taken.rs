use session_runtime::Session;

#[derive(Session)]
struct Shop {
    cart: u32,
}

struct ShopSession;

fn main() {}
