use session_runtime::Session;

#[derive(Session)]
#[session(merge)]
struct Shop {
    #[merge]
    cart: u32,
    #[merge()]
    basket: u32,
    #[merge = "sum"]
    bag: u32,
}

fn main() {}
