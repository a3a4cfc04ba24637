//! From a cart to an order: the address, a last look, and thanks.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use askama::Template;
use axum::Router;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use session_runtime::{Error, Saved, Session};

use crate::cart::{self, Bill};
use crate::page::{self, Frame};
use crate::shop::{Address, Notice, Order, Shop};
use crate::when::When;

/// How long an address is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patience(Option<Duration>);

impl Patience {
    /// Another lifetime than the session declares.
    pub(crate) fn of(lifetime: Duration) -> Self {
        Self(Some(lifetime))
    }

    fn words(self) -> String {
        page::minutes(self.0.unwrap_or(Duration::from_secs(15 * 60)))
    }
}

/// No line of an address is longer, in characters.
const LONGEST: usize = 80;

const COUNTRIES: [&str; 8] = [
    "Austria",
    "France",
    "Germany",
    "Ireland",
    "Japan",
    "Switzerland",
    "United Kingdom",
    "United States",
];

pub(crate) fn routes(patience: Patience) -> Router {
    Router::new()
        .route("/checkout", get(ask).post(answer))
        .route("/checkout/review", get(review))
        .route("/checkout/place", post(place))
        .route("/order", get(order))
        .with_state(patience)
}

#[derive(Template)]
#[template(path = "checkout.html")]
struct Ask {
    frame: Frame,
    bill: Bill,
    address: Address,
    problems: BTreeMap<&'static str, &'static str>,
    countries: [&'static str; 8],
    longest: usize,
    patience: String,
}

impl Ask {
    fn new(session: &Session<Shop>, address: Address, patience: Patience) -> Self {
        let frame = Frame::of(session, "/checkout");
        Self {
            bill: Bill::of(session.cart.get(), frame.currency),
            frame,
            address,
            problems: BTreeMap::new(),
            countries: COUNTRIES,
            longest: LONGEST,
            patience: patience.words(),
        }
    }

    fn problem(&self, field: &str) -> Option<&&'static str> {
        self.problems.get(field)
    }
}

async fn ask(State(patience): State<Patience>, session: Session<Shop>) -> Response {
    if cart::is_empty(session.cart.get()) {
        return nothing_yet(session);
    }
    let address = session.checkout.peek().clone().unwrap_or_default();
    page::show(&Ask::new(&session, address, patience))
}

fn nothing_yet(mut session: Session<Shop>) -> Response {
    let text = "Your cart is empty, so there is nothing to check out yet.";
    session.notice.set(Notice::problem(text));
    Redirect::to("/cart").into_response()
}

async fn answer(
    State(patience): State<Patience>,
    mut session: Session<Shop>,
    Form(address): Form<Address>,
) -> Response {
    if cart::is_empty(session.cart.get()) {
        return nothing_yet(session);
    }
    let address = address.trimmed();
    let problems = problems(&address);
    if !problems.is_empty() {
        let page = Ask {
            problems,
            ..Ask::new(&session, address, patience)
        };
        return (StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)).into_response();
    }
    keep(&mut session, address, patience);
    Redirect::to("/checkout/review").into_response()
}

fn keep(session: &mut Session<Shop>, address: Address, patience: Patience) {
    session.checkout.set(address);
    if let Patience(Some(lifetime)) = patience {
        session.checkout.expire_in(lifetime);
    }
}

impl Address {
    fn trimmed(self) -> Self {
        let trim = |text: String| text.trim().to_owned();
        Self {
            name: trim(self.name),
            street: trim(self.street),
            postcode: trim(self.postcode),
            town: trim(self.town),
            country: trim(self.country),
        }
    }

    fn in_one_line(&self) -> String {
        let Self {
            name,
            street,
            postcode,
            town,
            country,
        } = self;
        format!("{name}, {street}, {postcode} {town}, {country}")
    }
}

/// Says what is wrong with an address, by field.
fn problems(address: &Address) -> BTreeMap<&'static str, &'static str> {
    let lines = [
        ("name", &address.name, "Who is it for?"),
        ("street", &address.street, "Which street, and which number?"),
        ("postcode", &address.postcode, "The postcode is missing."),
        ("town", &address.town, "Which town?"),
    ];
    let mut problems = BTreeMap::new();
    for (field, text, question) in lines {
        if text.is_empty() {
            problems.insert(field, question);
        } else if text.chars().count() > LONGEST {
            problems.insert(field, "That does not fit on a label. Can you shorten it?");
        }
    }
    if !COUNTRIES.contains(&address.country.as_str()) {
        problems.insert("country", "We do not send things there, sorry.");
    }
    problems
}

#[derive(Template)]
#[template(path = "review.html")]
struct Review {
    frame: Frame,
    bill: Bill,
    address: Address,
    until: Option<When>,
}

async fn review(State(patience): State<Patience>, session: Session<Shop>) -> Response {
    if cart::is_empty(session.cart.get()) {
        return nothing_yet(session);
    }
    let Some(address) = session.checkout.peek().clone() else {
        return lapsed(&session, patience);
    };
    let frame = Frame::of(&session, "/checkout/review");
    page::show(&Review {
        bill: Bill::of(session.cart.get(), frame.currency),
        frame,
        address,
        until: session.checkout.expires_at().map(When::new),
    })
}

#[derive(Template)]
#[template(path = "lapsed.html")]
struct Lapsed {
    frame: Frame,
    patience: String,
    ordered: bool,
}

/// There is no address any more, or never was one.
fn lapsed(session: &Session<Shop>, patience: Patience) -> Response {
    let page = Lapsed {
        frame: Frame::of(session, "/checkout/review"),
        patience: patience.words(),
        ordered: session.order.is_present(),
    };
    (StatusCode::GONE, page::show(&page)).into_response()
}

/// What the visitor saw when they pressed the button.
#[derive(Deserialize)]
struct Agreed {
    total: String,
    /// The address, in one line.
    to: String,
}

async fn place(
    State(patience): State<Patience>,
    mut session: Session<Shop>,
    Form(agreed): Form<Agreed>,
) -> Result<Response, Error> {
    if cart::is_empty(session.cart.get()) {
        return Ok(Redirect::to("/order").into_response());
    }
    let total = Bill::of(session.cart.get(), page::currency(&session)).total;
    if total.to_string() != agreed.total {
        return Ok(look_again(session, "Your cart has changed meanwhile."));
    }
    // Of two clicks on the button, exactly one gets the address.
    let Some(address) = session.checkout.claim().await?.flatten() else {
        return Ok(lapsed(&session, patience));
    };
    if address.in_one_line() != agreed.to {
        keep(&mut session, address, patience);
        return Ok(look_again(session, "The address has changed meanwhile."));
    }
    let cart = session.cart.take();
    let items = cart::things(&cart).map(|(sku, quantity)| (sku.clone(), quantity));
    let number = order_number();
    session.order.set(Some(Order {
        number: number.clone(),
        items: items.collect(),
        total,
        address,
    }));
    // Of two devices of one customer, exactly one gets the cart.
    if session.save().await? == Saved::Ended {
        // Signed out meanwhile: nothing is ordered.
        return Ok(Redirect::to("/cart").into_response());
    }
    if session
        .order
        .get()
        .as_ref()
        .is_some_and(|order| order.number != number)
    {
        let text = "You have just ordered this cart from another device. Here is that order.";
        session.notice.set(Notice::problem(text));
    }
    Ok(Redirect::to("/order").into_response())
}

/// Another tab has changed what the visitor saw.
fn look_again(mut session: Session<Shop>, change: &str) -> Response {
    let text = format!("{change} Please look again before you order.");
    session.notice.set(Notice::problem(text));
    Redirect::to("/checkout/review").into_response()
}

/// Good enough to be read out on the telephone, and says nothing of how many orders there are.
fn order_number() -> String {
    let random = RandomState::new().hash_one(SystemTime::now());
    format!("SM-{:04}-{:04}", random / 10_000 % 10_000, random % 10_000)
}

#[derive(Template)]
#[template(path = "order.html")]
struct Thanks {
    frame: Frame,
    bill: Bill,
    order: Order,
}

async fn order(mut session: Session<Shop>) -> Response {
    let Some(order) = session.order.get().clone() else {
        let text = "There is no recent order. We show an order for an hour.";
        session.notice.set(Notice::problem(text));
        return Redirect::to("/cart").into_response();
    };
    page::show(&Thanks {
        frame: Frame::of(&session, "/order"),
        bill: Bill::of(&order.items, order.total.currency),
        order,
    })
}
