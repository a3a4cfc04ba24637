use session_runtime::Session;

#[derive(Session)]
struct Shop;

fn main() {}
