use session_runtime::Session;

#[derive(Session)]
#[session(ttl = 3600)]
struct Shop {
    #[expire(15m)]
    cart: u32,
    #[expire(HOUR)]
    other: u32,
}

fn main() {}
