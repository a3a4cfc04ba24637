use session_runtime::Session;

#[derive(Session)]
struct Shop {
    name: Option<String>,
    size: u32,
    #[flash]
    notice: Option<String>,
}

async fn set(mut session: Session<Shop>) {
    session.name.set(42);
    session.size.set("42");
    session.notice.set(42);
    session.notice.now('4');
}

fn main() {
    let _ = set;
}
