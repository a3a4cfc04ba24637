use session_runtime::Session;

#[derive(Session)]
#[session(ttl = "an hour", absolute = "-5m")]
struct Shop {
    cart: u32,
}

fn main() {}
