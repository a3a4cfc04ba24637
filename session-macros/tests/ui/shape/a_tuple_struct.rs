use session_runtime::Session;

#[derive(Session)]
struct Shop(u32, #[flash] String);

fn main() {}
