use session_runtime::Session;

#[derive(Session)]
struct Shop<'a> {
    name: std::borrow::Cow<'a, str>,
}

fn main() {}
