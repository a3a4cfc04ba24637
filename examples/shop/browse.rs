//! The shelf, and each thing on it.

use askama::Template;
use axum::Router;
use axum::extract::{Form, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use session_runtime::Session;

use crate::catalogue::{self, PRODUCTS, Product, Sku};
use crate::money::Currency;
use crate::page::{self, Frame, OwnPath};
use crate::shop::Shop;

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/", get(shelf))
        .route("/things/{sku}", get(thing))
        .route("/currency", post(choose_currency))
}

#[derive(Template)]
#[template(path = "shelf.html")]
struct Shelf {
    frame: Frame,
    products: &'static [Product],
    seen: Vec<&'static Product>,
}

async fn shelf(session: Session<Shop>) -> Response {
    page::show(&Shelf {
        frame: Frame::of(&session, "/"),
        products: &PRODUCTS,
        seen: seen(&session, None),
    })
}

#[derive(Template)]
#[template(path = "thing.html")]
struct Thing {
    frame: Frame,
    product: &'static Product,
    seen: Vec<&'static Product>,
}

async fn thing(Path(sku): Path<Sku>, mut session: Session<Shop>) -> Response {
    let Some(product) = catalogue::find(&sku) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let page = Thing {
        frame: Frame::of(&session, format!("/things/{}", product.sku)),
        product,
        seen: seen(&session, Some(product)),
    };
    // Who only looks around gets no session, and no cookie.
    if !session.is_new() {
        let seen = session.seen.get_mut();
        seen.retain(|other| *other != sku);
        seen.insert(0, sku);
        seen.truncate(5);
    }
    page::show(&page)
}

/// Returns what the visitor has looked at before, but for what is shown now.
fn seen(session: &Session<Shop>, but: Option<&Product>) -> Vec<&'static Product> {
    let seen = session.seen.get().iter().filter_map(catalogue::find);
    seen.filter(|product| but.is_none_or(|but| but.sku != product.sku))
        .take(4)
        .collect()
}

#[derive(Deserialize)]
struct Choice {
    currency: Currency,
    back: OwnPath,
}

async fn choose_currency(mut session: Session<Shop>, Form(choice): Form<Choice>) -> Redirect {
    session.currency.set(Some(choice.currency));
    Redirect::to(choice.back.as_str())
}
