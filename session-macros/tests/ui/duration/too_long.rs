use session_runtime::Session;

#[derive(Session)]
#[session(absolute = "99999999999999999999d")]
struct Shop {
    cart: u32,
}

fn main() {}
