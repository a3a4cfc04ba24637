use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(upgrade(from = u32, with = widen))]
    cart: u64,
}

fn widen(small: u8) -> u64 {
    small.into()
}

fn main() {}
