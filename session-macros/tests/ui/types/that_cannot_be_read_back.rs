use session_runtime::Session;

#[derive(Session)]
struct Shop {
    cart: Vec<Line>,
}

#[derive(serde::Serialize)]
struct Line {
    quantity: u32,
}

fn main() {}
