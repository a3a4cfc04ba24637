use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Line {
    #[merge(sum)]
    quantity: String,
    #[merge(max)]
    price: f64,
    #[merge(with = longest)]
    note: String,
}

fn longest(ours: String, theirs: String) -> String {
    if ours.len() > theirs.len() { ours } else { theirs }
}

fn main() {}
