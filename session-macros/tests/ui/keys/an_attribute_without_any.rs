use session_runtime::Session;

#[derive(Session)]
#[session]
struct Shop {
    #[session()]
    cart: u32,
    #[session = "basket"]
    basket: u32,
}

fn main() {}
