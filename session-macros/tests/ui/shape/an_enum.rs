use session_runtime::Session;

#[derive(Session)]
enum Shop {
    Empty,
    Full { cart: u32 },
}

fn main() {}
