use session_runtime::Session;

#[derive(Session)]
#[session(merge = by_key)]
struct Shop {
    cart: Vec<String>,
}

fn main() {}
