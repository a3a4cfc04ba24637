use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Line {
    #[merge(sum)]
    #[merge(max)]
    quantity: u32,
}

fn main() {}
