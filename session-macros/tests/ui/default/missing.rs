use session_runtime::Session;

#[derive(Session)]
struct Shop {
    opened: std::time::SystemTime,
    currency: Currency,
}

#[derive(serde::Serialize, serde::Deserialize)]
enum Currency {
    Euro,
}

fn main() {}
