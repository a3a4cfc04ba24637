//! What follows a user, in the app's own table of users. `cargo run -p session-examples --example members`, and then
//!
//! ```text
//! curl -c jar -b jar -d title=Dune  http://127.0.0.1:3000/list     # a guest's list
//! curl -c jar -b jar -d name=ada    http://127.0.0.1:3000/enter
//! curl -c jar -b jar                http://127.0.0.1:3000/         # asks what is to become of it
//! curl -c jar -b jar -d answer=yes  http://127.0.0.1:3000/answer   # is now Ada's
//! curl -c two -b two -d name=ada    http://127.0.0.1:3000/enter    # on another device
//! curl -c two -b two                http://127.0.0.1:3000/
//! sqlite3 members.db 'SELECT name, length(session) FROM members'
//! ```
//!
//! There is neither a password here, to keep to the point, nor a check of where forms come from: the shop has both.
#![expect(clippy::print_stdout, reason = "it says where it is")]

use std::collections::BTreeSet;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Form, Router};
use serde::Deserialize;
use session_runtime::store::SqliteStore;
use session_runtime::{Error, Session, SessionLayer, Sessions};
use tokio::net::TcpListener;

mod table;

use table::Members;

#[derive(Session)]
struct Reader {
    /// Books to read: follows the member, and two lists become one.
    #[merge(union)]
    list: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Book {
    title: String,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct Answer {
    answer: String,
}

async fn show(session: Session<Reader>) -> String {
    let who = session.user();
    let who = who.as_ref().map_or("A guest", |user| user.as_str());
    let list = format!("{who} wants to read {:?}\n", session.list.get());
    match session.list.brought() {
        Some(brought) => format!("{list}Is {brought:?} to be on the list, too?\n"),
        None => list,
    }
}

async fn add(mut session: Session<Reader>, Form(book): Form<Book>) {
    session.list.get_mut().insert(book.title);
}

async fn enter(
    State(members): State<Members>,
    mut session: Session<Reader>,
    Form(Name { name }): Form<Name>,
) -> Result<(), Error> {
    members.join(&name).await?;
    session.login(name).await
}

/// Takes over what somebody has gathered before they came in, if they say that it is theirs: maybe another member did.
async fn answer(
    mut session: Session<Reader>,
    Form(Answer { answer }): Form<Answer>,
) -> Result<(), Error> {
    match answer.as_str() {
        "yes" => session.migrate().await,
        _ => session.discard().await,
    }
}

async fn leave(
    State(members): State<Members>,
    session: Session<Reader>,
    sessions: Sessions,
) -> Result<(), Error> {
    if let Some(user) = session.user() {
        // In this order: the list of the member's sessions is in the row. An app with accounts refuses logins first, as the shop does.
        sessions.delete(&user).await?;
        members.leave(user.as_str()).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = Members::open("members.db")?;
    let sessions = SessionLayer::new(SqliteStore::open("sessions.db")?)
        .users(members.clone())
        .migrate(false) // not unasked
        .insecure(); // plain http: for development
    let app = Router::new()
        .route("/", get(show))
        .route("/list", post(add))
        .route("/enter", post(enter))
        .route("/answer", post(answer))
        .route("/leave", post(leave))
        .with_state(members)
        .layer(sessions);
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
