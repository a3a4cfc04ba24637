use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[merge(by_key)]
    a: Vec<String>,
    #[merge(by_key = "sku")]
    b: Vec<String>,
    #[merge(by_key(sku))]
    c: Vec<String>,
    #[merge(by_key = line.sku())]
    d: Vec<String>,
    #[merge(by_key = Line::sku)]
    e: Vec<String>,
    #[merge(by_key = |line| &line.sku)]
    f: Vec<String>,
    #[merge(by_key = sku, sum)]
    g: Vec<String>,
}

fn main() {}
