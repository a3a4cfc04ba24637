use session_runtime::Session;
use std::collections::BTreeMap;

#[derive(Session)]
#[session(merge = right_precedent)]
struct Shop {
    settings: BTreeMap<String, u32>,
    json: serde_json::Value,
}

fn main() {}
