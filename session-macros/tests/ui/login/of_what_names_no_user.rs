use session_runtime::{Error, Session};

#[derive(Session)]
struct Shop {}

async fn sign_in(mut session: Session<Shop>) -> Result<(), Error> {
    session.login(4.2).await
}

fn main() {
    let _ = sign_in;
}
