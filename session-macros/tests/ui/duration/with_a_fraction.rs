use session_runtime::Session;

#[derive(Session)]
#[session(ttl = "1.5h")]
struct Shop {
    cart: u32,
}

fn main() {}
