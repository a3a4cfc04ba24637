use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(max)]
    best: f64,
}

fn main() {}
