use session_runtime::Session;

#[derive(Session)]
#[session(ttl = "2h" absolute = "30d")]
struct Shop {
    cart: u32,
}

fn main() {}
