use session_runtime::Session;

#[derive(Session)]
#[session(ttl = 'h', absolute = HOUR)]
struct Shop {
    #[expire(1.5)]
    cart: u32,
}

fn main() {}
