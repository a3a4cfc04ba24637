use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[expire("1h", slidng)]
    cart: u32,
    #[expire("1h", "2h")]
    basket: u32,
    #[expire("1h", sliding = true)]
    bag: u32,
    #[expire("1h" sliding)]
    box_: u32,
}

fn main() {}
