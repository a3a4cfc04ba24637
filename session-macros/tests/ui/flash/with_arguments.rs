use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[flash("1h")]
    notice: String,
    #[flash = true]
    error: String,
}

async fn show(session: Session<Shop>) -> String {
    session.notice.peek().clone()
}

fn main() {}
