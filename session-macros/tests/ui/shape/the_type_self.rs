use session_runtime::Session;

#[derive(Session)]
struct Shop {
    other: Option<Box<Self>>,
}

fn main() {}
