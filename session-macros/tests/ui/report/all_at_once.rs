use session_runtime::Session;

#[derive(Session)]
#[session(tll = "2h", absolute = "1 day", prefix = "my.shop")]
struct Shop {
    #[merge(smu)]
    cart: u32,
    #[flash]
    #[merge(append)]
    notices: Vec<String>,
    #[expire("2 days")]
    checkout: String,
    #[session(rename = "cart", default)]
    basket: u32,
}

fn main() {}
