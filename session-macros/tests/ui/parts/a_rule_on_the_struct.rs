use session_runtime::Merge;

#[derive(Merge, PartialEq)]
#[merge(sum)]
#[session(merge = sum)]
struct Line {
    quantity: u32,
}

fn main() {}
