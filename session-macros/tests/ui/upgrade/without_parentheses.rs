use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(upgrade = u64::from)]
    cart: u64,
    #[session(upgrade)]
    basket: u64,
}

fn main() {}
