#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The pages that do not fit on the front page.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/users.md")]
    pub mod users {}

    #[doc = include_str!("../docs/stores.md")]
    #[cfg(any(
        doc,
        all(
            feature = "mysql",
            feature = "postgres",
            feature = "redis",
            feature = "sqlite",
            feature = "tower-sessions"
        )
    ))]
    pub mod stores {}

    #[doc = include_str!("../docs/guarantees.md")]
    pub mod guarantees {}

    #[doc = include_str!("../docs/ARCHITECTURE.md")]
    pub mod architecture {}

    #[doc = include_str!("../docs/DESIGN.md")]
    pub mod design {}
}

mod layer;
mod service;
mod sweep;

mod extract;
mod logged_in;
mod session;
mod sessions;
mod user_fields;

mod field;
mod schema;

mod layers;

mod request;

mod credit;
mod everybody;
mod login;
mod revoke;

mod amend;
mod queue;

mod config;
mod event;
mod health;
mod traffic;

mod plan;

pub mod transport;

#[cfg(feature = "tower-sessions")]
mod for_tower_sessions;

pub mod store;

mod merge;
mod row;

pub mod base64;

mod frame;
mod record;

mod canonical;
mod signature;

mod id;
mod key;
mod secret;

mod clock;
mod error;
mod observe;
mod task;

#[doc(hidden)]
pub mod private;

#[cfg(feature = "testing")]
pub mod testing;

pub use clock::{Clock, SystemClock, Timestamp};
pub use error::{DecodeError, Error};
pub use event::{Event, EventKind};
pub use field::{Field, Flash, SetFrom};
#[cfg(feature = "tower-sessions")]
pub use for_tower_sessions::ForTowerSessions;
pub use id::SessionId;
pub use key::{IntoUserId, Key, Selector, UserId};
pub use layer::SessionLayer;
pub use logged_in::{LoggedIn, NotLoggedIn};
pub use merge::{Append, Merge, Occasion, Sides, Sum, Union};
pub use plan::confirm::WhenFull;
pub use record::Ended;
pub use request::Saved;
pub use revoke::Device;
pub use schema::Schema;
pub use service::{ResponseFuture, SessionService};
pub use session::{FieldFacts, PassiveSession, Session};
pub use sessions::{Page, Sessions};
pub use user_fields::UserFields;

#[cfg(feature = "derive")]
pub use session_macros::Session;

#[cfg(feature = "derive")]
pub use session_macros::Merge;
