//! The stylesheet and the pictures, carried within the binary.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const STYLE: &str = include_str!("style.css");

/// Each picture by its name: the products', and the shop's own.
const ART: [(&str, &str); 11] = [
    (
        "beacon-candlestick.svg",
        include_str!("art/beacon-candlestick.svg"),
    ),
    (
        "driftwood-board.svg",
        include_str!("art/driftwood-board.svg"),
    ),
    ("estuary-carafe.svg", include_str!("art/estuary-carafe.svg")),
    ("harbour-lamp.svg", include_str!("art/harbour-lamp.svg")),
    ("heron-teapot.svg", include_str!("art/heron-teapot.svg")),
    ("horizon-plate.svg", include_str!("art/horizon-plate.svg")),
    ("marsh.svg", include_str!("art/marsh.svg")),
    ("mark.svg", include_str!("art/mark.svg")),
    ("mudflat-bowl.svg", include_str!("art/mudflat-bowl.svg")),
    ("samphire-vase.svg", include_str!("art/samphire-vase.svg")),
    ("tide-mug.svg", include_str!("art/tide-mug.svg")),
];

pub(crate) fn routes() -> Router {
    Router::new()
        .route(
            "/style.css",
            get(async || asset("text/css; charset=utf-8", STYLE)),
        )
        .route("/art/{name}", get(picture))
}

async fn picture(Path(name): Path<String>) -> Response {
    match ART.iter().find(|(known, _)| *known == name) {
        Some((_, svg)) => asset("image/svg+xml", svg),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    (
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=300")],
        text,
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::ART;
    use crate::catalogue::PRODUCTS;

    #[test]
    fn every_product_has_its_picture() {
        for product in &PRODUCTS {
            let name = format!("{}.svg", product.sku);
            assert!(ART.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
