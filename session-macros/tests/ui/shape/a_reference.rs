use session_runtime::Session;

#[derive(Session)]
struct Shop {
    name: &'static str,
    sizes: &'static [u8],
}

fn main() {}
