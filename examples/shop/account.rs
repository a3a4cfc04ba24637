//! The account: where its owner is signed in, and how to leave.

use askama::Template;
use axum::Router;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use session_runtime::{Session, Sessions, UserId};

use crate::accounts::{Accounts, Fault};
use crate::agent;
use crate::credentials::Password;
use crate::errors::Failure;
use crate::page::{self, Frame};
use crate::shop::{Notice, Shop};
use crate::sign_in;
use crate::when::When;

/// The longest name of a device, in characters.
const LONGEST_LABEL: usize = 40;

pub(crate) fn routes(accounts: Accounts) -> Router {
    Router::new()
        .route("/account", get(account))
        .route("/account/label", post(label))
        .route("/account/sign-out", post(sign_out_one))
        .route("/account/sign-out-others", post(sign_out_others))
        .route("/account/sign-out-everywhere", post(sign_out_everywhere))
        .route("/account/leave", get(ask_to_leave).post(leave))
        .with_state(accounts)
}

#[derive(Template)]
#[template(path = "account.html")]
struct Account {
    frame: Frame,
    name: String,
    devices: Vec<Device>,
    longest: usize,
}

/// A device, in words.
struct Device {
    id: String,
    /// What its owner calls it, or what it is.
    title: String,
    /// What it is, if its owner calls it something else.
    kind: Option<String>,
    label: String,
    address: Option<String>,
    signed_in: When,
    seen: When,
    /// It is the one that shows the page.
    here: bool,
}

impl Device {
    fn new(device: &session_runtime::Device, here: Option<&str>) -> Self {
        let kind = agent::words(device.user_agent().unwrap_or_default());
        let label = device.label().map(str::to_owned);
        Self {
            id: device.id().to_owned(),
            title: label.clone().unwrap_or_else(|| kind.clone()),
            kind: label.is_some().then_some(kind),
            label: label.unwrap_or_default(),
            address: device.address().map(str::to_owned),
            signed_in: When::new(device.created_at()),
            seen: When::new(device.last_seen()),
            here: here == Some(device.id()),
        }
    }
}

/// Nobody is signed in, so there is no account to show.
fn to_the_door() -> Response {
    Redirect::to("/sign-in?back=/account").into_response()
}

fn to_the_account() -> Response {
    Redirect::to("/account").into_response()
}

async fn account(session: Session<Shop>, sessions: Sessions) -> Result<Response, Failure> {
    let Some(user) = session.user() else {
        return Ok(to_the_door());
    };
    let devices = sessions.list(&user).await?;
    let here = session.device();
    Ok(page::show(&Account {
        name: session.name.get().clone(),
        devices: devices
            .iter()
            .rev()
            .map(|device| Device::new(device, here.as_deref()))
            .collect(),
        longest: LONGEST_LABEL,
        frame: Frame::of(&session, "/account"),
    }))
}

#[derive(Deserialize)]
struct Label {
    device: String,
    label: String,
}

async fn label(
    mut session: Session<Shop>,
    sessions: Sessions,
    Form(form): Form<Label>,
) -> Result<Response, Failure> {
    let Some(user) = session.user() else {
        return Ok(to_the_door());
    };
    let label: String = form.label.trim().chars().take(LONGEST_LABEL).collect();
    let label = Some(label).filter(|label| !label.is_empty());
    let there = sessions.label(&user, &form.device, label).await?;
    session.notice.set(if there {
        Notice::done("Renamed.")
    } else {
        signed_out_already()
    });
    Ok(to_the_account())
}

fn signed_out_already() -> Notice {
    Notice::problem("That device was signed out already.")
}

#[derive(Deserialize)]
struct One {
    device: String,
}

async fn sign_out_one(
    mut session: Session<Shop>,
    sessions: Sessions,
    Form(form): Form<One>,
) -> Result<Response, Failure> {
    let Some(user) = session.user() else {
        return Ok(to_the_door());
    };
    if session.device().as_ref() == Some(&form.device) {
        return Ok(sign_in::sign_out(session).await?.into_response());
    }
    let there = sessions.revoke(&user, &form.device).await?;
    session.notice.set(if there {
        Notice::done("Signed out there. Whoever uses it is a guest from the next click on.")
    } else {
        signed_out_already()
    });
    Ok(to_the_account())
}

async fn sign_out_others(
    mut session: Session<Shop>,
    sessions: Sessions,
) -> Result<Response, Failure> {
    let (Some(user), Some(here)) = (session.user(), session.device()) else {
        return Ok(to_the_door());
    };
    let notice = match sessions.revoke_others(&user, &here).await? {
        0 => "There was no other device.".to_owned(),
        1 => "Signed out on the other device.".to_owned(),
        others => format!("Signed out on {others} other devices."),
    };
    session.notice.set(Notice::done(notice));
    Ok(to_the_account())
}

async fn sign_out_everywhere(
    session: Session<Shop>,
    sessions: Sessions,
) -> Result<Response, Failure> {
    if let (Some(user), Some(here)) = (session.user(), session.device()) {
        sessions.revoke_others(&user, &here).await?;
    }
    Ok(sign_in::sign_out(session).await?.into_response())
}

#[derive(Template)]
#[template(path = "leave.html")]
struct Leave {
    frame: Frame,
    problem: Option<&'static str>,
}

async fn ask_to_leave(session: Session<Shop>) -> Response {
    if session.user().is_none() {
        return to_the_door();
    }
    page::show(&Leave {
        frame: Frame::of(&session, "/account/leave"),
        problem: None,
    })
}

#[derive(Deserialize)]
struct Confirmation {
    password: String,
}

async fn leave(
    State(accounts): State<Accounts>,
    mut session: Session<Shop>,
    sessions: Sessions,
    Form(form): Form<Confirmation>,
) -> Result<Response, Failure> {
    let Some(user) = session.user() else {
        return Ok(to_the_door());
    };
    let id = number(&user)?;
    if !accounts.close(id, Password::new(&form.password)).await? {
        let page = Leave {
            frame: Frame::of(&session, "/account/leave"),
            problem: Some(
                "That is not the password of this account, or it was tried too often: then come back in a quarter of an hour.",
            ),
        };
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)).into_response());
    }
    // From here on nobody can sign in, and what is not done now is done when the shop opens next.
    session.logout().await?;
    see_out(&accounts, &sessions, id).await?;
    Ok(Redirect::to("/forgotten").into_response())
}

/// Does what is left to do of an account that was closed.
async fn see_out(accounts: &Accounts, sessions: &Sessions, id: i64) -> Result<(), Failure> {
    sessions.delete(id).await?;
    Ok(accounts.forget(id).await?)
}

/// Sees out everybody who was leaving when the shop closed.
pub(crate) async fn see_all_out(accounts: &Accounts, sessions: &Sessions) -> Result<(), Failure> {
    for id in accounts.closed().await? {
        see_out(accounts, sessions, id).await?;
    }
    Ok(())
}

/// A user's number, as the accounts know it.
fn number(user: &UserId) -> Result<i64, Fault> {
    Ok(user.as_str().parse()?)
}
