use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(sum, device)]
    tries: u32,
    #[merge(append, browser, user)]
    seen: Vec<u32>,
}

fn main() {}
