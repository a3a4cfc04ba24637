use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(append)]
    cart: Vec<Line>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    quantity: u32,
}

fn main() {}
