use session_runtime::Session;

#[derive(Session)]
#[session(prefix = "my.shop")]
struct Shop {
    #[session(rename = "")]
    cart: u32,
    #[session(rename = "@cart")]
    basket: u32,
    #[session(alias = "a\nb")]
    bag: u32,
}

fn main() {}
