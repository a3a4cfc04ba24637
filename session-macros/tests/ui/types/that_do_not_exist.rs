use session_runtime::Session;

#[derive(Session)]
struct Shop {
    cart: Crat,
}

fn main() {}
