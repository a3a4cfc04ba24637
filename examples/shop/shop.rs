//! What the shop remembers of a visitor. This is all there is to its sessions: no locks, no clean-up, no merging.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use session_runtime::Session;

use crate::catalogue::Sku;
use crate::money::{Currency, Money};

/// The session. Without a login it belongs to a browser, and is gone two weeks after its last use.
#[derive(Session)]
#[session(ttl = "14 days", absolute = "90 days")]
pub(crate) struct Shop {
    /// How many of what. Two tabs that add at once both count.
    #[merge(sum)]
    pub(crate) cart: BTreeMap<Sku, u32>,

    /// What prices are shown in.
    #[merge(user)]
    pub(crate) currency: Option<Currency>,

    /// What was looked at, the latest first.
    #[merge(union)]
    pub(crate) seen: Vec<Sku>,

    /// Where an order is to go. Personal, so it does not lie about for two weeks. A flash, so that of two clicks on
    /// "Place the order" exactly one can claim it.
    #[flash]
    #[expire("15m")]
    pub(crate) checkout: Option<Address>,

    /// The order just placed.
    #[expire("1h")]
    pub(crate) order: Option<Order>,

    /// Something to say on the next page, once.
    #[flash]
    pub(crate) notice: Option<Notice>,
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
