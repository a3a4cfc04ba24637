use session_runtime::Session;

#[derive(Session)]
#[session(ttl = "2h", ttl = "3h")]
#[session(prefix = "a")]
#[session(prefix = "b")]
struct Shop {
    #[session(rename = "basket", rename = "bag")]
    #[expire("1h")]
    #[expire("2h")]
    cart: u32,
    #[flash]
    #[flash]
    notice: String,
    #[merge(sum)]
    #[merge(max)]
    visits: u32,
}

fn main() {}
