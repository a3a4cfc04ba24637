use session_runtime::Session;

#[derive(Session)]
#[session(rename = "shop", alias = "store")]
#[session(default = 1, upgrade(from = u8, with = u32::from))]
#[session(expire = "1h", flash, guest, ordered)]
struct Shop {
    cart: u32,
}

fn main() {}
