use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[flash]
    notice: Option<String>,
}

async fn notify(mut session: Session<Shop>) {
    session.notice.set(42);
}

fn main() {
    let _ = notify;
}
