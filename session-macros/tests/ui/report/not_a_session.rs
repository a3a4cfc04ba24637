use session_runtime::Session;

struct Shop {
    cart: u32,
}

async fn add(session: Session<Shop>) {}

fn main() {}
