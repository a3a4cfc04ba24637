use session_runtime::Merge;

#[derive(Merge)]
struct Line {
    sku: String,
}

fn main() {}
