use session_runtime::Session;

#[derive(Session)]
#[session(merge = usr)]
struct Shop {
    #[merge(smu)]
    cart: u32,
    #[merge(left_precedence)]
    json: Vec<String>,
}

fn main() {}
