use session_runtime::Session;

#[derive(Session)]
struct Shop<Item: Clone, const N: usize>
where
    Item: Default,
{
    cart: Vec<Item>,
    sizes: [u8; N],
}

async fn add(mut session: Session<Shop<u32, 3>>) {
    session.cart.get_mut().push(1);
}

fn main() {}
