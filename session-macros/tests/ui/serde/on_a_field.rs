use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[serde(skip)]
    card: String,
    #[serde(skip_serializing, skip_deserializing)]
    code: String,
    #[serde(rename = "n", alias = "count", default)]
    visits: u32,
    #[serde(default = "twenty", skip_serializing_if = "is_twenty")]
    rows: u32,
    #[serde(with = "seconds")]
    since: u64,
    #[serde(serialize_with = "write", deserialize_with = "read")]
    until: u64,
    #[serde(flatten)]
    settings: Settings,
    #[serde(borrow)]
    name: String,
    #[serde(rename(serialize = "a", deserialize = "b"), bound = "")]
    other: String,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Settings {
    #[serde(default)]
    dark: bool,
}

fn main() {}
