use session_runtime::Session;

#[derive(Session)]
#[session("2h")]
struct Shop {
    cart: u32,
}

fn main() {}
