use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[flash]
    #[merge(append)]
    notices: Vec<String>,
}

fn main() {}
