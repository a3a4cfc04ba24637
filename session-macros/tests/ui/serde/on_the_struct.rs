use session_runtime::Session;

#[derive(Session)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[serde(crate = "house::serde", transparent)]
struct Shop {
    page_size: u32,
}

fn main() {}
