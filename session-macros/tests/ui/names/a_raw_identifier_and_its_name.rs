use session_runtime::Session;

#[derive(Session)]
struct Shop {
    r#type: u32,
    #[session(rename = "type")]
    kind: u32,
}

fn main() {}
