use session_runtime::Session;

#[derive(Session)]
#[session(absolute = "1h")]
struct Shop {
    #[expire("90m")]
    cart: u32,
}

fn main() {}
