use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(ttl = "2h", absolute = "30d", prefix = "shop", merge = sum)]
    cart: u32,
}

fn main() {}
