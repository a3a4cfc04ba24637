use session_runtime::Session;

#[derive(Session)]
#[expire("1h")]
struct Shop {
    cart: u32,
}

fn main() {}
