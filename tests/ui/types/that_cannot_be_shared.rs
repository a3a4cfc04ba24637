use session_runtime::Session;

#[derive(Session)]
struct Shop {
    visits: std::cell::Cell<u32>,
}

fn main() {}
