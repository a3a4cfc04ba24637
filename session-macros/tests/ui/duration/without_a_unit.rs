use session_runtime::Session;

#[derive(Session)]
#[session(ttl = "90")]
struct Shop {
    cart: u32,
}

fn main() {}
