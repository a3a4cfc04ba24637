use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(with = session_runtime::base64)]
    visits: u32,
}

fn main() {}
