//! The smallest app with a session: a page that counts its visits. `cargo run -p session-examples --example counter`
#![expect(clippy::print_stdout, reason = "it says where it is")]

use axum::{Router, routing::get};
use session_runtime::{Session, SessionLayer, store::MemoryStore};
use tokio::net::TcpListener;

#[derive(Session)]
struct Visits {
    #[merge(sum, browser)] // two tabs at once: both count
    count: u32,
}

async fn visit(mut session: Session<Visits>) -> String {
    *session.count.get_mut() += 1;
    format!("Visits so far: {}", session.count.get())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sessions = SessionLayer::new(MemoryStore::new()).insecure(); // plain http: for development
    let app = Router::new().route("/", get(visit)).layer(sessions);
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
