use session_runtime::Session;

#[derive(Session)]
#[session(merge = usr)]
struct Shop {
    #[merge(smu)]
    cart: u32,
    #[merge(left_precedent)]
    json: Vec<String>,
}

fn main() {}
