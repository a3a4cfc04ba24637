use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(default = "none")]
    cart: u32,
}

fn main() {}
