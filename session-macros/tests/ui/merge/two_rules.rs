use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(sum, max)]
    cart: u32,
}

fn main() {}
