use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(guest)]
    #[merge(sum)]
    tries: u32,
}

fn main() {}
