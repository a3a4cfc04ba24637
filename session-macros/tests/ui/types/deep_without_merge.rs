use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(deep)]
    settings: Settings,
}

#[derive(Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Settings {
    dark: bool,
}

fn main() {}
