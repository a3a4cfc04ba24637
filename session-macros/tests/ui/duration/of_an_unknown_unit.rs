use session_runtime::Session;

#[derive(Session)]
#[session(ttl = "2 huors", absolute = "1 year")]
struct Shop {
    cart: u32,
}

fn main() {}
