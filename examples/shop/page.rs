//! What each page has around its own part.

use std::time::Duration;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use serde::de::{Deserialize, Deserializer, Error};
use session_runtime::{Ended, Session};

use crate::cart;
use crate::catalogue::Product;
use crate::money::{Currency, Money};
use crate::shop::{Notice, Shop};

/// The frame: how full the cart is, which currency is chosen, and what there is to say.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The page's own address, where choosing a currency leads back to.
    pub(crate) here: String,
    pub(crate) items: u32,
    pub(crate) currency: Currency,
    pub(crate) currencies: [Currency; 5],
    /// Who is signed in.
    pub(crate) name: Option<String>,
    pub(crate) notice: Option<Notice>,
    pub(crate) ended: Option<String>,
}

impl Frame {
    /// Reads the notice, which uses it up: whatever page is shown next says it, and no other.
    pub(crate) fn of(session: &Session<Shop>, here: impl Into<String>) -> Self {
        let things = cart::things(session.cart.get());
        Self {
            here: here.into(),
            items: things.map(|(_, quantity)| quantity).sum(),
            currency: currency(session),
            currencies: Currency::ALL,
            name: session.user().map(|_| session.name.get().clone()),
            notice: session.notice.get().clone(),
            ended: session.ended().as_ref().map(explain),
        }
    }

    /// Returns `true` if signing in is to lead back to this page.
    pub(crate) fn leads_back(&self) -> bool {
        !["/sign-in", "/register", "/signed-out", "/forgotten"].contains(&self.here.as_str())
    }

    pub(crate) fn price(&self, product: &Product) -> Money {
        product.price.to(self.currency)
    }
}

/// The currency of choice.
pub(crate) fn currency(session: &Session<Shop>) -> Currency {
    session.currency.get().unwrap_or_default()
}

/// Says why the visitor's session is gone, in the shop's words.
fn explain(ended: &Ended) -> String {
    match ended {
        Ended::Expired => {
            "We no longer have your cart: a guest's keeps for two weeks after the last visit. An account's is there \
             once you sign in."
                .to_owned()
        }
        Ended::Deleted(reason) => format!("Your last visit has ended: {reason}."),
        Ended::Revoked => "You have been signed out from another device.".to_owned(),
        Ended::LoggedIn => "You have just signed in. Please load this page again.".to_owned(),
        Ended::LoggedOut => "You have signed out.".to_owned(),
        Ended::AddressDiffers | Ended::UserAgentDiffers => {
            "Your session was opened from somewhere else, so we have closed it to be safe."
                .to_owned()
        }
        Ended::Malformed => "Your browser sent a session that is none of ours.".to_owned(),
        _ => "Your last session has ended.".to_owned(),
    }
}

/// An address within this shop, so that no form and no link can lead a visitor elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct OwnPath(String);

impl OwnPath {
    pub(crate) fn cart() -> Self {
        Self("/cart".to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for OwnPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = String::deserialize(deserializer)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-".contains(&byte);
        if path.starts_with('/') && !path.starts_with("//") && path.bytes().all(plain) {
            Ok(Self(path))
        } else {
            Err(Error::custom("not a page of this shop"))
        }
    }
}

/// A template as a response.
pub(crate) fn show(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A round duration in words, for texts.
pub(crate) fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 60 == 0 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::OwnPath;
    use serde::Deserialize;
    use serde::de::value::{Error, StrDeserializer};

    #[test]
    fn forms_lead_back_into_the_shop_only() {
        let own = |path| OwnPath::deserialize(StrDeserializer::<Error>::new(path)).is_ok();
        assert!(own("/") && own("/things/tide-mug"));
        for foreign in ["", "x", "//x.org", "/\\x.org", "https://x.org", "/a\r\nb"] {
            assert!(!own(foreign), "{foreign}");
        }
    }
}
