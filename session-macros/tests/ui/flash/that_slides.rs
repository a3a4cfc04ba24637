use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[flash]
    #[expire("1h", sliding)]
    notice: String,
}

fn main() {}
