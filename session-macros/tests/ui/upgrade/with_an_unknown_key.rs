use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(upgrade(form = u32, with = u64::from, default = 0))]
    cart: u64,
}

fn main() {}
