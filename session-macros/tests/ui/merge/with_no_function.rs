use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(with)]
    cart: u32,
    #[merge(with = "longest")]
    query: String,
    #[merge(with = |sides| sides.ours)]
    other: String,
    #[merge(with(longest))]
    another: String,
}

fn main() {}
