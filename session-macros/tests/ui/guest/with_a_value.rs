use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(guest = true)]
    tries: u32,
}

fn main() {}
