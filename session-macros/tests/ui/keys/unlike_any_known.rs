use session_runtime::Session;

#[derive(Session)]
#[session(cookie = "id")]
struct Shop {
    cart: u32,
}

fn main() {}
