use session_runtime::Session;

#[derive(Session)]
#[session(prefix = auth, merge = 3)]
struct Shop {
    #[session(rename = 5)]
    cart: u32,
}

fn main() {}
