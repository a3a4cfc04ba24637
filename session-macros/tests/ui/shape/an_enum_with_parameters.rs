use session_runtime::Session;

#[derive(Session)]
enum Shop<T> {
    Empty,
    Full { cart: T },
}

fn main() {}
