use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Line {
    #[expire("1h")]
    offer: Option<u32>,
    #[flash]
    notice: String,
    #[session(rename = "n")]
    quantity: u32,
}

fn main() {}
