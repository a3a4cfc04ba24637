use session_runtime::Session;

#[derive(Session)]
#[session(merge = with)]
struct Shop {
    cart: u32,
}

fn main() {}
