use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Line {
    #[merge]
    quantity: u32,
    #[merge(with)]
    note: String,
}

fn main() {}
