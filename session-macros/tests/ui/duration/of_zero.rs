use session_runtime::Session;

#[derive(Session)]
#[session(ttl = "0s", absolute = "")]
struct Shop {
    cart: u32,
}

fn main() {}
