use session_runtime::Merge;

#[derive(Merge, PartialEq)]
enum Step {
    Address,
    Payment { card: u32 },
}

fn main() {}
