use session_runtime::Session;

#[derive(Session)]
#[session(ttl = "30d", absolute = "2h")]
struct Shop {
    cart: u32,
}

fn main() {}
