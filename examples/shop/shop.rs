//! What the shop remembers of a visitor. This is all there is to its sessions: no locks, no clean-up, no merging.
//!
//! Fields with a rule such as `sum` follow the customer who signs in, to every device; the others stay with the browser.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use session_runtime::{Occasion, Session, Sides};

use crate::catalogue::Sku;
use crate::money::{Currency, Money};

/// The session. It is gone two weeks after its last use; what follows a customer is kept.
#[derive(Session)]
#[session(ttl = "14 days", absolute = "90 days")]
pub(crate) struct Shop {
    /// How many of what. Two tabs that add at once both count, and so do a guest's cart and the account's at a login.
    #[merge(sum)]
    pub(crate) cart: BTreeMap<Sku, u32>,

    /// What prices are shown in. An account's choice counts for more than a guest's.
    #[merge(user)]
    pub(crate) currency: Option<Currency>,

    /// What was looked at, the latest first.
    #[merge(union)]
    pub(crate) seen: Vec<Sku>,

    /// Who is signed in, to greet them by name.
    pub(crate) name: String,

    /// How often a password was tried in vain. `guest` has a login forget it. Of tries at one moment `reject` lets one
    /// count and refuses the others, so that guessing in parallel is of no use.
    #[session(guest)]
    #[merge(reject, browser)]
    #[expire("15m")]
    pub(crate) tries: u32,

    /// Where an order is to go. Personal, so it does not lie about for two weeks. A flash, so that of two clicks on
    /// "Place the order" exactly one can claim it. It comes along at a login, whoever has put it there: the visitor sees it before
    /// they order, and what they order goes to the address that they saw.
    #[flash]
    #[expire("15m")]
    pub(crate) checkout: Option<Address>,

    /// The order just placed. It follows the customer as the cart does, so that both change in one commit.
    #[merge(with = standing)]
    #[expire("1h")]
    pub(crate) order: Option<Order>,

    /// Something to say on the next page, once.
    #[flash]
    pub(crate) notice: Option<Notice>,
}

/// Of two devices that order one cart at once, the first one's order stands. At a login, the one just placed here.
fn standing(sides: Sides<Option<Order>>) -> Option<Order> {
    let (ours, theirs) = (sides.ours.flatten(), sides.theirs.flatten());
    match sides.occasion {
        Occasion::Login => ours.or(theirs),
        _ => theirs.or(ours),
    }
}

/// Where an order goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) name: String,
    pub(crate) street: String,
    pub(crate) postcode: String,
    pub(crate) town: String,
    pub(crate) country: String,
}

/// What was ordered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: String,
    pub(crate) items: BTreeMap<Sku, u32>,
    pub(crate) total: Money,
    pub(crate) address: Address,
}

/// A sentence for the next page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Notice {
    pub(crate) text: String,
    /// It says that something could not be done.
    pub(crate) problem: bool,
}

impl Notice {
    pub(crate) fn done(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            problem: false,
        }
    }

    pub(crate) fn problem(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            problem: true,
        }
    }
}
