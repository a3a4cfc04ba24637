use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(longest)]
    query: String,
    #[merge(rules::longest)]
    other: String,
}

fn longest(sides: session_runtime::Sides<String>) -> String {
    sides.ours.or(sides.theirs).unwrap_or_default()
}

fn main() {}
