use session_runtime::Session;

#[derive(Session)]
#[session(ttl, prefix =)]
struct Shop {
    #[session(default, alias)]
    cart: u32,
}

fn main() {}
