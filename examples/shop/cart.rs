//! The cart.

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::extract::Form;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use session_runtime::Session;

use crate::catalogue::{self, Product, Sku};
use crate::money::{Currency, Money, Price};
use crate::page::{self, Frame};
use crate::shop::{Notice, Shop};

/// Nobody is sold more than so many of one thing.
pub(crate) const MOST: u32 = 99;

const POSTAGE: Price = Price(650);
const FREE_POSTAGE_FROM: Price = Price::euros(100);

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/cart", get(cart))
        .route("/cart/add", post(add))
        .route("/cart/set", post(set))
        .route("/cart/remove", post(remove))
}

/// What a cart comes to.
#[derive(Debug)]
pub(crate) struct Bill {
    pub(crate) lines: Vec<Line>,
    pub(crate) goods: Money,
    pub(crate) postage: Money,
    pub(crate) total: Money,
    /// What is missing for free postage; nothing if it is free.
    pub(crate) until_free: Option<Money>,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) product: &'static Product,
    pub(crate) quantity: u32,
    pub(crate) each: Money,
    pub(crate) sum: Money,
}

/// Returns what there is in a cart that is still sold. Between them, two tabs may have brought a thing down to nothing, and two carts
/// that became one may hold more of it than is sold: neither is put right in the cart itself, where two devices that do so at once
/// would both count.
pub(crate) fn things(cart: &BTreeMap<Sku, u32>) -> impl Iterator<Item = (&Sku, u32)> {
    let there = cart.iter().filter(|(_, quantity)| **quantity > 0);
    let sold = there.filter(|(sku, _)| catalogue::find(sku).is_some());
    sold.map(|(sku, quantity)| (sku, MOST.min(*quantity)))
}

pub(crate) fn is_empty(cart: &BTreeMap<Sku, u32>) -> bool {
    things(cart).next().is_none()
}

/// Says so if a cart holds more of a thing than is sold.
pub(crate) fn left_on_the_shelf(cart: &BTreeMap<Sku, u32>) -> Option<String> {
    let too_many = cart.values().any(|quantity| *quantity > MOST);
    too_many.then(|| {
        format!(
            "We can pack {MOST} of one thing for one customer, so some of it has stayed on the shelf."
        )
    })
}

impl Bill {
    pub(crate) fn of(cart: &BTreeMap<Sku, u32>, currency: Currency) -> Self {
        let sold =
            things(cart).filter_map(|(sku, quantity)| Some((catalogue::find(sku)?, quantity)));
        let lines: Vec<Line> = sold
            .map(|(product, quantity)| Line::of(product, quantity, currency))
            .collect();
        let nothing = Price(0).to(currency);
        let goods = lines
            .iter()
            .fold(nothing, |goods, line| goods.plus(line.sum));
        let free = FREE_POSTAGE_FROM.to(currency);
        let missing = free.minor.saturating_sub(goods.minor);
        let until_free = (missing > 0).then_some(Money {
            minor: missing,
            ..free
        });
        let postage = until_free.map_or(nothing, |_| POSTAGE.to(currency));
        Self {
            lines,
            goods,
            postage,
            total: goods.plus(postage),
            until_free,
        }
    }
}

impl Line {
    fn of(product: &'static Product, quantity: u32, currency: Currency) -> Self {
        let each = product.price.to(currency);
        Self {
            product,
            quantity,
            each,
            sum: each.times(quantity),
        }
    }
}

#[derive(Template)]
#[template(path = "cart.html")]
struct Cart {
    frame: Frame,
    bill: Bill,
    most: u32,
}

async fn cart(session: Session<Shop>) -> Response {
    let frame = Frame::of(&session, "/cart");
    let bill = Bill::of(session.cart.get(), frame.currency);
    page::show(&Cart {
        frame,
        bill,
        most: MOST,
    })
}

#[derive(Deserialize)]
struct Amount {
    sku: Sku,
    quantity: u32,
}

async fn add(mut session: Session<Shop>, Form(Amount { sku, quantity }): Form<Amount>) -> Response {
    let Some(product) = catalogue::find(&sku) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let held = session.cart.get().get(&sku).copied().unwrap_or(0);
    let name = product.name;
    if quantity == 0 {
        session.notice.set(Notice::problem(format!(
            "How many of the {name} shall it be?"
        )));
    } else if held.saturating_add(quantity) > MOST {
        session.notice.set(Notice::problem(too_many(product)));
    } else {
        *session.cart.get_mut().entry(sku).or_default() += quantity;
        session.notice.set(Notice::done(match quantity {
            1 => format!("{name}: one more in your cart."),
            _ => format!("{name}: {quantity} more in your cart."),
        }));
    }
    Redirect::to("/cart").into_response()
}

/// Sets how many there are to be. If two tabs do so at the same moment, both differences count.
async fn set(mut session: Session<Shop>, Form(Amount { sku, quantity }): Form<Amount>) -> Response {
    let Some(product) = catalogue::find(&sku) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let name = product.name;
    if quantity == 0 {
        session.cart.get_mut().remove(&sku);
        session
            .notice
            .set(Notice::done(format!("{name}: taken out of your cart.")));
    } else if quantity > MOST {
        session.notice.set(Notice::problem(too_many(product)));
    } else {
        session.cart.get_mut().insert(sku, quantity);
        session
            .notice
            .set(Notice::done(format!("{name}: {quantity} in your cart.")));
    }
    Redirect::to("/cart").into_response()
}

fn too_many(product: &Product) -> String {
    format!(
        "{}: we can pack {MOST} for one customer, and not more.",
        product.name
    )
}

#[derive(Deserialize)]
struct Item {
    sku: Sku,
}

async fn remove(mut session: Session<Shop>, Form(Item { sku }): Form<Item>) -> Redirect {
    if session.cart.get_mut().remove(&sku).is_some() {
        let name = catalogue::find(&sku).map_or("It", |product| product.name);
        session
            .notice
            .set(Notice::done(format!("{name}: taken out of your cart.")));
    }
    Redirect::to("/cart")
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, StrDeserializer};

    use super::*;
    use crate::catalogue::PRODUCTS;

    fn bill(quantity: u32) -> Bill {
        let mug = PRODUCTS
            .iter()
            .find(|product| product.sku == "tide-mug")
            .unwrap();
        Bill::of(&BTreeMap::from([(mug.sku(), quantity)]), Currency::Eur)
    }

    #[test]
    fn what_cannot_be_sold_is_not_on_the_bill() {
        assert_eq!(bill(99).total, bill(100).total);
        assert_eq!(bill(120).lines[0].quantity, MOST);
        assert!(bill(0).lines.is_empty());
        assert!(is_empty(&BTreeMap::from([(PRODUCTS[0].sku(), 0)])));
        // Taken off the shelf since: there is nothing to check out, nor to count.
        let withdrawn = Sku::deserialize(StrDeserializer::<Error>::new("gold-bar")).unwrap();
        assert!(is_empty(&BTreeMap::from([(withdrawn, 1)])));
    }

    #[test]
    fn postage_is_free_from_a_hundred_euros() {
        let five = bill(5);
        assert_eq!(five.until_free.unwrap().to_string(), "€10.00");
        assert_eq!(five.total.to_string(), "€96.50");
        let six = bill(6);
        assert_eq!(six.until_free, None);
        assert_eq!(six.total.to_string(), "€108.00");
    }
}
