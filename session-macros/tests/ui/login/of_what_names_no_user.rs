use session_runtime::{Error, Session, Sessions};

#[derive(Session)]
struct Shop {}

async fn sign_in(mut session: Session<Shop>, sessions: Sessions) -> Result<(), Error> {
    sessions.with_user::<Shop>([4]).await?;
    session.login_with_fingerprint(Some(4), "").await?;
    session.login(4.2).await
}

fn main() {
    let _ = sign_in;
}
