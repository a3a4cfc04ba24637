use session_runtime::Session;

#[derive(Session)]
#[session(merge = sum)]
struct Shop {
    visits: u32,
    name: String,
    #[flash]
    notice: String,
}

fn main() {}
