use session_runtime::Session;

#[derive(Session)]
#[flash]
struct Shop {
    notice: String,
}

fn main() {}
