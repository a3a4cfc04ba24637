use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(with = larger)]
    cart: u32,
}

fn larger(ours: u32, theirs: u32) -> u32 {
    ours.max(theirs)
}

fn main() {}
