use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[expire]
    cart: u32,
    #[expire()]
    basket: u32,
    #[expire = "1h"]
    bag: u32,
}

fn main() {}
