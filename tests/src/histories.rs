//! An app each of whose answers says what it has seen and done, for histories of many clients.

use std::time::Duration;

use axum::extract::{Path, Query};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use session_runtime::{Error, Saved, Session, SessionId, SessionLayer, Sessions, UserId, WhenFull};

/// What a session holds.
#[derive(Debug, Session)]
pub struct Shelf {
    /// Two fields of the browser's, without a rule.
    pub a: u64,
    /// The other.
    pub b: u64,
    /// How many requests have added something in this browser.
    #[merge(sum, browser)]
    pub clicks: u64,
    /// The user's, written by requests of the user alone.
    #[merge(user)]
    pub name: u64,
    /// How many numbers the log has.
    #[merge(sum)]
    pub points: u64,
    /// The numbers that were added.
    #[merge(append)]
    pub log: Vec<u64>,
    /// Is claimed.
    #[flash]
    pub notice: Option<u64>,
    /// Is set for [`CODE_MILLIS`].
    pub code: u64,
}

/// For how many milliseconds a code is there.
pub const CODE_MILLIS: u64 = 100;

/// How many sessions a user may have, where that is limited.
pub const LIMIT: usize = 2;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing but the answer.
    Read,
    /// Sets `a`.
    SetA,
    /// Sets `b`.
    SetB,
    /// Adds a number.
    Add,
    /// Sets the user's name, if there is a user.
    Name,
    /// Sets the flash.
    Notice,
    /// Claims the flash.
    Claim,
    /// Sets the code.
    Code,
    /// Takes a new id.
    Rotate,
    /// Logs in.
    Login,
    /// Logs out.
    Logout,
    /// Ends all sessions of the user.
    RevokeAll,
    /// Ends all but its own.
    RevokeOthers,
    /// Deletes the user.
    Delete,
    /// Adds a number in the user's stead, outside of any session.
    Job,
}

/// What it sends along.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// The number that it sets or adds: no other request has it.
    pub id: u64,
    /// Who logs in, is revoked, or gets a number.
    pub user: String,
    /// How many milliseconds to wait between loading and changing.
    pub pause: u64,
}

/// What the answer says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// Which session was loaded.
    pub loaded: Option<String>,
    /// Which session there was when it had written.
    pub session: Option<String>,
    /// Whose it was when it was loaded; for a login, since then.
    pub user: Option<String>,
    /// What was read, before it changed anything; for a login, after it.
    pub seen: Seen,
    /// That what was changed was written, or has come to nothing with its session.
    pub saved: Option<bool>,
    /// What it has claimed.
    pub claimed: Option<u64>,
}

/// The fields.
#[expect(missing_docs, reason = "as in the session")]
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    pub a: u64,
    pub b: u64,
    pub clicks: u64,
    pub name: u64,
    pub points: u64,
    pub log: Vec<u64>,
    pub notice: Option<u64>,
    pub code: u64,
}

/// Names the session that an id opens.
#[must_use]
pub fn selector(id: &str) -> &str {
    &id[..16]
}

fn name(id: Option<SessionId>) -> Option<String> {
    id.map(|id| selector(id.expose()).to_owned())
}

fn see(session: &ShelfSession) -> Seen {
    Seen {
        a: *session.a.get(),
        b: *session.b.get(),
        clicks: *session.clicks.get(),
        name: *session.name.get(),
        points: *session.points.get(),
        log: session.log.get().clone(),
        notice: *session.notice.peek(),
        code: *session.code.get(),
    }
}

fn tell(session: &Session<Shelf>) -> Told {
    Told {
        loaded: name(session.id()),
        user: session.user().map(|user| user.as_str().to_owned()),
        seen: see(session),
        ..Told::default()
    }
}

async fn act(
    Path(kind): Path<Kind>,
    Query(ask): Query<Ask>,
    sessions: Sessions,
    mut session: Session<Shelf>,
) -> Result<Json<Told>, Error> {
    let mut told = tell(&session);
    tokio::time::sleep(Duration::from_millis(ask.pause)).await;
    let user = UserId::from(&*ask.user);
    match kind {
        Kind::Read | Kind::Job => return Ok(Json(told)),
        Kind::SetA => session.a.set(ask.id),
        Kind::SetB => session.b.set(ask.id),
        Kind::Add => {
            *session.clicks.get_mut() += 1;
            *session.points.get_mut() += 1;
            session.log.get_mut().push(ask.id);
        }
        Kind::Name if told.user.is_none() => return Ok(Json(told)),
        Kind::Name => session.name.set(ask.id),
        Kind::Notice => session.notice.set(ask.id),
        Kind::Claim => told.claimed = session.notice.claim().await?.flatten(),
        Kind::Code => {
            session.code.set(ask.id);
            session.code.expire_in(Duration::from_millis(CODE_MILLIS));
        }
        Kind::Rotate => session.rotate().await?,
        Kind::Login => {
            session.login(user).await?;
            let loaded = told.loaded;
            told = Told {
                loaded,
                ..tell(&session)
            };
        }
        Kind::Logout => session.logout().await?,
        Kind::RevokeAll => drop(sessions.revoke_all(&user).await?),
        Kind::Delete => sessions.delete(&user).await?,
        Kind::RevokeOthers => match session.device() {
            Some(device) => drop(sessions.revoke_others(&user, &device).await?),
            None => return Ok(Json(told)),
        },
    }
    told.saved = Some(session.save().await? != Saved::Ended);
    told.session = name(session.id());
    Ok(Json(told))
}

async fn work(Query(ask): Query<Ask>, sessions: Sessions) -> Result<Json<Told>, Error> {
    let mut user = sessions.with_user::<Shelf>(&*ask.user).await?;
    let mut told = Told {
        seen: see(&user),
        user: Some(ask.user),
        ..Told::default()
    };
    tokio::time::sleep(Duration::from_millis(ask.pause)).await;
    *user.points.get_mut() += 1;
    user.log.get_mut().push(ask.id);
    told.saved = Some(user.save().await? != Saved::Ended);
    Ok(Json(told))
}

/// The app, under that layer, and once more where a user may have no more than [`LIMIT`] sessions.
pub fn routes(layer: SessionLayer) -> Router {
    let idle = layer.clone();
    let idle = get(async move || idle.idle().await);
    let under = |layer| {
        let job = post(work);
        let app = Router::new().route("/Job", job).route("/{kind}", post(act));
        app.layer(layer)
    };
    let limited = layer.clone().max_sessions(LIMIT, WhenFull::EndOldest);
    Router::new()
        .nest("/h", under(layer))
        .nest("/limited", under(limited))
        .route("/idle", idle)
}
