use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Line {
    #[merge(smu)]
    quantity: u32,
    #[merge(by_kye = sku)]
    lines: Vec<u8>,
}

fn main() {}
