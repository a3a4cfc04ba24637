use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge("sum")]
    cart: u32,
}

fn main() {}
