use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(upgrade(with = u64::from))]
    cart: u64,
    #[session(upgrade(from = u32))]
    basket: u64,
    #[session(upgrade())]
    bag: u64,
}

fn main() {}
