use session_runtime::Merge;

#[derive(Merge)]
struct Line {
    sku: String,
    price: Price,
}

struct Price(u32);

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.sku == other.sku
    }
}

fn main() {}
