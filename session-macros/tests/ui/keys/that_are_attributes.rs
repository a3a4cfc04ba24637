use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(flash)]
    notice: String,
    #[session(expire("1h"))]
    checkout: String,
}

fn main() {}
