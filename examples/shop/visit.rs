//! What the session holds, told to the visitor whose session it is.

use askama::Template;
use axum::Router;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use session_runtime::{Error, PassiveSession, Session};

use crate::cart;
use crate::catalogue::Sku;
use crate::page::{self, Frame};
use crate::shop::Shop;
use crate::when::When;

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/session", get(visit))
        .route("/session/forget", post(forget))
        .route("/session/renew", post(renew))
        .route("/forgotten", get(forgotten))
}

#[derive(Template)]
#[template(path = "session.html")]
struct Visit {
    frame: Frame,
    stored: bool,
    created: Option<When>,
    updated: Option<When>,
    expires: Option<When>,
    fields: Vec<Row>,
}

/// One field of the session.
struct Row {
    name: &'static str,
    purpose: &'static str,
    /// What it holds, if anything.
    holds: Option<String>,
    lapses: Option<When>,
    lifetime: &'static str,
    /// What becomes of two values, in words and as declared.
    merge: &'static str,
    attributes: &'static [&'static str],
}

/// Passive: having a look does not extend what is looked at.
async fn visit(session: PassiveSession<Shop>) -> Response {
    page::show(&Visit {
        stored: !session.is_new(),
        created: session.created_at().map(When::new),
        updated: session.updated_at().map(When::new),
        expires: session.expires_at().map(When::new),
        fields: fields(&session),
        frame: Frame::of(&session, "/session"),
    })
}

/// Each field, those that follow whoever signs in first.
fn fields(session: &Session<Shop>) -> Vec<Row> {
    let mut fields = following(session);
    fields.extend(staying(session));
    fields
}

fn following(session: &Session<Shop>) -> Vec<Row> {
    let kept = if session.user().is_some() {
        "as long as your account, on every device"
    } else {
        "as long as the session"
    };
    vec![
        Row {
            name: "cart",
            purpose: "What you mean to buy",
            holds: session.cart.is_present().then(|| {
                let lines: Vec<_> = cart::things(session.cart.get())
                    .map(|(sku, quantity)| format!("{quantity} × {}", sku.as_str()))
                    .collect();
                if lines.is_empty() {
                    "nothing any more".to_owned()
                } else {
                    lines.join(", ")
                }
            }),
            lapses: session.cart.expires_at().map(When::new),
            lifetime: kept,
            merge: "quantities add up",
            attributes: &["#[merge(sum)]"],
        },
        Row {
            name: "currency",
            purpose: "What prices are shown in",
            holds: session
                .currency
                .get()
                .map(|currency| currency.code().to_owned()),
            lapses: session.currency.expires_at().map(When::new),
            lifetime: kept,
            merge: "the later choice wins",
            attributes: &["#[merge(user)]"],
        },
        Row {
            name: "seen",
            purpose: "What you have looked at",
            holds: session.seen.is_present().then(|| {
                let seen: Vec<_> = session.seen.get().iter().map(Sku::as_str).collect();
                seen.join(", ")
            }),
            lapses: session.seen.expires_at().map(When::new),
            lifetime: kept,
            merge: "both lists count",
            attributes: &["#[merge(union)]"],
        },
        Row {
            name: "order",
            purpose: "The order you have just placed",
            holds: session
                .order
                .get()
                .as_ref()
                .map(|order| order.number.clone()),
            lapses: session.order.expires_at().map(When::new),
            lifetime: "an hour",
            merge: "the earlier order stands",
            attributes: &["#[merge(with = standing)]", "#[expire(\"1h\")]"],
        },
    ]
}

fn staying(session: &Session<Shop>) -> Vec<Row> {
    vec![
        Row {
            name: "checkout",
            purpose: "Where your order is to go",
            holds: session
                .checkout
                .peek()
                .as_ref()
                .map(|address| format!("{}, {}", address.name, address.town)),
            lapses: session.checkout.expires_at().map(When::new),
            lifetime: "15 minutes, or until the order is placed",
            merge: "one order at most gets it",
            attributes: &["#[flash]", "#[expire(\"15m\")]"],
        },
        Row {
            name: "notice",
            purpose: "Something to say on the next page",
            holds: session
                .notice
                .peek()
                .as_ref()
                .map(|notice| notice.text.clone()),
            lapses: session.notice.expires_at().map(When::new),
            lifetime: "until it has been shown once",
            merge: "the later one is shown",
            attributes: &["#[flash]"],
        },
        Row {
            name: "name",
            purpose: "Who is signed in",
            holds: session
                .name
                .is_present()
                .then(|| session.name.get().clone()),
            lapses: session.name.expires_at().map(When::new),
            lifetime: "until you sign out",
            merge: "the later one is shown",
            attributes: &["(no rule)"],
        },
        Row {
            name: "tries",
            purpose: "Passwords tried in vain",
            holds: session
                .tries
                .is_present()
                .then(|| session.tries.get().to_string()),
            lapses: session.tries.expires_at().map(When::new),
            lifetime: "15 minutes after the first, or until one fits",
            merge: "one counts, the other is refused",
            attributes: &[
                "#[session(guest)]",
                "#[merge(reject, browser)]",
                "#[expire(\"15m\")]",
            ],
        },
    ]
}

async fn forget(mut session: Session<Shop>) -> Result<Redirect, Error> {
    session.delete("you asked us to forget you").await?;
    Ok(Redirect::to("/forgotten"))
}

/// A new session in place of the one that has ended, so that its end is not explained again.
async fn renew(mut session: Session<Shop>) -> Redirect {
    let currency = page::currency(&session);
    session.currency.set(Some(currency));
    Redirect::to("/")
}

#[derive(Template)]
#[template(path = "forgotten.html")]
struct Forgotten {
    frame: Frame,
}

async fn forgotten(session: Session<Shop>) -> Response {
    page::show(&Forgotten {
        frame: Frame::of(&session, "/forgotten"),
    })
}
