use session_runtime::Session;

#[derive(Session)]
union Shop {
    cart: u32,
}

fn main() {}
