use session_runtime::Session;

#[derive(Session)]
#[merge(sum)]
struct Shop {
    cart: u32,
}

fn main() {}
