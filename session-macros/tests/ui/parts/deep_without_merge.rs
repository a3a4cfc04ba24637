use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Cart {
    #[merge(deep)]
    gift: Gift,
}

#[derive(PartialEq)]
struct Gift {
    ribbon: bool,
}

fn main() {}
