use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Line {
    sku: String,
    #[merge(reject)]
    quantity: u32,
}

fn main() {}
