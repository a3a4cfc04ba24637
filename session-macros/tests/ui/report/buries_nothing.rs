use session_runtime::Session;

#[derive(Session)]
#[session(ttl = "2 huors")]
struct Shop {
    #[merge(sum)]
    cart: u32,
    #[flash]
    notice: Option<String>,
}

async fn add(mut session: Session<Shop>) -> String {
    *session.cart.get_mut() += 1;
    session.notice.set("Added to your cart".to_owned());
    session.assign(Shop { cart: 1, notice: None });
    let ShopSession { cart, notice } = session.fields();
    format!("{} {:?}", cart.get(), notice.peek())
}

fn app() -> axum::Router {
    axum::Router::new().route("/add", axum::routing::post(add))
}

fn main() {}
