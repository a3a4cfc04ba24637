use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Nothing;

fn main() {}
