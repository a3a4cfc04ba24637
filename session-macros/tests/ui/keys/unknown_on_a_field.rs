use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(renamed = "basket")]
    cart: u32,
}

fn main() {}
