use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(upgrade(from = 32, with = "widen"))]
    cart: u64,
}

fn main() {}
