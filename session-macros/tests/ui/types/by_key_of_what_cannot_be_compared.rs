use session_runtime::{Merge, Session, Sides};

#[derive(Session)]
struct Shop {
    #[merge(by_key = sku)]
    cart: Vec<Line>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    sku: Sku,
    quantity: u32,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Sku(String);

impl Merge for Line {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        sides.ours
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.quantity == other.quantity
    }
}

fn main() {}
