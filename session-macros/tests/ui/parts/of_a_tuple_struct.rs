use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Line(String, u32);

fn main() {}
