//! In and out: new accounts, passwords, and what becomes of two carts.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use askama::Template;
use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use session_runtime::{Error, Session, Sessions};

use crate::accounts::{Accounts, Entry, User};
use crate::cart;
use crate::catalogue::Sku;
use crate::credentials::{LONGEST_NAME, Name, Password, SHORTEST_PASSWORD};
use crate::errors::Failure;
use crate::page::{self, Frame, OwnPath};
use crate::shop::{Notice, Shop};
use crate::when::When;

/// How often one browser may try a password. Whoever drops the cookie starts anew; what counts then is
/// [the name](crate::accounts).
const MOST_TRIES: u32 = 5;

pub(crate) fn routes(accounts: Accounts) -> Router {
    Router::new()
        .route("/sign-in", get(ask).post(sign_in))
        .route("/register", get(ask_to_register).post(register))
        .route("/sign-out", post(sign_out))
        .route("/signed-out", get(signed_out))
        .with_state(accounts)
}

/// Where to go afterwards.
#[derive(Deserialize)]
struct Way {
    #[serde(default = "OwnPath::cart")]
    back: OwnPath,
}

/// Either form.
#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
    back: OwnPath,
}

/// What is wrong with either.
enum Problem {
    Name(&'static str),
    Password(&'static str),
}

#[derive(Template)]
#[template(path = "sign-in.html")]
struct SignIn {
    frame: Frame,
    name: String,
    back: String,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "register.html")]
struct Register {
    frame: Frame,
    name: String,
    back: String,
    problem: Option<Problem>,
    longest: usize,
    shortest: usize,
}

impl SignIn {
    fn new(session: &Session<Shop>, back: &OwnPath) -> Self {
        Self {
            frame: Frame::of(session, "/sign-in"),
            name: String::new(),
            back: back.as_str().to_owned(),
            problem: None,
        }
    }
}

impl Register {
    fn new(session: &Session<Shop>, back: &OwnPath) -> Self {
        Self {
            frame: Frame::of(session, "/register"),
            name: String::new(),
            back: back.as_str().to_owned(),
            problem: None,
            longest: LONGEST_NAME,
            shortest: SHORTEST_PASSWORD,
        }
    }
}

async fn ask(Query(way): Query<Way>, session: Session<Shop>) -> Response {
    if session.user().is_some() {
        return Redirect::to("/account").into_response();
    }
    match tried_too_often(&session) {
        Some(until) => come_back(&session, until),
        None => page::show(&SignIn::new(&session, &way.back)),
    }
}

async fn ask_to_register(Query(way): Query<Way>, session: Session<Shop>) -> Response {
    if session.user().is_some() {
        return Redirect::to("/account").into_response();
    }
    page::show(&Register::new(&session, &way.back))
}

async fn sign_in(
    State(accounts): State<Accounts>,
    mut session: Session<Shop>,
    sessions: Sessions,
    Form(form): Form<Credentials>,
) -> Result<Response, Failure> {
    if session.user().is_some() {
        return Ok(Redirect::to("/account").into_response());
    }
    let entry = match Name::parse(&form.name) {
        Ok(name) => try_password(&accounts, &mut session, name, &form.password).await?,
        Err(_) => Entry::Wrong,
    };
    match entry {
        Entry::Granted(user) => {
            let brought = session.cart.get().clone();
            if log_in(&accounts, &sessions, &mut session, user).await? {
                Ok(welcome_back(session, &brought, &form.back))
            } else {
                Ok(not_that(&session, form))
            }
        }
        Entry::Closed(until) => Ok(come_back(&session, until)),
        Entry::Wrong => Ok(not_that(&session, form)),
    }
}

/// Looks at a password, and counts it before it does.
async fn try_password(
    accounts: &Accounts,
    session: &mut Session<Shop>,
    name: Name,
    password: &str,
) -> Result<Entry, Failure> {
    if let Some(until) = tried_too_often(session) {
        return Ok(Entry::Closed(until));
    }
    *session.tries.get_mut() += 1;
    session.save().await?;
    Ok(accounts.enter(name, Password::new(password)).await?)
}

/// Until when this browser may try no more, if so.
fn tried_too_often(session: &Session<Shop>) -> Option<SystemTime> {
    let often = *session.tries.get() >= MOST_TRIES;
    session.tries.expires_at().filter(|_| often)
}

fn not_that(session: &Session<Shop>, form: Credentials) -> Response {
    if let Some(until) = tried_too_often(session) {
        return come_back(session, until);
    }
    let left = match MOST_TRIES - session.tries.get() {
        1 => " There is one try left.".to_owned(),
        left @ 2..=3 => format!(" There are {left} tries left."),
        _ => String::new(),
    };
    let page = SignIn {
        name: form.name,
        problem: Some(format!("We know no such name with that password.{left}")),
        ..SignIn::new(session, &form.back)
    };
    (StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)).into_response()
}

#[derive(Template)]
#[template(path = "come-back.html")]
struct ComeBack {
    frame: Frame,
    until: When,
}

fn come_back(session: &Session<Shop>, until: SystemTime) -> Response {
    let page = ComeBack {
        frame: Frame::of(session, "/sign-in"),
        until: When::new(until),
    };
    let wait = until.duration_since(SystemTime::now()).unwrap_or_default();
    let seconds = (wait + Duration::from_secs(1)).as_secs();
    (
        StatusCode::TOO_MANY_REQUESTS,
        [(RETRY_AFTER, seconds.to_string())],
        page::show(&page),
    )
        .into_response()
}

/// A word on what the login has done to the cart.
fn welcome_back(session: Session<Shop>, brought: &BTreeMap<Sku, u32>, back: &OwnPath) -> Response {
    let cart = session.cart.get();
    let of_the_cart = if cart::is_empty(cart) {
        ""
    } else if cart::is_empty(brought) {
        " Your cart is as you left it."
    } else if cart == brought {
        " Your cart has come along."
    } else {
        " You had a cart here already: two carts are one now."
    };
    let greeting = format!("Welcome back, {}.{of_the_cart}", session.name.get());
    greet(session, greeting, back)
}

async fn register(
    State(accounts): State<Accounts>,
    mut session: Session<Shop>,
    sessions: Sessions,
    Form(form): Form<Credentials>,
) -> Result<Response, Failure> {
    if session.user().is_some() {
        return Ok(Redirect::to("/account").into_response());
    }
    let (name, password) = match form.read() {
        Ok(read) => read,
        Err(problem) => return Ok(once_more(&session, form, problem)),
    };
    let Some(user) = accounts.register(name, password).await? else {
        let text = "Somebody has that name already. If it is you, sign in instead.";
        return Ok(once_more(&session, form, Problem::Name(text)));
    };
    if !log_in(&accounts, &sessions, &mut session, user).await? {
        return Ok(not_that(&session, form));
    }
    let of_the_cart = if cart::is_empty(session.cart.get()) {
        ""
    } else {
        " Your cart is yours on every device now."
    };
    let greeting = format!("Welcome, {}.{of_the_cart}", session.name.get());
    Ok(greet(session, greeting, &form.back))
}

impl Credentials {
    /// A name and a password that a new account may have.
    fn read(&self) -> Result<(Name, Password), Problem> {
        let name = Name::parse(&self.name).map_err(Problem::Name)?;
        let password = Password::new(&self.password);
        match password.problem(&name) {
            Some(problem) => Err(Problem::Password(problem)),
            None => Ok((name, password)),
        }
    }
}

fn once_more(session: &Session<Shop>, form: Credentials, problem: Problem) -> Response {
    let page = Register {
        name: form.name,
        problem: Some(problem),
        ..Register::new(session, &form.back)
    };
    (StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)).into_response()
}

/// Logs in. The name is set before, so that it is written with the login.
///
/// `false` if the account was closed meanwhile. Whoever closes it later finds the session, and ends it.
async fn log_in(
    accounts: &Accounts,
    sessions: &Sessions,
    session: &mut Session<Shop>,
    user: User,
) -> Result<bool, Failure> {
    session.name.set(user.name);
    session.login(user.id).await?;
    if !accounts.is_open(user.id).await? {
        session.logout().await?;
        sessions.delete(user.id).await?;
        return Ok(false);
    }
    Ok(true)
}

fn greet(mut session: Session<Shop>, mut greeting: String, back: &OwnPath) -> Response {
    if let Some(text) = cart::left_on_the_shelf(session.cart.get()) {
        greeting.push(' ');
        greeting.push_str(&text);
    }
    session.notice.set(Notice::done(greeting));
    Redirect::to(back.as_str()).into_response()
}

pub(crate) async fn sign_out(mut session: Session<Shop>) -> Result<Redirect, Error> {
    session.logout().await?;
    Ok(Redirect::to("/signed-out"))
}

#[derive(Template)]
#[template(path = "signed-out.html")]
struct SignedOut {
    frame: Frame,
}

async fn signed_out(session: Session<Shop>) -> Response {
    page::show(&SignedOut {
        frame: Frame::of(&session, "/signed-out"),
    })
}
